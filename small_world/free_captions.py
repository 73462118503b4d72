"""Captions as people write them: any order, joining and wording; nothing; things unknown."""

import random
from collections import Counter
from collections.abc import Callable

from small_world.kinds import without_known
from small_world.language import (
    OPPOSITE,
    Caption,
    ObjectWish,
    Wish,
    noun,
    relation_caption,
    settle,
    spaced,
    with_article,
)
from small_world.wordings import (
    BACKGROUND_WORDS,
    OF_IT,
    RELATIONS_SAID,
    SCENE_WORDS,
    STATE_WORDS,
    UNKNOWN,
    as_typed,
    bare_place,
    color_word,
    counted_phrase,
    joined,
    noun_phrase,
    opened,
    size_word,
)
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    Object,
    Scene,
    relations,
    sample_scene,
    split_of,
)

Named = list[tuple[Object, ObjectWish, str]]
Parts = tuple[str, Named, str | None]  # the text, its objects as mentioned, their relation


def placed_phrase(
    rng: random.Random, thing: Object, size: bool, place: str
) -> tuple[str, ObjectWish]:
    """An object where it stands; `place` is "cell", "side" or "" (not said)."""
    row, col = None, None
    if place == "cell" or (place == "side" and thing.cell == (1, 1)):
        row, col = thing.cell
    elif place == "side":
        sides = [s for s in ((thing.row, None), (None, thing.col)) if 1 not in s]
        row, col = rng.choice(sides)
    wish = ObjectWish(thing.shape, thing.color, thing.size if size else None, row, col)
    words = noun_phrase(rng, thing, size)
    if (row, col) == (None, None):
        return words, wish
    where = bare_place(rng, row, col)
    form = rng.random()
    if form < 0.5:
        link = " stands " if words.startswith("a") and rng.random() < 0.1 else " "
        return f"{words}{link}{where}", wish
    link = rng.choice((" ", ", ", ": ", " there is ", " stands ", " is ", " we see "))
    return f"{where}{link}{words}", wish


def listed(rng: random.Random, scene: Scene) -> Parts:
    things = rng.sample(scene.objects, len(scene.objects))
    size, place = rng.random() < 0.4, rng.choice(("", "", "cell", "side"))
    if place == "" and len(things) == 2 and rng.random() < 0.3:
        return beside(rng, things)
    named: Named = []
    for thing in things:
        words, wish = placed_phrase(rng, thing, size, place)
        named.append((thing, wish, words))
    return joined(rng, [words for _, _, words in named]), named, None


def beside(rng: random.Random, things: list[Object]) -> Parts:
    named: Named = []
    for thing in things:
        named.append((thing, ObjectWish(thing.shape, thing.color), noun_phrase(rng, thing, False)))
    a, b = (words for _, _, words in named)
    form = rng.choice(
        ("{} next to {}", "{} beside {}", "{} and next to it {}", "{}, and beside it {}",
         "{} near {}",
         "two things: {} and {}", "two objects: {}, {}", "{} by the side of {}")
    )  # fmt: skip
    return form.format(a, b), named, None


def related(rng: random.Random, scene: Scene) -> Parts:
    """Two objects and their relation, either of them first."""
    a, b = rng.sample(scene.objects, 2)
    relation, size = rng.choice(relations(a, b)), rng.random() < 0.25
    wishes = [ObjectWish(o.shape, o.color, o.size if size else None) for o in (a, b)]
    words = [noun_phrase(rng, o, size) for o in (a, b)]
    of, of_it = rng.choice(RELATIONS_SAID[relation]), rng.choice(OF_IT[OPPOSITE[relation]])
    forms = (
        f"{words[0]} {of} {words[1]}", f"{words[0]} {of} {words[1]}",
        f"{words[0]} is {of} {words[1]}",
        f"{words[0]} with {words[1]} {of_it}", f"{words[0]}, and {of_it} {words[1]}",
        f"{words[0]}. {of_it} is {words[1]}", f"{words[0]} and {of_it} {words[1]}",
    )  # fmt: skip
    named = [(a, wishes[0], words[0]), (b, wishes[1], words[1])]
    if rng.random() < 0.7:
        text = rng.choice(forms)
        if text.endswith(of_it):  # only then is it known where the second stands
            named[1] = (b, wishes[1], f"{words[1]} {of_it}")
        return text, named, relation
    there = rng.choice((" there is ", " stands ", " is ", ", ", " "))
    return f"{of} {words[1]}{there}{words[0]}", named[::-1], OPPOSITE[relation]


def counted(rng: random.Random, scene: Scene) -> Parts:
    groups = Counter((o.color, o.shape) for o in scene.objects)
    sizes = {o.size for o in scene.objects}
    size = sizes.pop() if len(sizes) == 1 and rng.random() < 0.4 else None
    parts, named = [], []
    for (color, shape), count in rng.sample(list(groups.items()), len(groups)):
        words = color_word(rng, color) if color else ""
        words = spaced(size_word(rng, size), words) if size else words
        parts.append(counted_phrase(rng, count, words, noun(rng, shape)))
        alike = [o for o in scene.objects if (o.color, o.shape) == (color, shape)]
        named += [(thing, ObjectWish(shape, color, size), parts[-1]) for thing in alike]
    return joined(rng, parts), named, None


