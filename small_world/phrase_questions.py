"""Questions in the words of the phrase book. For training alone; no held-out one samples here."""

import random
from collections.abc import Callable
from dataclasses import replace

from blip3u_core.language.prompt import QUESTION_REQUEST
from small_world.called import called
from small_world.comparisons import alike
from small_world.language import NUMBERS, describe, look_words, plural, with_article
from small_world.names import references
from small_world.phrase_choices import CHOICES, in_a_line
from small_world.phrase_orders import likened_scene
from small_world.phrases import phrase
from small_world.questions import Question, cell_of, fitting, reply, yes_no, yes_no_of_cell
from small_world.samples import Sample, Turn, dialogue_sample, user
from small_world.wordings import RELATIONS_SAID, as_typed, color_word, place_words
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    relations,
    split_of,
)

SIZE_HINTS = ("big", "small", "large", "little", "tin")


def said(rng: random.Random, kind: str, **words: str) -> str:
    return phrase(rng, "questions", kind, **words)[0]


def name_of(rng: random.Random, scene: Scene, thing: Object, *hidden: str) -> str | None:
    """A name of the object that holds none of the words `hidden`; "it" where it is alone."""
    if len(scene.objects) == 1 and rng.random() < 0.4:
        return "it"
    names = [n for n in references(scene, thing) if not any(word in n for word in hidden)]
    return f"the {rng.choice(names)}" if names else None


def color(rng: random.Random, scene: Scene, thing: Object, it: str) -> Question:
    kind = rng.choice(("color", "is_color", "color_or"))
    other = rng.choice([c for c in COLORS if c != thing.color])
    if kind == "is_color":
        asked = rng.choice((thing.color, other))
        text = said(rng, kind, it=it, color=color_word(rng, asked))
        return yes_no(text, asked == thing.color, thing)
    first, second = rng.sample((thing.color, other), 2)
    text = said(rng, kind, it=it, **({"color": first, "color2": second} if kind != "color" else {}))
    return Question(text, thing.color, cell_of(thing))


def size(rng: random.Random, scene: Scene, thing: Object, it: str) -> Question:
    kind = rng.choice(("size", "size", "is_big", "is_small"))
    if kind == "size":
        return Question(said(rng, kind, it=it), thing.size, cell_of(thing))
    return yes_no(said(rng, kind, it=it), kind == f"is_{thing.size}", thing)


def place(rng: random.Random, scene: Scene, thing: Object, it: str) -> Question:
    if rng.random() < 0.6:
        return Question(said(rng, "place", it=it), thing.place, cell_of(thing))
    row, col = thing.cell if rng.random() < 0.5 else (rng.randrange(3), rng.randrange(3))
    text = said(rng, "is_at", it=it, where=place_words(rng, row, col))
    return yes_no(text, (row, col) == thing.cell, thing)


def shape(rng: random.Random, scene: Scene) -> Question | None:
    thing = rng.choice(scene.objects)
    if len(scene.objects) == 1 and rng.random() < 0.6:
        return Question(said(rng, "shape_alone"), thing.shape, cell_of(thing))
    if [o.color for o in scene.objects].count(thing.color) > 1:
        return None
    text = said(rng, "shape", color=color_word(rng, thing.color))
    return Question(text, thing.shape, cell_of(thing))


def bigger(rng: random.Random, scene: Scene) -> Question | None:
    if len(scene.objects) != 2 or len({o.size for o in scene.objects}) != 2:
        return None
    kind, wanted = rng.choice((("bigger", "big"), ("smaller", "small")))
    thing = next(o for o in scene.objects if o.size == wanted)
    return Question(said(rng, kind), look_words(thing), cell_of(thing))


def group(rng: random.Random, scene: Scene) -> tuple[str, tuple[int, ...]]:
    """ "red stars", "stars", "red objects", and the cells of all that are."""
    looks = [(o.color, o.shape) for o in scene.objects] * 2
    looks += [(rng.choice(tuple(COLORS)), rng.choice(SHAPES))]
    hue, form = rng.choice(looks)
    kind = rng.choice(("shape", "shape", "color", "both"))
    if kind == "shape":
        return plural(form), fitting(scene, shape=form)
    word = color_word(rng, hue)
    if kind == "color":
        return f"{word} {rng.choice(('objects', 'things', 'shapes'))}", fitting(scene, hue)
    return f"{word} {plural(form)}", fitting(scene, hue, form)


