"""Questions that choose among the objects or look at all of them, in the phrase book's words.

For training alone; no held-out question samples from here.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from small_world.called import AT_SIDE, LINES, called
from small_world.language import NUMBERS, look_words, plural
from small_world.phrases import phrase
from small_world.questions import Question, cell_of, fitting, yes_no
from small_world.wordings import color_word
from small_world.world import COLORS, SHAPES, SIZES, Object, Scene

TRAITS = ("color", "shape", "size")
# comparative, superlative, and the number that is largest of what is meant
MORE = (
    ("bigger", "biggest", lambda o: o.size == "big"),
    ("larger", "largest", lambda o: o.size == "big"),
    ("smaller", "smallest", lambda o: o.size == "small"),
    ("further left", "leftmost", lambda o: -o.col),
    ("further right", "rightmost", lambda o: o.col),
    ("higher up", "highest", lambda o: -o.row),
    ("lower down", "lowest", lambda o: o.row),
)
# words of a name that would give the answer away
TELLING = ("big", "large", "huge", "giant", "small", "little", "tiny", "left", "right", "top",
           "bottom", "upper", "lower")  # fmt: skip


def said(rng: random.Random, kind: str, **words: str) -> str:
    return phrase(rng, "questions", kind, **words)[0].replace("crosss", "crosses")


def naming(text: str, thing: Object) -> Question:
    """The answer is an object's look."""
    return Question(text, look_words(thing), cell_of(thing))


def foremost(rng: random.Random, things: list[Object]) -> tuple[tuple[str, str], Object] | None:
    """Something by which one of them stands before all others, and that one."""
    more, most, rank = rng.choice(MORE)
    first, second = sorted(things, key=rank, reverse=True)[:2]
    return ((more, most), first) if rank(first) > rank(second) else None


def choose_of(rng: random.Random, scene: Scene) -> Question | None:
    """ "which is bigger, the star or the ring?"."""
    if len(scene.objects) < 2:
        return None
    pair = rng.sample(scene.objects, 2)
    found = foremost(rng, pair)
    names = [called(rng, scene, thing) for thing in pair]
    if found is None or any(word in " ".join(names) for word in TELLING):
        return None
    (more, _), thing = found
    return naming(said(rng, "choose_of", it=names[0], other=names[1], more=more), thing)


def choose_of_all(rng: random.Random, scene: Scene) -> Question | None:
    found = foremost(rng, list(scene.objects)) if len(scene.objects) > 1 else None
    if found is None:
        return None
    (more, most), thing = found
    if len(scene.objects) > 2:
        return naming(said(rng, "choose_of_all", most=most), thing)
    return naming(said(rng, "choose_of_all", **rng.choice(({"more": more}, {"most": most}))), thing)


def shared(scene: Scene, trait: str) -> tuple[str, list[Object]] | None:
    """What more than one of the objects have in common, and which those are."""
    (value, number), *_ = Counter(getattr(o, trait) for o in scene.objects).most_common()
    return (value, [o for o in scene.objects if getattr(o, trait) == value]) if number > 1 else None


def twice(rng: random.Random, scene: Scene) -> Question | None:
    trait = rng.choice(TRAITS)
    found = shared(scene, trait)
    if found is None or len(found[1]) != 2:
        return None
    return Question(said(rng, "twice", trait=trait), found[0], cell_of(found[1][0]))


def how_many_traits(rng: random.Random, scene: Scene) -> Question:
    """Counted are the first objects of each colour, shape or size."""
    trait = rng.choice(TRAITS)
    firsts = {getattr(o, trait): cell_of(o) for o in reversed(scene.objects)}
    text = said(rng, "how_many_traits", traits=f"{trait}s")
    return Question(text, NUMBERS[len(firsts)], counted=tuple(sorted(firsts.values())))


def count_not(rng: random.Random, scene: Scene) -> Question:
    trait = rng.choice(TRAITS)
    known = {"color": tuple(COLORS), "shape": SHAPES, "size": tuple(SIZES)}[trait]
    value = rng.choice([getattr(rng.choice(scene.objects), trait)] * 3 + [rng.choice(known)])
    others = tuple(cell_of(o) for o in scene.objects if getattr(o, trait) != value)
    if trait == "shape":
        text = said(rng, "count_not_shape", shape=value)
    else:
        text = said(rng, "count_not", how=value)
    return Question(text, NUMBERS[len(others)], counted=others)


def between_them(rng: random.Random, scene: Scene) -> Question | None:
    """What is between two others, in a row, in a column or across."""
    for middle in scene.objects:
        others = [o for o in scene.objects if o is not middle]
        if len(others) != 2:
            return None
        a, b = others
        if (a.row + b.row, a.col + b.col) == (2 * middle.row, 2 * middle.col):
            names = [called(rng, scene, o) for o in rng.sample(others, 2)]
            return naming(said(rng, "between_them", it=names[0], other=names[1]), middle)
    return None


def between_color(rng: random.Random, scene: Scene) -> Question | None:
    """The colour of what is between two others."""
    found = between_them(rng, scene)
    if found is None:
        return None
    middle = next(o for o in scene.objects if cell_of(o) == found.about)
    names = [called(rng, scene, o) for o in scene.objects if o is not middle]
    text = said(rng, "between_color", it=names[0], other=names[1])
    return Question(text, middle.color, cell_of(middle))


def only_not(rng: random.Random, scene: Scene) -> Question | None:
    """ "which is the only one that is not red?"."""
    trait = rng.choice(("color", "size"))
    found = shared(scene, trait) if len(scene.objects) == 3 else None
    if found is None or len(found[1]) != 2:
        return None
    (odd,) = [o for o in scene.objects if o not in found[1]]
    return naming(said(rng, "only_not", how=found[0]), odd)