def with_setting(rng: random.Random, text: str, background: str) -> str:
    """The background before, behind or around the text."""
    form = rng.random()
    if form < 0.4:
        return f"{text}{rng.choice((' ', ', '))}{rng.choice(BACKGROUND_WORDS[background])}"
    if form < 0.55:
        return f"{rng.choice(BACKGROUND_WORDS[background])}{rng.choice((', ', ' ', ': '))}{text}"
    scene = rng.choice(SCENE_WORDS[background])
    if form < 0.7:
        link = rng.choice((". ", "; ", ", ", ": ", ". there is ", ". we see "))
        return f"{scene}{link}{text}"
    if form < 0.82:
        form = rng.choice(("with {}", "with {} in it", "and {}", "in which we see {}"))
        return f"{scene} {form.format(text)}"
    state = rng.choice(STATE_WORDS[background])
    if form < 0.92:
        return f"it is {state}{rng.choice(('. ', ', ', ' and '))}{text}"
    return f"{text}. it is {state}"


def free_caption(
    rng: random.Random, scene: Scene, parts: Callable[[random.Random, Scene], Parts] | None = None
) -> Caption:
    """Any wording for the scene, or that of `parts`; what is not said is as usual."""
    alike = len({(o.color, o.shape) for o in scene.objects}) < len(scene.objects)
    if parts is not None:
        text, named, relation = parts(rng, scene)
    elif alike and rng.random() < 0.7:
        text, named, relation = counted(rng, scene)
    elif len(scene.objects) == 2 and rng.random() < 0.45:
        text, named, relation = related(rng, scene)
    else:
        text, named, relation = listed(rng, scene)
    background = scene.background if rng.random() < 0.5 else None
    if rng.random() < 0.06:
        text = f"{text} {rng.choice(('and', 'with', 'next to'))} {unknown_thing(rng)}"
    if background and rng.random() < 0.5:
        text = with_setting(rng, opened(rng, text), background)
    elif background:
        text = opened(rng, with_setting(rng, text, background))
    else:
        text = opened(rng, text)
    wish = Wish(tuple(wish for _, wish, _ in named), background, relation)
    scene, names = settle(scene, named, relation)
    return Caption(as_typed(rng, text), scene, wish, names)


def whole_caption(rng: random.Random, scene: Scene) -> Caption:
    """Everything said, in free words."""
    things = rng.sample(scene.objects, len(scene.objects))
    named: Named = []
    for thing in things:
        words, wish = placed_phrase(rng, thing, True, "cell")
        named.append((thing, wish, words))
    text = opened(rng, joined(rng, [words for _, _, words in named]))
    text = with_setting(rng, text, scene.background)
    wish = Wish(tuple(wish for _, wish, _ in named), scene.background)
    _, names = settle(scene, named)
    return Caption(as_typed(rng, text), scene, wish, names)


def unknown_thing(rng: random.Random) -> str:
    """Something of another world, perhaps in a colour and with a place."""
    words = rng.choice(without_known(rng, UNKNOWN))
    if rng.random() < 0.35:
        words = f"{rng.choice(tuple(COLORS))} {words}"
    return with_article(words)


NOTHING = (
    "nothing", "nothing at all", "an empty picture", "no objects", "no shapes", "an empty scene",
    "a picture without anything", "zero objects", "a picture of nothing", "nothing, please",
)  # fmt: skip


def empty_caption(rng: random.Random) -> Caption:
    """A scene without objects: asked for, or because nothing of it is known."""
    background = rng.choice(tuple(BACKGROUNDS))
    scene, said = Scene(background, ()), rng.random() < 0.65
    form = rng.random()
    if form < 0.35:
        text = opened(rng, unknown_thing(rng))
        text = with_setting(rng, text, background) if said else text
    elif said:
        noun, where = rng.choice(SCENE_WORDS[background]), rng.choice(BACKGROUND_WORDS[background])
        bare = noun.removeprefix("a ").removeprefix("the ")
        text = rng.choice(
            (f"{rng.choice(NOTHING)} {where}", f"just {noun}", f"only {noun}",
             f"{noun} without anything",
             f"an empty {bare}", f"{noun}, nothing else", f"{noun} and nothing else",
             f"{where}, nothing",
             f"nothing but {bare}", f"{noun} with nothing in it", f"{noun}, no shapes",
             f"just {noun}, no objects")
        )  # fmt: skip
        text = opened(rng, text)
    else:
        text = opened(rng, rng.choice(NOTHING))
    if not said:
        scene = Scene("day", ())
    return Caption(as_typed(rng, text), scene, Wish((), background if said else None))


def sample_free_caption(rng: random.Random, split: str = "train") -> Caption:
    """A free caption whose scene, as it is settled, lies in the split."""
    if rng.random() < 0.08:
        return empty_caption(rng)
    while True:
        caption = free_caption(rng, sample_scene(rng, split))
        if split in ("any", split_of(caption.scene)):
            return caption


def sample_related_caption(rng: random.Random, split: str = "train") -> Caption:
    """Two objects and their relation, in the world's grammar or freely: where the second stands."""
    while True:
        scene = sample_scene(rng, split, 2)
        free = rng.random() < 0.5
        caption = free_caption(rng, scene, related) if free else relation_caption(rng, scene)
        if split in ("any", split_of(caption.scene)):
            return caption
