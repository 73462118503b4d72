"""Edits of all that share a colour, of groups that move, of all but one. For training alone."""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.called import called, several
from small_world.edits import Edit, free_cells
from small_world.group_edits import changed
from small_world.phrase_moves import WAYS, moved_by
from small_world.phrases import phrase
from small_world.wordings import color_word
from small_world.world import COLORS, SIZES, Scene


def recolor_color(rng: random.Random, scene: Scene) -> Edit:
    """ "everything that is red should be blue", of one object or of several."""
    old = rng.choice(scene.objects).color
    new = rng.choice([color for color in COLORS if color != old])
    words = {"old": color_word(rng, old), "color": color_word(rng, new)}
    text, _ = phrase(rng, "edits", "recolor_color", **words)
    return changed(scene, [o for o in scene.objects if o.color == old], text, color=new)


def all_but_looks(rng: random.Random, scene: Scene) -> Edit | None:
    """ "leave the ring, all else big and green"."""
    if len(scene.objects) < 2:
        return None
    kept = rng.choice(scene.objects)
    color, size = rng.choice(tuple(COLORS)), rng.choice(tuple(SIZES))
    words = {"it": called(rng, scene, kept), "color": color_word(rng, color), "size": size}
    text, _ = phrase(rng, "edits", "all_but_looks", **words)
    others = [o for o in scene.objects if o != kept]
    edit = changed(scene, others, text, color=color, size=size)
    return edit if edit.target != scene else None


def step_group(rng: random.Random, scene: Scene) -> Edit | None:
    """ "both stars one cell down", "move the small things two steps to the left"."""
    found = several(rng, scene)
    if found is None:
        return None
    (them, things), way = found, rng.choice(tuple(WAYS))
    cells, kind = rng.choice(((1, "group_step"), (1, "group_step"), (2, "group_two_steps")))
    moved = moved_by(things, way, cells)
    rest = [o for o in scene.objects if o not in things]
    if moved is None or {o.cell for o in moved} & {o.cell for o in rest}:
        return None
    text, _ = phrase(rng, "edits", kind, them=them, way=way)
    return Edit("group", text, scene, scene.with_objects((*rest, *moved)))


def step_aside(rng: random.Random, scene: Scene) -> Edit | None:
    """ "the star one step left and then one step down"."""
    old = rng.choice(scene.objects)
    ways = [rng.choice(("up", "down")), rng.choice(("to the left", "to the right"))]
    down, right = WAYS[ways[0]][0], WAYS[ways[1]][1]
    cell = (old.row + down, old.col + right)
    if cell not in free_cells(scene):
        return None
    rng.shuffle(ways)
    it = called(rng, scene, old)
    text, _ = phrase(rng, "edits", "step_corner", it=it, way=ways[0], way2=ways[1])
    rest = tuple(o for o in scene.objects if o != old)
    new = replace(old, row=cell[0], col=cell[1])
    return Edit("move", text, scene, scene.with_objects((*rest, new)))


GROUPS: dict[Callable[[random.Random, Scene], Edit | None], float] = {
    recolor_color: 5, all_but_looks: 2.5, step_group: 5, step_aside: 3,
}  # fmt: skip


def one_group(rng: random.Random, scene: Scene) -> Edit | None:
    return rng.choices(tuple(GROUPS), tuple(GROUPS.values()))[0](rng, scene)
