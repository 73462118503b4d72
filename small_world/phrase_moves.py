"""Moves across the picture, and of all that is in it. For training alone."""

import random
from collections.abc import Sequence
from dataclasses import replace

from small_world.called import called
from small_world.edits import Edit, change, free_cells
from small_world.phrases import phrase
from small_world.world import Object, Scene

WAYS = {"up": (-1, 0), "down": (1, 0), "to the left": (0, -1), "to the right": (0, 1)}
LAST = 2  # row and column of a picture


def across(thing: Object) -> list[tuple[str, tuple[int, int]]]:
    """The cell at the other side, in its row or its column; or in the corner that is opposite."""
    row, col = thing.cell
    found = []
    if col != 1:
        found.append(("other_side", (row, LAST - col)))
    elif row != 1:
        found.append(("other_side", (LAST - row, col)))
    if 1 not in (row, col):
        found.append(("other_corner", (LAST - row, LAST - col)))
    return found


def move_across(rng: random.Random, scene: Scene) -> Edit | None:
    """ "the star to the other side", "move it to the opposite corner"."""
    old = rng.choice(scene.objects)
    ways = [(kind, cell) for kind, cell in across(old) if cell in free_cells(scene)]
    if not ways:
        return None
    kind, (row, col) = rng.choice(ways)
    text, _ = phrase(rng, "edits", kind, it=called(rng, scene, old))
    return Edit("move", text, scene, change(scene, old, replace(old, row=row, col=col)))


def moved_by(things: Sequence[Object], way: str, cells: int) -> list[Object] | None:
    """The things so many cells further; None where one would leave the picture."""
    down, right = (cells * step for step in WAYS[way])
    moved = [replace(o, row=o.row + down, col=o.col + right) for o in things]
    inside = all(0 <= o.row <= LAST and 0 <= o.col <= LAST for o in moved)
    return moved if inside else None


def shift_all(rng: random.Random, scene: Scene) -> Edit | None:
    """ "everything one row down"."""
    way = rng.choice(tuple(WAYS))
    moved = moved_by(scene.objects, way, 1)
    if moved is None:
        return None
    text, _ = phrase(rng, "edits", "shift_all", way=way)
    return Edit("group", text, scene, scene.with_objects(tuple(moved)))
