"""One wish in the words of the phrase book. For training alone; no held-out edit samples here."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from small_world.called import called, several
from small_world.edits import STEPS, Edit, change, clauses, edit_scene, free_cells
from small_world.group_edits import changed
from small_world.language import Names, with_article
from small_world.layout import USUAL
from small_world.phrase_adds import look_said, one_add
from small_world.phrase_groups import one_group
from small_world.phrase_likes import SIZE_KIND, one_like, to_edge
from small_world.phrases import phrase
from small_world.questions import cell_of
from small_world.wordings import RELATIONS_SAID, color_word, place_words, spot
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    sample_object,
)

NEXT_CELL = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def other_size(thing: Object) -> str:
    return "big" if thing.size == "small" else "small"


def bare_place(rng: random.Random, row: int, col: int) -> str:
    """ "the top left corner", "the center": what words for a place name, if they name it."""
    words = place_words(rng, row, col)
    return "the " + words.partition(" the ")[2] if " the " in words else "the center"


def recolor(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit:
    color = rng.choice([c for c in COLORS if c != old.color])
    words = {"it": it, "color": color_word(rng, color), "old": old.color}
    text, _ = phrase(rng, "edits", "recolor", **words)
    return Edit("recolor", text, scene, change(scene, old, replace(old, color=color)))


def reshape(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit:
    shape = rng.choice([s for s in SHAPES if s != old.shape])
    color = rng.choice(tuple(COLORS)) if rng.random() < 0.25 else old.color
    new = with_article(shape if color == old.color else f"{color_word(rng, color)} {shape}")
    text, _ = phrase(rng, "edits", "replace", it=it, new=new)
    target = change(scene, old, replace(old, shape=shape, color=color))
    return Edit("replace", text, scene, target)


def remove(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit:
    text, _ = phrase(rng, "edits", "remove", it=it)
    left = tuple(o for o in scene.objects if o is not old)
    return Edit("remove", text, scene, scene.with_objects(left))


def add(rng: random.Random, scene: Scene) -> Edit | None:
    """At the place that is said, or in the first of the usual ones that is free."""
    cells = free_cells(scene)
    usual = [cell for cell in USUAL if cell in cells]
    if len(scene.objects) == 3 or not usual:
        return None
    new = sample_object(rng, rng.choice(cells))
    words = {"thing": look_said(rng, new, 1.0), "where": spot(rng, new.row, new.col)}
    text, used = phrase(rng, "edits", "add", **words)
    if "where" not in used:
        new = replace(new, row=usual[0][0], col=usual[0][1])
    return Edit("add", text, scene, scene.with_objects((*scene.objects, new)))


def move(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit:
    row, col = rng.choice(free_cells(scene)) if rng.random() < 0.95 else old.cell
    words = {"where": spot(rng, row, col), "place": bare_place(rng, row, col)}
    text, _ = phrase(rng, "edits", "move", it=it, **words)
    return Edit("move", text, scene, change(scene, old, replace(old, row=row, col=col)))


def step(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit | None:
    """One cell further, where that is free."""
    way = rng.choice(tuple(NEXT_CELL))
    down, right = NEXT_CELL[way]
    cell = (old.row + down, old.col + right)
    if cell not in free_cells(scene):
        return None
    text, _ = phrase(rng, "edits", way, it=it)
    return Edit("move", text, scene, change(scene, old, replace(old, row=cell[0], col=cell[1])))


def beside(rng: random.Random, scene: Scene) -> Edit | None:
    """Directly left of, right of, above or below another object."""
    if len(scene.objects) < 2:
        return None
    old, other = rng.sample(scene.objects, 2)
    relation = rng.choice(tuple(STEPS))
    cell = (other.row + STEPS[relation][0], other.col + STEPS[relation][1])
    if cell not in free_cells(scene):
        return None
    words = {"it": called(rng, scene, old), "other": called(rng, scene, other)}
    of = rng.choice(RELATIONS_SAID[relation])
    text, _ = phrase(rng, "edits", "beside", relation=of, **words)
    target = change(scene, old, replace(old, row=cell[0], col=cell[1]))
    return Edit("move", text, scene, target, f"{of} {words['other']}")


def resize(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit:
    size = other_size(old)
    text, _ = phrase(rng, "edits", SIZE_KIND[size], it=it)
    return Edit("size", text, scene, change(scene, old, replace(old, size=size)))


def set_background(rng: random.Random, scene: Scene) -> Edit:
    background = rng.choice([b for b in BACKGROUNDS if b != scene.background])
    text, _ = phrase(rng, "edits", background)
    return Edit("background", text, scene, replace(scene, background=background))


def change_all(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) < 2:
        return None
    if rng.random() < 0.5:
        color = rng.choice(tuple(COLORS))
        text, _ = phrase(rng, "edits", "all_color", color=color_word(rng, color))
        return changed(scene, scene.objects, text, color=color)
    size = rng.choice(tuple(SIZES))
    text, _ = phrase(rng, "edits", f"all_{SIZE_KIND[size]}")
    return changed(scene, scene.objects, text, size=size)


def clauses_of(edits: Sequence[Edit]) -> Names:
    """For every cell that one wish after the other changes, the words of the last that does."""
    found: dict[int, str] = {}
    for edit in edits:
        changed = set(edit.source.objects) ^ set(edit.target.objects)
        words = edit.instruction.rstrip(".!?")
        found |= dict.fromkeys((3 * thing.row + thing.col for thing in changed), words)
    return tuple(found.items())


def recolor_two(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    first, second = rng.sample(tuple(COLORS), 2)
    words = {"it": called(rng, scene, a), "color": color_word(rng, first)}
    words |= {"other": called(rng, scene, b), "color2": color_word(rng, second)}
    text, _ = phrase(rng, "edits", "recolor_two", **words)
    half = change(scene, a, replace(a, color=first))
    target = change(half, b, replace(b, color=second))
    said = clauses(text, (a, words["it"], words["color"]), (b, words["other"], words["color2"]))
    return Edit("group", text, scene, target, clauses=said)


def same_color(rng: random.Random, scene: Scene) -> Edit | None:
    if len({o.color for o in scene.objects}) < 2:
        return None
    a = rng.choice(scene.objects)
    b = rng.choice([o for o in scene.objects if o.color != a.color])
    words = {"it": called(rng, scene, a), "other": called(rng, scene, b)}
    text, _ = phrase(rng, "edits", "same_color", **words)
    target = change(scene, a, replace(a, color=b.color))
    return Edit("recolor", text, scene, target, sources=((cell_of(a), words["other"]),))


def swap(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    words = {"it": called(rng, scene, a), "other": called(rng, scene, b)}
    text, _ = phrase(rng, "edits", "swap", **words)
    moved = (replace(a, row=b.row, col=b.col), replace(b, row=a.row, col=a.col))
    rest = tuple(o for o in scene.objects if o not in (a, b))
    return Edit("group", text, scene, scene.with_objects((*rest, *moved)))


def only(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) < 2:
        return None
    found = several(rng, scene)
    if found is not None and len(found[1]) < len(scene.objects) and rng.random() < 0.35:
        them, kept = found
        text, _ = phrase(rng, "edits", "only", it=them)
        return Edit("remove", text, scene, scene.with_objects(tuple(kept)))
    kept = rng.choice(scene.objects)
    text, _ = phrase(rng, "edits", "only", it=called(rng, scene, kept))
    return Edit("remove", text, scene, scene.with_objects((kept,)))


def recolor_and_resize(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit:
    size, color = other_size(old), rng.choice([c for c in COLORS if c != old.color])
    words = {"it": it, "color": color_word(rng, color)}
    text, _ = phrase(rng, "edits", f"recolor_{SIZE_KIND[size]}", **words)
    return Edit("group", text, scene, change(scene, old, replace(old, color=color, size=size)))


def clear(rng: random.Random, scene: Scene) -> Edit:
    return Edit("clear", phrase(rng, "edits", "clear")[0], scene, scene.with_objects(()))


def keep(rng: random.Random, scene: Scene) -> Edit:
    return Edit("keep", phrase(rng, "edits", "keep")[0], scene, scene)


def politely(rng: random.Random, scene: Scene) -> Edit | None:
    """An order of the world's own grammar in a frame of the book."""
    edit = edit_scene(rng, scene)
    if edit is None:
        return None
    order = edit.instruction.rstrip(".!").lower()
    return replace(edit, instruction=phrase(rng, "edits", "ask_politely", order=order)[0])


