"""Captions that say of every object where it stands, in the phrase book's words."""

import random
from collections.abc import Sequence
from dataclasses import replace

from small_world import called
from small_world.edits import STEPS
from small_world.free_captions import Named
from small_world.joined_captions import with_looks
from small_world.language import ObjectWish, plural, with_article
from small_world.phrase_looks import Said, in_order, several_looks
from small_world.phrases import phrase
from small_world.wordings import RELATIONS_SAID, color_word, place_words, size_word, spot
from small_world.world import Object, Scene

CORNERS = {"top": ((0, 0), (0, 2)), "bottom": ((2, 0), (2, 2)),
           "left": ((0, 0), (2, 0)), "right": ((0, 2), (2, 2))}  # fmt: skip
LINES = {
    f"the {name}": tuple((i, j) for i in range(3) for j in range(3) if (i, j)[line == "col"] == at)
    for line, at, name in called.LINES
}


BARE_SIDES = {
    ("row", 0): ("top", "up top", "top row"),
    ("row", 2): ("bottom", "bottom row"),
    ("col", 0): ("left", "left side", "left column", "in the left column"),
    ("col", 2): ("right", "right side", "right column", "in the right column"),
}


def here(wish: ObjectWish, thing: Object) -> ObjectWish:
    return replace(wish, row=thing.row, col=thing.col)


def side(rng: random.Random, wish: ObjectWish, thing: Object) -> tuple[ObjectWish, str] | None:
    """ "on the left", "bottom", "left column": the row or the column of an object, if it is one."""
    lines = [(line, at) for line, at in (("row", thing.row), ("col", thing.col)) if at != 1]
    if not lines:
        return None
    line, at = rng.choice(lines)
    words = rng.choice(BARE_SIDES[line, at])
    if rng.random() < 0.5:
        words = place_words(rng, **{"row": None, "col": None, line: at})
    return replace(wish, **{line: at}), words


def place_of(rng: random.Random, wish: ObjectWish, thing: Object) -> tuple[ObjectWish, str]:
    """What is wished where, and the words for that: a cell, or now and then just a side."""
    found = side(rng, wish, thing) if rng.random() < 0.45 else None
    return found or (here(wish, thing), spot(rng, *thing.cell))


def placed(rng: random.Random, scene: Scene, kind: str) -> Said | None:
    """Each object with its place."""
    found = several_looks(rng, scene)
    if found is None:
        return None
    named, slots = [], {}
    for number, (thing, wish, words) in zip(("", "2", "3"), found, strict=False):
        wish, where = place_of(rng, wish, thing)
        slots |= {f"thing{number}": words, f"where{number}": where}
        named.append((thing, wish, words))
    text, _ = phrase(rng, "draw", kind, **slots)
    return text, in_order(text, named), None, False


def two_placed(rng: random.Random, scene: Scene) -> Said | None:
    return placed(rng, scene, "two_where")


def three_placed(rng: random.Random, scene: Scene) -> Said | None:
    return placed(rng, scene, "three_where")


def apart(rng: random.Random, things: Sequence[Object]) -> list[str] | None:
    """Words for two places, neither of which is found in the other."""
    a, b = (spot(rng, *thing.cell) for thing in things)
    return None if a in b or b in a else [a, b]


def stretch(text: str, *parts: str) -> str:
    """From the first of these words to the last."""
    places = [(text.rfind(part), part) for part in parts]
    return text[min(places)[0] : max(start + len(part) for start, part in places)]


def adj_placed(rng: random.Random, scene: Scene) -> Said | None:
    """ "two stars: a red one top left, a blue one in the center"."""
    a, b = with_looks(scene, shape=scene.objects[0].shape).objects
    traits = [trait for trait in ("color", "size") if getattr(a, trait) != getattr(b, trait)]
    where = apart(rng, (a, b))
    if not traits or where is None:
        return None
    trait = rng.choice(traits)
    word = color_word if trait == "color" else size_word
    adjectives = [word(rng, getattr(thing, trait)) for thing in (a, b)]
    slots = dict(zip(("adj", "adj2", "where", "where2"), (*adjectives, *where), strict=True))
    text, _ = phrase(rng, "draw", "adj_where", shape=a.shape, **slots)
    named: Named = [
        (o, here(ObjectWish(o.shape, **{trait: getattr(o, trait)}), o), stretch(text, adj, place))
        for o, adj, place in zip((a, b), adjectives, where, strict=True)
    ]
    return text.replace("crosss", "crosses"), in_place(text, named, where), None, False


