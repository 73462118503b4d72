"""Captions whose words belong together across the sentence: "two stars, one red, one blue".

For training alone; the benchmark's held-out captions do not sample from here.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.free_captions import Named, Parts, free_caption
from small_world.language import NUMBERS, Caption, ObjectWish, join_list, plural, with_article
from small_world.samples import Sample, caption_sample, dialogue_sample, user
from small_world.wordings import color_word, joined, noun_phrase, size_word
from small_world.world import SHAPES, Object, Scene, relations, sample_scene, split_of

ORDINALS = ("one", "the other", "the third")
ON_ITS_SIDE = {
    "left of": ("on its left", "at its left", "on the left of it", "to the left"),
    "right of": ("on its right", "at its right", "on the right of it", "to the right"),
    "above": ("on top", "just above it", "over its head", "above"),
    "below": ("just below it", "under it", "at its foot", "below"),
}
ROWS = {0: ("at the very top", "up", "in the top row"), 1: ("in the middle row",),
        2: ("at the very bottom", "down", "in the bottom row")}  # fmt: skip
COLUMNS = {0: ("on the left", "in the left column", "on the very left"), 1: ("in the middle",),
           2: ("on the right", "in the right column", "on the very right")}  # fmt: skip
ALL_OF_THEM = ("all {}", "all of them {}", "everything {}", "everything in {}", "all in {}",
               "each of them {}")  # fmt: skip


def with_looks(scene: Scene, **looks: str) -> Scene:
    """All its objects with that shape, colour or size."""
    return scene.with_objects(tuple(replace(thing, **looks) for thing in scene.objects))


def one_by_one(rng: random.Random, looks: list[str], noun: str) -> tuple[str, list[str]]:
    """ "one red, one blue": the text, and the words for each."""
    form = rng.randrange(5)
    if form == 0:
        words = [f"{rng.choice(('one', 'one is'))} {look}" for look in looks]
        return ": ".join(["", join_list(words)]), words
    if form == 1:
        words = [f"one {look}" for look in looks]
        return ", " + ", ".join(words), words
    if form == 2:
        words = [f"{with_article(look)} one" for look in looks]
        return rng.choice((", ", ": ")) + join_list(words), words
    if form == 3:
        words = [f"{o} is {look}" for o, look in zip(ORDINALS, looks, strict=False)]
        return ". " + join_list(words), words
    words = [f"{with_article(look)} {noun}" for look in looks]
    return ": " + join_list(words), words


def apart(rng: random.Random, scene: Scene) -> Parts:
    """Alike in shape, told apart by colour, size or both."""
    things = rng.sample(scene.objects, len(scene.objects))
    shape, count = things[0].shape, NUMBERS[len(things)]
    colors, sizes = {o.color for o in things}, {o.size for o in things}
    by_size = len(things) == 2 and len(sizes) == 2 and rng.random() < 0.5
    by_color = len(colors) == len(things) and (not by_size or rng.random() < 0.5)
    if not by_color and not by_size:
        by_color = True
    looks = []
    for thing in things:
        look = [size_word(rng, thing.size)] if by_size else []
        look += [color_word(rng, thing.color)] if by_color else []
        looks.append(" and ".join(look) if rng.random() < 0.5 else " ".join(look))
    shared = "" if by_color or len(colors) > 1 else f"{color_word(rng, things[0].color)} "
    text, words = one_by_one(rng, looks, shape)
    if not by_color and len(colors) > 1:  # the colours stay open
        colors_said = [None] * len(things)
    else:
        colors_said = [o.color for o in things]
    wishes = [
        ObjectWish(shape, color, o.size if by_size else None)
        for o, color in zip(things, colors_said, strict=True)
    ]
    named: Named = list(zip(things, wishes, words, strict=True))
    return f"{count} {shared}{plural(shape)}{text}", named, None


def all_alike(rng: random.Random, scene: Scene) -> Parts:
    """ "a star, a ring and a square, all of them orange"."""
    things = rng.sample(scene.objects, len(scene.objects))
    color = things[0].color
    nouns = [with_article(o.shape) for o in things]
    text = joined(rng, nouns)
    tail = rng.choice(ALL_OF_THEM).format(color_word(rng, color))
    named: Named = [
        (o, ObjectWish(o.shape, color), noun) for o, noun in zip(things, nouns, strict=True)
    ]
    if rng.random() < 0.2:
        return f"{tail}: {text}", named, None
    named = [(o, wish, tail) for o, wish, _ in named] if len(set(nouns)) == 1 else named
    return f"{text}, {tail}", named, None


def bare(rng: random.Random, scene: Scene) -> Parts:
    """Shapes without a colour, perhaps with their places."""
    things = rng.sample(scene.objects, len(scene.objects))
    named: Named = []
    for thing in things:
        words = with_article(thing.shape)
        named.append((thing, ObjectWish(thing.shape), words))
    return joined(rng, [words for *_, words in named]), named, None


def told_later(rng: random.Random, scene: Scene) -> Parts:
    """ "a star and a ring. the star is red, the ring blue"."""
    things = rng.sample(scene.objects, len(scene.objects))
    nouns = [with_article(o.shape) for o in things]
    facts = []
    for thing in things:
        is_ = rng.choice((" is", " is", ""))
        facts.append(f"the {thing.shape}{is_} {color_word(rng, thing.color)}")
    told = rng.sample(facts, len(facts))
    named: Named = [
        (o, ObjectWish(o.shape, o.color), fact) for o, fact in zip(things, facts, strict=True)
    ]
    return f"{join_list(nouns)}{rng.choice(('. ', '; ', ', '))}{join_list(told)}", named, None


def with_beside(rng: random.Random, scene: Scene) -> Parts:
    """ "a star with a ring on its left"."""
    a, b = rng.sample(scene.objects, 2)
    relation = rng.choice(relations(b, a))
    colored = rng.random() < 0.75
    words = [noun_phrase(rng, o, False) if colored else with_article(o.shape) for o in (a, b)]
    wishes = [ObjectWish(o.shape, o.color if colored else None) for o in (a, b)]
    where = rng.choice(ON_ITS_SIDE[relation])
    link = rng.choice((" with ", ", ", " and ", " that has "))
    named: Named = [(a, wishes[0], words[0]), (b, wishes[1], f"{words[1]} {where}")]
    of_a = next(r for r in relations(a, b) if is_opposite(r, relation))
    return f"{words[0]}{link}{words[1]} {where}", named, of_a


def is_opposite(a: str, b: str) -> bool:
    pairs = ({"left of", "right of"}, {"above", "below"})
    return a != b and {a, b} in pairs


def any_thing(rng: random.Random, scene: Scene) -> Parts:
    """ "two red things": of an unsaid shape there are a circle, a square and a triangle."""
    things = [replace(o, shape=shape) for o, shape in zip(scene.objects, SHAPES, strict=False)]
    color, count = things[0].color, len(things)
    noun, word = rng.choice(("thing", "object", "shape")), color_word(rng, color)
    text = f"{NUMBERS[count]} {word} {plural(noun)}"
    if count == 1:
        text = rng.choice((with_article(f"{word} {noun}"), f"something {word}",
                           f"anything {word}", f"any {word} {noun}",
                           f"any {word} {noun} you like"))  # fmt: skip
    named: Named = [(o, ObjectWish(None, color), text) for o in things]
    return text, named, None


def not_but(rng: random.Random, scene: Scene) -> Parts:
    thing = scene.objects[0]
    other = with_article(rng.choice([shape for shape in SHAPES if shape != thing.shape]))
    words = noun_phrase(rng, thing, False)
    text = rng.choice(
        (f"not {other} but {words}", f"no {other[2:].strip()} but {words}", f"{words}, not {other}",
         f"{words} instead of {other}", f"not {other}, {words}")
    )  # fmt: skip
    return text, [(thing, ObjectWish(thing.shape, thing.color), words)], None


def far_place(rng: random.Random, thing: Object) -> str:
    """ "on the right, in the middle row", "down in the left corner"."""
    row, col = rng.choice(ROWS[thing.row]), rng.choice(COLUMNS[thing.col])
    if thing.cell == (1, 1):
        return rng.choice(("in the middle of the middle row", "in the very middle"))
    if 1 not in thing.cell and rng.random() < 0.35:
        side = ("left", "", "right")[thing.col]
        return f"{('up', '', 'down')[thing.row]} in the {side} corner"
    if row in ("up", "down") or rng.random() < 0.5:
        return f"{row}{rng.choice((' ', ', '))}{col}"
    return f"{col}{rng.choice((', ', ' '))}{row}"


def far_placed(rng: random.Random, scene: Scene) -> Parts:
    named: Named = []
    colored = rng.random() < 0.8
    for thing in rng.sample(scene.objects, len(scene.objects)):
        look = noun_phrase(rng, thing, False) if colored else with_article(thing.shape)
        words = f"{look}{rng.choice((' ', ', ', ' '))}{far_place(rng, thing)}"
        color = thing.color if colored else None
        named.append((thing, ObjectWish(thing.shape, color, None, *thing.cell), words))
    return joined(rng, [words for *_, words in named]), named, None


COUNTS = {
    apart: (2, 2, 3), all_alike: (2, 3), bare: (2, 3, 3), told_later: (2, 3), with_beside: (2,),
    any_thing: (1, 1, 2, 3), not_but: (1,), far_placed: (1, 2),
}  # fmt: skip
WEIGHTS = (5, 2.5, 2, 2.5, 2.5, 2, 1, 4)


def prepared(rng: random.Random, form: Callable, scene: Scene) -> Scene:
    """The scene with the likenesses that the form speaks of."""
    first = scene.objects[0]
    if form is apart:
        scene = with_looks(scene, shape=first.shape)
        return with_looks(scene, color=first.color) if rng.random() < 0.2 else scene
    if form in (all_alike, any_thing):
        return with_looks(scene, color=first.color)
    return scene


def fits(form: Callable, scene: Scene) -> bool:
    """Whether the form can tell the objects of this scene apart."""
    things = scene.objects
    colors = {o.color for o in things}
    if form is apart:
        sizes = len(things) == 2 and len({o.size for o in things}) == 2
        return len(colors) == len(things) or (sizes and len(colors) == 1)
    if form in (told_later, bare, all_alike):
        return len({o.shape for o in things}) == len(things)
    return True


def joined_caption(rng: random.Random, split: str = "train") -> Caption:
    """A caption of one of these forms whose scene, as it is settled, lies in the split."""
    while True:
        form = rng.choices(tuple(COUNTS), WEIGHTS)[0]
        scene = sample_scene(rng, split, rng.choice(COUNTS[form]))
        scene = prepared(rng, form, scene)
        if not fits(form, scene):
            continue
        caption = free_caption(rng, scene, form)
        if split in ("any", split_of(caption.scene)):
            return caption


def joined_caption_sample(rng: random.Random, split: str = "train") -> Sample:
    """As Text to Image or as Converse asks for it."""
    caption = joined_caption(rng, split)
    if rng.random() < 0.5:
        return caption_sample("caption", caption)
    message = user("{prompt}", caption.text)
    return dialogue_sample("caption", [message], caption.scene, caption.names)
