"""Captions whose words lie apart from the object that they are about, in the phrase book's words.

Things listed along a row, looks that are shared or told later, forms that are filled in. For
training alone; the benchmark's held-out captions do not sample from here.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from small_world.free_captions import Named
from small_world.joined_captions import with_looks
from small_world.language import OPPOSITE, ObjectWish, with_article
from small_world.phrase_looks import Said, in_order, several_looks
from small_world.phrases import phrase
from small_world.placed_captions import CORNERS, LINES, here
from small_world.wordings import BACKGROUND_WORDS, RELATIONS_SAID, color_word, size_word, spot
from small_world.world import Object, Scene, relations

SHAPE_SLOTS, COLOR_SLOTS = ("shape", "shape2", "shape3"), ("color", "color2", "color3")
THINGS, ADJECTIVES = ("thing", "thing2", "thing3"), ("adj", "adj2", "adj3")
WAYS = {"row": ("from left to right", "left to right", "starting at the left"),
        "col": ("from top to bottom", "top to bottom", "starting at the top")}  # fmt: skip
BACK = {"row": ("from right to left", "right to left", "starting at the right"),
        "col": ("from bottom to top", "bottom to top", "starting at the bottom")}  # fmt: skip
ENDS = {"top": ("left", "right"), "bottom": ("left", "right"),
        "left": ("top", "bottom"), "right": ("upper", "lower")}  # fmt: skip


def told(rng: random.Random, kind: str, **words: str) -> tuple[str, frozenset[str]]:
    text, used = phrase(rng, "draw", kind, **words)
    return text.replace("crosss", "crosses"), used


def slots(names: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    return dict(zip(names, words, strict=False))


def differ(scene: Scene, trait: str) -> bool:
    return len({getattr(thing, trait) for thing in scene.objects}) == len(scene.objects)


def by_word(
    text: str, things: Sequence[Object], words: Sequence[str], traits: Sequence[str]
) -> Said:
    """Each of the things is named by its word, and these traits of it are said."""
    named: Named = [
        (o, ObjectWish(**{trait: getattr(o, trait) for trait in traits}), word)
        for o, word in zip(things, words, strict=True)
    ]
    return text, in_order(text, named), None, False


# ---------------------------------------------------------------- rows, columns and corners


def along(rng: random.Random) -> tuple[str, list[tuple[int, int]], str]:
    """A line, its cells in the order in which they are said, and the words for that order."""
    line, cells = rng.choice(tuple(LINES.items()))
    direction = "row" if cells[0][0] == cells[1][0] else "col"
    if rng.random() < 0.15:
        return line, list(cells[::-1]), rng.choice(BACK[direction])
    return line, list(cells), rng.choice(WAYS[direction])


def on_line(used: frozenset[str], things: Sequence[Object], cells: list) -> list[Object]:
    """Where the way is not said, it is the usual one."""
    ordered = cells if "way" in used else sorted(cells)
    return [replace(o, row=row, col=col) for o, (row, col) in zip(things, ordered, strict=True)]


def line_listed(rng: random.Random, scene: Scene) -> Said | None:
    """ "in the top row, from left to right: a red circle, a star, a small ring"."""
    found = several_looks(rng, scene)
    if found is None:
        return None
    line, cells, way = along(rng)
    words = [word for _, _, word in found]
    text, used = told(rng, "line_listed", line=line, way=way, **slots(THINGS, words))
    things = on_line(used, [thing for thing, _, _ in found], cells)
    named = [(o, here(wish, o), word) for o, (_, wish, word) in zip(things, found, strict=True)]
    return text, named, None, False


def line_adjs(rng: random.Random, scene: Scene) -> Said | None:
    """ "three stars in the left column: red, green and blue from top to bottom"."""
    if not differ(scene, "color"):
        return None
    scene, kind, traits = of_one_kind(rng, scene)
    line, cells, way = along(rng)
    words = [color_word(rng, o.color) for o in scene.objects]
    text, used = told(rng, "line_adjs", shape=kind, line=line, way=way, **slots(ADJECTIVES, words))
    things = on_line(used, scene.objects, cells)
    named = [
        (o, here(ObjectWish(**{trait: getattr(o, trait) for trait in traits}), o), word)
        for o, word in zip(things, words, strict=True)
    ]
    return text, named, None, False


def corner_pair(rng: random.Random, scene: Scene) -> Said | None:
    """ "a square in each bottom corner, the left one blue, the right one orange"."""
    shape, trait = scene.objects[0].shape, rng.choice(("color", "color", "size"))
    if not differ(scene, trait):
        return None
    side = rng.choice(tuple(CORNERS))
    order = rng.choice(((0, 1), (0, 1), (1, 0)))
    things = [
        replace(o, shape=shape, row=CORNERS[side][end][0], col=CORNERS[side][end][1])
        for o, end in zip(scene.objects, order, strict=True)
    ]
    word = color_word if trait == "color" else size_word
    words = [word(rng, getattr(o, trait)) for o in things]
    ends = slots(("first", "second"), [ENDS[side][end] for end in order])
    corners = f"{side} corner"
    text, _ = told(
        rng, "corner_pair", shape=shape, corners=corners, **ends, **slots(ADJECTIVES, words)
    )
    named = [
        (o, here(ObjectWish(**{"shape": shape, trait: getattr(o, trait)}), o), said)
        for o, said in zip(things, words, strict=True)
    ]
    return text, named, None, False


# ---------------------------------------------------------------- looks that are shared


def shapes_of(scene: Scene) -> list[str]:
    return [thing.shape for thing in scene.objects]


def pair_looks(rng: random.Random, scene: Scene) -> Said | None:
    """ "a circle and a square, both purple and both small"."""
    if not differ(scene, "shape"):
        return None
    first = scene.objects[0]
    scene = with_looks(scene, color=first.color, size=first.size)
    looks = {"color": color_word(rng, first.color), "size": size_word(rng, first.size)}
    text, _ = told(rng, "pair_looks", **looks, **slots(SHAPE_SLOTS, shapes_of(scene)))
    return by_word(text, scene.objects, shapes_of(scene), ("shape", "color", "size"))


def pair_size(rng: random.Random, scene: Scene) -> Said | None:
    """ "a brown square and a pink circle, both small"."""
    if not differ(scene, "shape"):
        return None
    scene = with_looks(scene, size=scene.objects[0].size)
    colors = [color_word(rng, o.color) for o in scene.objects]
    words = slots(SHAPE_SLOTS, shapes_of(scene)) | slots(COLOR_SLOTS, colors)
    text, _ = told(rng, "pair_size", size=size_word(rng, scene.objects[0].size), **words)
    return by_word(text, scene.objects, shapes_of(scene), ("shape", "color", "size"))


def trio_color(rng: random.Random, scene: Scene) -> Said | None:
    """ "everything red: a ring, a cross, a star"."""
    if not differ(scene, "shape"):
        return None
    scene = with_looks(scene, color=scene.objects[0].color)
    color = color_word(rng, scene.objects[0].color)
    text, _ = told(rng, "trio_color", color=color, **slots(SHAPE_SLOTS, shapes_of(scene)))
    return by_word(text, scene.objects, shapes_of(scene), ("shape", "color"))


def trio_size(rng: random.Random, scene: Scene) -> Said | None:
    """ "all of them tiny: a red circle, a blue star, a red ring"."""
    scene = with_looks(scene, size=scene.objects[0].size)
    words = [with_article(f"{color_word(rng, o.color)} {o.shape}") for o in scene.objects]
    if len(set(words)) < 3:
        return None
    size = size_word(rng, scene.objects[0].size)
    text, _ = told(rng, "trio_size", size=size, **slots(THINGS, words))
    return by_word(text, scene.objects, words, ("shape", "color", "size"))


def of_one_kind(rng: random.Random, scene: Scene) -> tuple[Scene, str, tuple[str, ...]]:
    """All of one shape, and in one of three of one size; its word, and what that says."""
    first = scene.objects[0]
    if rng.random() < 0.65:
        return with_looks(scene, shape=first.shape), first.shape, ("shape", "color")
    scene = with_looks(scene, shape=first.shape, size=first.size)
    return scene, f"{size_word(rng, first.size)} {first.shape}", ("shape", "color", "size")


def colors_of_one_shape(rng: random.Random, scene: Scene, kind: str) -> Said | None:
    if not differ(scene, "color"):
        return None
    scene, shape, traits = of_one_kind(rng, scene)
    words = [color_word(rng, o.color) for o in scene.objects]
    text, _ = told(rng, kind, shape=shape, **slots(COLOR_SLOTS, words))
    return by_word(text, scene.objects, words, traits)


def two_colors(rng: random.Random, scene: Scene) -> Said | None:
    """ "a red and a blue circle"."""
    return colors_of_one_shape(rng, scene, "two_colors")


def many_colors(rng: random.Random, scene: Scene) -> Said | None:
    """ "three circles: red, green, blue"."""
    return colors_of_one_shape(rng, scene, "many_colors")


# ---------------------------------------------------------------- looks that are told later


def respective(rng: random.Random, scene: Scene) -> Said | None:
    """ "a circle and a cross, yellow and red respectively"."""
    if not differ(scene, "shape") or not differ(scene, "color"):
        return None
    colors = [color_word(rng, o.color) for o in scene.objects]
    words = slots(SHAPE_SLOTS, shapes_of(scene)) | slots(COLOR_SLOTS, colors)
    text, _ = told(rng, "respective", **words)
    return by_word(text, scene.objects, colors, ("shape", "color"))


def sizes_told(rng: random.Random, scene: Scene) -> Said | None:
    """ "a red and a blue circle, the red one is big, the blue one is small"."""
    if not differ(scene, "color"):
        return None
    scene = with_looks(scene, shape=scene.objects[0].shape)
    colors = [color_word(rng, o.color) for o in scene.objects]
    sizes = slots(("size", "size2"), [size_word(rng, o.size) for o in scene.objects])
    shape = scene.objects[0].shape
    text, _ = told(rng, "sizes_told", shape=shape, **sizes, **slots(COLOR_SLOTS, colors))
    return by_word(text, scene.objects, colors, ("shape", "color", "size"))


def relation_after(rng: random.Random, scene: Scene) -> Said | None:
    """ "a blue square and a yellow circle. the square is left of the circle"."""
    found = several_looks(rng, scene) if differ(scene, "shape") else None
    if found is None:
        return None
    (a, _, words_a), (b, _, words_b) = found
    relation = rng.choice(relations(a, b))
    things = {"thing": words_a, "thing2": words_b, "name": a.shape, "name2": b.shape}
    if rng.random() < 0.4:  # the second is told how it stands to the first
        relation = OPPOSITE[relation]
        things |= {"name": b.shape, "name2": a.shape}
    said = rng.choice(RELATIONS_SAID[relation])
    text, _ = told(rng, "relation_after", relation=said, **things)
    of_a = relation if things["name"] == a.shape else OPPOSITE[relation]
    if text.find(words_a) > text.find(words_b):
        return text, found[::-1], OPPOSITE[of_a], False
    return text, found, of_a, False


def filled_in(rng: random.Random, scene: Scene) -> Said:
    """One object as a form, in little sentences, or with its looks in any order."""
    (thing,) = scene.objects
    looks = {"color": color_word(rng, thing.color), "size": size_word(rng, thing.size)}
    kind = rng.choice(("keyed", "piecewise", "adj_order"))
    text, _ = told(rng, kind, shape=thing.shape, where=spot(rng, *thing.cell), **looks)
    wish = here(ObjectWish(thing.shape, thing.color, thing.size), thing)
    return text, [(thing, wish, text.rstrip(".!?"))], None, False


def keyed_two(rng: random.Random, scene: Scene) -> Said | None:
    """ "background: snow; object 1: big blue cross / top left; object 2: ..."."""
    found = several_looks(rng, scene)
    if found is None:
        return None
    words = slots(THINGS, [word for _, _, word in found])
    words |= slots(("where", "where2"), [spot(rng, *thing.cell) for thing, _, _ in found])
    setting = rng.choice(BACKGROUND_WORDS[scene.background])
    text, _ = told(rng, "keyed_two", setting=setting, **words)
    return text, [(o, here(wish, o), word) for o, wish, word in found], None, True


def piecewise_two(rng: random.Random, scene: Scene) -> Said | None:
    """ "a circle and a star. the circle is red. the star is blue. the star is at the top"."""
    if not differ(scene, "shape"):
        return None
    colors = [color_word(rng, o.color) for o in scene.objects]
    placed = rng.choice(scene.objects)
    words = slots(SHAPE_SLOTS, shapes_of(scene)) | slots(COLOR_SLOTS, colors)
    where = {"name": placed.shape, "where": spot(rng, *placed.cell)}
    text, _ = told(rng, "piecewise_two", **where, **words)
    wishes = [ObjectWish(o.shape, o.color) for o in scene.objects]
    wishes = [
        here(wish, o) if o is placed else wish
        for wish, o in zip(wishes, scene.objects, strict=True)
    ]
    named = in_order(text, list(zip(scene.objects, wishes, shapes_of(scene), strict=True)))
    return text, named, None, False


ARRANGED: dict[Callable[[random.Random, Scene], Said | None], tuple[int, float]] = {
    line_listed: (3, 5), line_adjs: (3, 4), corner_pair: (2, 3), pair_looks: (2, 2),
    pair_size: (2, 2.5), trio_color: (3, 3), trio_size: (3, 2.5), two_colors: (2, 2),
    many_colors: (3, 5), respective: (2, 2.5), sizes_told: (2, 2.5), relation_after: (2, 7),
    filled_in: (1, 5), keyed_two: (2, 3), piecewise_two: (2, 2.5),
}  # fmt: skip  # how many objects a scene needs, and how often it is said