def in_place(text: str, named: Named, where: Sequence[str]) -> Named:
    """Without the letters that a plural lacked; all places are said, so the order is free."""
    return [
        (thing, wish, words.replace("crosss", "crosses") if place in words else place)
        for (thing, wish, words), place in zip(named, where, strict=True)
    ]


def pair_placed(rng: random.Random, scene: Scene) -> Said | None:
    """ "both red: a star top left, a ring in the center"."""
    a, b = with_looks(scene, color=scene.objects[0].color).objects
    where = apart(rng, (a, b))
    if a.shape == b.shape or where is None:
        return None
    words = {"shape": a.shape, "shape2": b.shape, "color": color_word(rng, a.color)}
    text, _ = phrase(rng, "draw", "pair_where", where=where[0], where2=where[1], **words)
    named: Named = [
        (o, here(ObjectWish(o.shape, o.color), o), stretch(text, o.shape, place))
        for o, place in zip((a, b), where, strict=True)
    ]
    return text, named, None, False


def anchored(rng: random.Random, scene: Scene) -> Said | None:
    """ "a star at the top left, and below it a ring"."""
    found = several_looks(rng, scene)
    relation = rng.choice(tuple(STEPS))
    if found is None:
        return None
    (a, wish_a, words_a), (b, wish_b, words_b) = found
    row, col = a.row + STEPS[relation][0], a.col + STEPS[relation][1]
    if not (0 <= row <= 2 and 0 <= col <= 2):
        return None
    b = replace(b, row=row, col=col)
    said = {"thing": words_a, "where": spot(rng, *a.cell), "thing2": words_b}
    text, _ = phrase(
        rng, "draw", "anchor_beside", relation=rng.choice(RELATIONS_SAID[relation]), **said
    )
    return text, [(a, here(wish_a, a), words_a), (b, here(wish_b, b), words_b)], None, False


def same_too(rng: random.Random, scene: Scene) -> Said | None:
    """ "a red star and a ring of the same colour"."""
    a, b = with_looks(scene, color=scene.objects[0].color).objects
    if a.shape == b.shape:
        return None
    words = f"{color_word(rng, a.color)} {a.shape}"
    words = with_article(words) if rng.random() < 0.5 else words
    text, _ = phrase(rng, "draw", "same_too", thing=words, shape2=b.shape)
    named: Named = [
        (a, ObjectWish(a.shape, a.color), words), (b, ObjectWish(b.shape, a.color), b.shape)
    ]  # fmt: skip
    return text, in_order(text, named), None, False


def all_looks(rng: random.Random, thing: Object) -> tuple[str, ObjectWish]:
    """ "red star" or "small red star"."""
    words, wish = (
        f"{color_word(rng, thing.color)} {thing.shape}",
        ObjectWish(thing.shape, thing.color),
    )
    if rng.random() < 0.4:
        return f"{size_word(rng, thing.size)} {words}", replace(wish, size=thing.size)
    return words, wish


def alike_at(
    text: str, scene: Scene, wish: ObjectWish, cells: Sequence[tuple[int, int]], *words: str
) -> Said:
    """All like the first object, in these cells; `words` say what and where."""
    things = [replace(scene.objects[0], row=row, col=col) for row, col in cells]
    said = stretch(text, *words)
    return text, [(thing, here(wish, thing), said) for thing in things], None, False


def line_of_three(rng: random.Random, scene: Scene) -> Said:
    """ "three red stars across the top row"."""
    thing = scene.objects[0]
    words, wish = all_looks(rng, thing)
    many = words.removesuffix(thing.shape) + plural(thing.shape)
    line = rng.choice(tuple(LINES))
    text, _ = phrase(rng, "draw", "line_three", looks=many, line=line)
    return alike_at(text, scene, wish, LINES[line], many, line)


def each_corner(rng: random.Random, scene: Scene) -> Said:
    """ "a red star in each of the bottom corners"."""
    words, wish = all_looks(rng, scene.objects[0])
    side = rng.choice(tuple(CORNERS))
    corners = f"the {side} corners"
    text, _ = phrase(rng, "draw", "corner_each", look=words, corners=corners)
    return alike_at(text, scene, wish, CORNERS[side], words, corners)
