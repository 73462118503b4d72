"""Objects that become like another one, all but one, to the edge. For training alone."""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.called import called
from small_world.edits import Edit, change, free_cells
from small_world.group_edits import changed
from small_world.language import plural
from small_world.phrase_moves import WAYS, move_across, moved_by, shift_all
from small_world.phrases import phrase
from small_world.questions import cell_of
from small_world.wordings import color_word
from small_world.world import COLORS, SHAPES, SIZES, Object, Scene

EDGES = {
    "far_up": ("row", 0),
    "far_down": ("row", 2),
    "far_left": ("col", 0),
    "far_right": ("col", 2),
}
SIZE_KIND = {"big": "grow", "small": "shrink"}


def unless_kept(edit: Edit) -> Edit | None:
    return edit if edit.target != edit.source else None


def all_but(rng: random.Random, scene: Scene) -> Edit | None:
    """ "all but the star in red"."""
    if len(scene.objects) < 2:
        return None
    kept = rng.choice(scene.objects)
    others, it = [o for o in scene.objects if o != kept], called(rng, scene, kept)
    trait = rng.choice(("color", "color", "size", "shape"))
    if trait == "color":
        color = rng.choice(tuple(COLORS))
        text, _ = phrase(rng, "edits", "all_but_color", it=it, color=color_word(rng, color))
        return unless_kept(changed(scene, others, text, color=color))
    if trait == "size":
        size = rng.choice(tuple(SIZES))
        text, _ = phrase(rng, "edits", f"all_but_{SIZE_KIND[size]}", it=it)
        return unless_kept(changed(scene, others, text, size=size))
    shape = rng.choice(SHAPES)
    text, _ = phrase(rng, "edits", "all_but_replace", it=it, nouns=plural(shape))
    return unless_kept(changed(scene, others, text, shape=shape))


def same_trait(rng: random.Random, scene: Scene) -> Edit | None:
    """The size or the shape of another one."""
    trait = rng.choice(("size", "shape"))
    if len({getattr(o, trait) for o in scene.objects}) < 2:
        return None
    a = rng.choice(scene.objects)
    b = rng.choice([o for o in scene.objects if getattr(o, trait) != getattr(a, trait)])
    words = {"it": called(rng, scene, a), "other": called(rng, scene, b)}
    text, _ = phrase(rng, "edits", f"same_{trait}", **words)
    target = change(scene, a, replace(a, **{trait: getattr(b, trait)}))
    return Edit("same", text, scene, target, sources=((cell_of(a), words["other"]),))


def to_edge(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit | None:
    """ "all the way up": as far as it goes in its row or column."""
    kind = rng.choice(tuple(EDGES))
    line, last = EDGES[kind]
    new = replace(old, **{line: last})
    if new.cell not in free_cells(scene):
        return None
    text, _ = phrase(rng, "edits", kind, it=it)
    return Edit("move", text, scene, change(scene, old, new))


def two_steps(rng: random.Random, scene: Scene) -> Edit | None:
    """ "two cells to the right"."""
    old, way = rng.choice(scene.objects), rng.choice(tuple(WAYS))
    moved = moved_by([old], way, 2)
    if moved is None or moved[0].cell not in free_cells(scene):
        return None
    text, _ = phrase(rng, "edits", "two_steps", it=called(rng, scene, old), way=way)
    return Edit("move", text, scene, change(scene, old, moved[0]))


def move_between(rng: random.Random, scene: Scene) -> Edit | None:
    """Into the cell between the two others."""
    if len(scene.objects) < 3:
        return None
    old, a, b = rng.sample(scene.objects, 3)
    cell = ((a.row + b.row) / 2, (a.col + b.col) / 2)
    if cell not in free_cells(scene):
        return None
    names = {"other": called(rng, scene, a), "third": called(rng, scene, b)}
    text, _ = phrase(rng, "edits", "move_between", it=called(rng, scene, old), **names)
    new = replace(old, row=int(cell[0]), col=int(cell[1]))
    return Edit("move", text, scene, change(scene, old, new))


LIKES: dict[Callable[[random.Random, Scene], Edit | None], float] = {
    all_but: 5, same_trait: 2, two_steps: 3, move_between: 3, move_across: 3, shift_all: 2,
}  # fmt: skip


def one_like(rng: random.Random, scene: Scene) -> Edit | None:
    return rng.choices(tuple(LIKES), tuple(LIKES.values()))[0](rng, scene)