OF_ONE: dict[Callable[[random.Random, Scene, Object, str], Edit | None], float] = {
    recolor: 6, reshape: 4, remove: 8, move: 7, step: 6, to_edge: 2, resize: 6,
    recolor_and_resize: 3,
}  # fmt: skip
OF_SCENE: dict[Callable[[random.Random, Scene], Edit | None], float] = {
    add: 5, beside: 11, set_background: 2, change_all: 4, recolor_two: 6, same_color: 8, swap: 7,
    only: 7, clear: 0.5, keep: 0.7, politely: 1, one_add: 6, one_like: 8, one_group: 10,
}  # fmt: skip
OF_NOTHING = {add: 3, set_background: 2, keep: 0.3}


def drawn(rng: random.Random, makers: dict[Callable, float]) -> Callable:
    return rng.choices(tuple(makers), tuple(makers.values()))[0]


def about(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit | None:
    """A wish about this object, which the words call `it`."""
    return drawn(rng, OF_ONE)(rng, scene, old, it)


def one_wish(rng: random.Random, scene: Scene) -> Edit | None:
    if not scene.objects:
        return drawn(rng, OF_NOTHING)(rng, scene)
    if rng.random() < 0.45:
        old = rng.choice(scene.objects)
        return about(rng, scene, old, called(rng, scene, old))
    return drawn(rng, OF_SCENE)(rng, scene)