def count(rng: random.Random, scene: Scene) -> Question:
    if rng.random() < 0.3:
        found = fitting(scene)
        return Question(said(rng, "count_all"), NUMBERS[len(found)], counted=found)
    things, found = group(rng, scene)
    if rng.random() < 0.3:
        number = rng.choice((len(found), rng.randint(1, 3))) or 2
        text = said(rng, "is_number", number=NUMBERS[number], things=things)
        return yes_no(text, number == len(found), counted=found)
    return Question(said(rng, "count", things=things), NUMBERS[len(found)], counted=found)


def there(rng: random.Random, scene: Scene) -> Question:
    if rng.random() < 0.4:
        things, found = group(rng, scene)
        return yes_no(said(rng, "any", things=things), bool(found), counted=found)
    hue, form = rng.choice(tuple(COLORS)), rng.choice(SHAPES)
    if scene.objects and rng.random() < 0.75:
        near = rng.choice(scene.objects)
        hue, form = rng.choice(((near.color, near.shape), (near.color, form), (hue, near.shape)))
    if rng.random() < 0.35:
        thing, found = with_article(form), fitting(scene, shape=form)
    else:
        thing = with_article(f"{color_word(rng, hue)} {form}")
        found = fitting(scene, hue, form)
    kind = rng.choice(("is_there", "is_there", "still"))
    return yes_no(said(rng, kind, thing=thing), bool(found), counted=found)


def at(rng: random.Random, scene: Scene) -> Question:
    """What is in a cell, of which a third are empty."""
    row, col = rng.choice(scene.objects).cell
    if rng.random() < 0.3:
        row, col = rng.randrange(3), rng.randrange(3)
    found = [o for o in scene.objects if o.cell == (row, col)]
    text = said(rng, "at", where=place_words(rng, row, col))
    return Question(text, look_words(found[0]) if found else "nothing", 3 * row + col)


def pair(rng: random.Random, scene: Scene) -> Question | None:
    """Relations and likenesses of two."""
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    it, other = called(rng, scene, a), called(rng, scene, b)
    kind = rng.choice(("related", "related", "same_color_q", "same_shape_q", "left_or_right",
                       "is_bigger", "is_smaller"))  # fmt: skip
    if kind == "related":
        relation = rng.choice(relations(a, b) if rng.random() < 0.5 else RELATIONS)
        words = {"it": it, "other": other, "relation": rng.choice(RELATIONS_SAID[relation])}
        return yes_no(said(rng, kind, **words), relation in relations(a, b), a)
    if kind == "left_or_right":
        side = [r for r in relations(a, b) if r in ("left of", "right of")]
        text = said(rng, kind, it=it, other=other)
        return Question(text, side[0].split()[0], cell_of(a)) if side else None
    if kind in ("is_bigger", "is_smaller"):
        if any(word in it + other for word in SIZE_HINTS):
            return None
        wanted = ("big", "small") if kind == "is_bigger" else ("small", "big")
        return yes_no(said(rng, kind, it=it, other=other), (a.size, b.size) == wanted, a)
    if kind == "same_shape_q":
        if len(scene.objects) > 2:
            return None
        truth = a.shape == b.shape
        return yes_no(said(rng, kind), truth, counted=alike(a, b, truth))
    if a.color in it and b.color in other:
        return None
    text, truth = said(rng, kind, it=it, other=other), a.color == b.color
    return yes_no(text, truth, counted=alike(a, b, truth))


def extreme(rng: random.Random, scene: Scene) -> Question | None:
    """Which of two stands higher up or further left."""
    if len(scene.objects) != 2:
        return None
    kind, line = rng.choice((("higher", "row"), ("lefter", "col")))
    first, second = sorted(scene.objects, key=lambda thing: getattr(thing, line))
    if getattr(first, line) == getattr(second, line):
        return None
    return Question(said(rng, kind), look_words(first), cell_of(first))


def beside_it(rng: random.Random, scene: Scene) -> Question | None:
    """What stands next to an object, where it is the only one on that side."""
    thing = rng.choice(scene.objects)
    relation = rng.choice(RELATIONS)
    there = [o for o in scene.objects if relation in relations(o, thing)]
    if len(there) > 1 or (not there and rng.random() < 0.7):
        return None
    words = {"relation": rng.choice(RELATIONS_SAID[relation]), "it": called(rng, scene, thing)}
    text = said(rng, "left_of_it", **words)
    if not there:
        return Question(text, "nothing")
    return Question(text, look_words(there[0]), cell_of(there[0]))