def anything_size(rng: random.Random, scene: Scene) -> Question:
    size = rng.choice(tuple(SIZES))
    found = tuple(cell_of(o) for o in scene.objects if o.size == size)
    return yes_no(said(rng, "anything_size", size=size), bool(found), counted=found)


def count_line(rng: random.Random, scene: Scene) -> Question:
    """How many are at the top, in the middle column, ..."""
    axis, number, name = rng.choice(LINES)
    found = tuple(cell_of(o) for o in scene.objects if getattr(o, axis) == number)
    place = rng.choice((f"in the {name}", AT_SIDE.get(name, f"in the {name}")))
    text = said(rng, "count_line", place=place)
    return Question(text, NUMBERS[len(found)], counted=found)


def two_same(rng: random.Random, scene: Scene) -> Question | None:
    trait = rng.choice(TRAITS)
    if len(scene.objects) < 2:
        return None
    found = shared(scene, trait)
    cells = tuple(map(cell_of, found[1])) if found else ()
    return yes_no(said(rng, "two_same", trait=trait), bool(found), counted=cells)


def all_same(rng: random.Random, scene: Scene) -> Question | None:
    trait = rng.choice(TRAITS)
    if len(scene.objects) < 2:
        return None
    found = shared(scene, trait)
    truth = found is not None and len(found[1]) == len(scene.objects)
    return yes_no(said(rng, "all_same", trait=trait), truth, counted=fitting(scene) * truth)


def all_differ(rng: random.Random, scene: Scene) -> Question | None:
    trait = rng.choice(TRAITS)
    if len(scene.objects) < 2:
        return None
    found = shared(scene, trait)
    denying = tuple(map(cell_of, found[1])) if found else ()
    return yes_no(said(rng, "all_differ", trait=trait), not found, counted=denying)


def anything_color(rng: random.Random, scene: Scene) -> Question:
    color = rng.choice((rng.choice(scene.objects).color, rng.choice(tuple(COLORS))))
    found = fitting(scene, color)
    text = said(rng, "anything_color", color=color_word(rng, color))
    return yes_no(text, bool(found), counted=found)


def which_color(rng: random.Random, scene: Scene) -> Question | None:
    thing = rng.choice(scene.objects)
    if len(fitting(scene, thing.color)) > 1:
        return None
    return naming(said(rng, "which_color", color=color_word(rng, thing.color)), thing)


def more_than(rng: random.Random, scene: Scene) -> Question | None:
    """Of two shapes, or of two colours."""
    if rng.random() < 0.6:
        shape = rng.choice(scene.objects).shape
        others = {o.shape for o in scene.objects} - {shape} or set(SHAPES) - {shape}
        pair = [shape, rng.choice(sorted(others))]
        groups = [(plural(s), fitting(scene, shape=s)) for s in pair]
    else:
        color = rng.choice(scene.objects).color
        others = {o.color for o in scene.objects} - {color} or set(COLORS) - {color}
        pair = [color, rng.choice(sorted(others))]
        groups = [(f"{c} things", fitting(scene, c)) for c in pair]
    (things, some), (others_said, fewer) = rng.sample(groups, 2)
    text = said(rng, "more_than", things=things, others=others_said)
    truth = len(some) > len(fewer)
    return yes_no(text, truth, counted=some if truth else ())


def in_line(rng: random.Random, scene: Scene) -> Question | None:
    axis, number, name = rng.choice(LINES)
    found = [o for o in scene.objects if getattr(o, axis) == number]
    if len(found) > 1 or (not found and rng.random() < 0.6):
        return None
    text = said(rng, "in_line", line=f"the {name}")
    return naming(text, found[0]) if found else Question(text, "nothing")


def odd_one(rng: random.Random, scene: Scene) -> Question | None:
    trait = rng.choice(TRAITS)
    found = shared(scene, trait) if len(scene.objects) == 3 else None
    if found is None or len(found[1]) != 2:
        return None
    (odd,) = [o for o in scene.objects if o not in found[1]]
    return naming(said(rng, "odd_one", trait=trait), odd)


def same_as(rng: random.Random, scene: Scene) -> Question | None:
    trait = rng.choice(TRAITS)
    found = shared(scene, trait) if len(scene.objects) > 1 else None
    if found is None or len(found[1]) != 2:
        return None
    thing, other = rng.sample(found[1], 2)
    return naming(said(rng, "same_as", it=called(rng, scene, thing), trait=trait), other)


CHOICES: dict[Callable[[random.Random, Scene], Question | None], float] = {
    choose_of: 6, choose_of_all: 4, twice: 2, how_many_traits: 5, count_not: 3,
    between_them: 4, two_same: 5, all_same: 3, all_differ: 2, anything_color: 3,
    which_color: 2, more_than: 5, in_line: 2, odd_one: 1.5, same_as: 2.5, between_color: 3,
    only_not: 3, anything_size: 2.5, count_line: 4,
}  # fmt: skip


def in_a_line(rng: random.Random, scene: Scene) -> Scene:
    """Three objects, one of them between the two others."""
    (a, b, c), row, col = scene.objects, rng.randrange(3), rng.randrange(3)
    cells = rng.choice(
        (
            [(row, 0), (row, 1), (row, 2)],
            [(0, col), (1, col), (2, col)],
            [(0, 0), (1, 1), (2, 2)],
            [(0, 2), (1, 1), (2, 0)],
        )
    )
    things = (replace(o, row=r, col=c) for o, (r, c) in zip((a, b, c), cells, strict=True))
    return scene.with_objects(tuple(things))