def of_all(rng: random.Random, scene: Scene) -> Question | None:
    """Whether all are of a colour or size, or how many."""
    thing = rng.choice(scene.objects)
    trait = rng.choice(("color", "size"))
    how = getattr(thing, trait)
    if rng.random() < 0.2:
        how = rng.choice(tuple(COLORS if trait == "color" else SIZES))
    fits = [cell_of(o) for o in scene.objects if getattr(o, trait) == how]
    if rng.random() < 0.5:
        text = said(rng, "count_how", how=how)
        return Question(text, NUMBERS[len(fits)], counted=tuple(fits))
    if len(scene.objects) < 2:
        return None
    others = tuple(cell for cell in fitting(scene) if cell not in fits)
    return yes_no(said(rng, "are_all", how=how), not others, counted=others)


def of_the_one(rng: random.Random, scene: Scene) -> Question | None:
    if len(scene.objects) != 1:
        return None
    (thing,) = scene.objects
    kind = rng.choice(("where_alone", "color_alone", "size_alone"))
    answer = {"where_alone": thing.place, "color_alone": thing.color, "size_alone": thing.size}
    return Question(said(rng, kind), answer[kind], cell_of(thing))


def setting(rng: random.Random, scene: Scene) -> Question:
    if rng.random() < 0.4:
        return Question(said(rng, "setting"), scene.background)
    asked = rng.choice((scene.background, rng.choice(tuple(BACKGROUNDS))))
    return yes_no_of_cell(said(rng, f"is_{asked}"), asked == scene.background)


def anything(rng: random.Random, scene: Scene) -> Question:
    cells = fitting(scene)
    if rng.random() < 0.5:
        return yes_no(said(rng, "anything"), bool(cells), counted=cells)
    return yes_no(said(rng, "empty"), not cells, counted=cells)


def listed(rng: random.Random, scene: Scene) -> Question:
    """All colours or shapes in reading order, or the whole picture."""
    kind = rng.choice(("colors", "shapes", "describe", "describe"))
    if kind == "describe":
        return Question(said(rng, kind), describe(scene))
    values = dict.fromkeys(o.color if kind == "colors" else o.shape for o in scene.objects)
    return Question(said(rng, kind), " and ".join(values) or "none")


OF_ONE = (color, color, color, size, place, place)
OF_SCENE: dict[Callable[[random.Random, Scene], Question | None], float] = {
    shape: 3, bigger: 4, count: 9, there: 4, at: 2, pair: 13, setting: 3, anything: 1, listed: 3,
    extreme: 4, beside_it: 6, of_all: 5, of_the_one: 3, **CHOICES,
}  # fmt: skip
OF_NOTHING = (count, there, setting, setting, anything, listed)


def hidden(maker: Callable, thing: Object) -> tuple[str, ...]:
    """Words that would give the answer away."""
    return {color: (thing.color,), size: ("big", "small")}.get(maker, ())


def one_question(rng: random.Random, scene: Scene) -> Question | None:
    if not scene.objects:
        return rng.choice(OF_NOTHING)(rng, scene)
    if rng.random() < 0.6:
        return rng.choices(tuple(OF_SCENE), tuple(OF_SCENE.values()))[0](rng, scene)
    maker, thing = rng.choice(OF_ONE), rng.choice(scene.objects)
    it = name_of(rng, scene, thing, *hidden(maker, thing))
    return maker(rng, scene, thing, it) if it else None


def phrase_question(rng: random.Random, scene: Scene) -> Question:
    """A question of the book, as it is typed."""
    question = None
    while question is None:
        question = one_question(rng, scene)
    return replace(question, text=as_typed(rng, question.text))


def phrase_question_sample(rng: random.Random, split: str = "train") -> Sample:
    """One to three questions about a picture; the later ones bring none."""
    scene = likened_scene(rng, split, 3 if rng.random() < 0.4 else None)  # three are hard to count
    if len(scene.objects) == 3 and rng.random() < 0.15:
        lined = in_a_line(rng, scene)
        scene = lined if split in ("any", split_of(lined)) else scene
    turns: list[Turn] = []
    if rng.random() < 0.07:
        scene = Scene(rng.choice(tuple(BACKGROUNDS)), ())
    for number in range(rng.choice((1, 2, 3))):
        question = phrase_question(rng, scene)
        shown = () if number else (scene,)
        turns += [user(QUESTION_REQUEST, question.text, *shown), reply(question)]
    return dialogue_sample("question", turns)
