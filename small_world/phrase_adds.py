"""Something new beside, like or of the colour of another object. For training alone."""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.called import called
from small_world.edits import STEPS, Edit, free_cells
from small_world.language import plural, with_article
from small_world.layout import USUAL
from small_world.phrases import phrase
from small_world.placed_captions import CORNERS
from small_world.questions import cell_of
from small_world.wordings import RELATIONS_SAID, color_word, size_word, spot
from small_world.world import Object, Scene, sample_object

FULL = 3  # objects of a picture


def look_said(rng: random.Random, thing: Object, sized: float) -> str:
    """ "a red star", now and then "red star", and as often as `sized` "a small red star"."""
    look = f"{color_word(rng, thing.color)} {thing.shape}"
    look = f"{size_word(rng, thing.size)} {look}" if rng.random() < sized else look
    return look if rng.random() < 0.15 else with_article(look)


def usual_cells(scene: Scene) -> list[tuple[int, int]]:
    return [cell for cell in USUAL if cell in free_cells(scene)]


def added(scene: Scene, text: str, *new: Object, **told: object) -> Edit:
    return Edit("add", text, scene, scene.with_objects((*scene.objects, *new)), **told)


def add_beside(rng: random.Random, scene: Scene) -> Edit | None:
    """ "put a small red star right of the ring"."""
    other, relation = rng.choice(scene.objects), rng.choice(tuple(STEPS))
    cell = (other.row + STEPS[relation][0], other.col + STEPS[relation][1])
    if len(scene.objects) == FULL or cell not in free_cells(scene):
        return None
    new = sample_object(rng, cell)
    of, name = rng.choice(RELATIONS_SAID[relation]), called(rng, scene, other)
    words = {"thing": look_said(rng, new, 1.0), "relation": of, "other": name}
    text, _ = phrase(rng, "edits", "add_beside", **words)
    return added(scene, text, new, where=f"{of} {name}" if f"{of} {name}" in text else "")


def add_same_color(rng: random.Random, scene: Scene) -> Edit | None:
    """ "a big triangle in the colour of the star"."""
    cells, other = usual_cells(scene), rng.choice(scene.objects)
    if len(scene.objects) == FULL or not cells:
        return None
    new = replace(sample_object(rng, cells[0]), color=other.color)
    words = {"thing": with_article(f"{size_word(rng, new.size)} {new.shape}")}
    words["other"] = called(rng, scene, other)
    text, _ = phrase(rng, "edits", "add_same_color", **words)
    return added(scene, text, new, sources=((cell_of(new), words["other"]),))


def copy(rng: random.Random, scene: Scene) -> Edit | None:
    """ "one more exactly like the ring, at the top left"."""
    other = rng.choice(scene.objects)
    row, col = rng.choice(free_cells(scene))
    if len(scene.objects) == FULL:
        return None
    words = {"it": called(rng, scene, other), "where": spot(rng, row, col)}
    text, _ = phrase(rng, "edits", "copy", **words)
    new = replace(other, row=row, col=col)
    return added(scene, text, new, sources=((cell_of(new), words["it"]),))


def add_two(rng: random.Random, scene: Scene) -> Edit | None:
    """ "a star and a circle as well"; the first that is said comes to the first usual place."""
    cells = usual_cells(scene)
    if len(scene.objects) != 1 or len(cells) < 2:
        return None
    new = [sample_object(rng, cell) for cell in cells[:2]]
    if new[0].shape == new[1].shape:
        return None
    words = [look_said(rng, thing, 1.0) for thing in new]
    text, _ = phrase(rng, "edits", "add_two", thing=words[0], thing2=words[1])
    if text.find(words[0]) > text.find(words[1]):
        new = [replace(new[0], row=new[1].row, col=new[1].col),
               replace(new[1], row=new[0].row, col=new[0].col)]  # fmt: skip
    said = tuple((cell_of(thing), look) for thing, look in zip(new, words, strict=True))
    return added(scene, text, *new, clauses=said)


def between(rng: random.Random, scene: Scene) -> Edit | None:
    """ "a star between the ring and the cross", where they leave one cell."""
    if len(scene.objects) != 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    row, col = (a.row + b.row) / 2, (a.col + b.col) / 2
    if (row, col) not in free_cells(scene):
        return None
    new = sample_object(rng, (int(row), int(col)))
    words = {"thing": look_said(rng, new, 1.0), "other": called(rng, scene, a)}
    text, _ = phrase(rng, "edits", "between", third=called(rng, scene, b), **words)
    return added(scene, text, new, clauses=((cell_of(new), words["thing"]),))


def add_corners(rng: random.Random, scene: Scene) -> Edit | None:
    """ "two small red stars, one in each of the bottom corners"."""
    side = rng.choice(tuple(CORNERS))
    if len(scene.objects) != 1 or any(cell not in free_cells(scene) for cell in CORNERS[side]):
        return None
    first, second = (sample_object(rng, cell) for cell in CORNERS[side])
    second = replace(first, row=second.row, col=second.col)
    look = f"{size_word(rng, first.size)} {color_word(rng, first.color)} {plural(first.shape)}"
    text, _ = phrase(rng, "edits", "add_corners", things=f"two {look}", corners=f"{side} corner")
    return added(
        scene, text, first, second, clauses=((cell_of(first), look), (cell_of(second), look))
    )


def add_sides(rng: random.Random, scene: Scene) -> Edit | None:
    """ "one small red ring on either side of the star", or above and below it."""
    if len(scene.objects) != 1:
        return None
    (other,) = scene.objects
    kind, (down, right) = rng.choice((("add_sides", (0, 1)), ("add_above_below", (1, 0))))
    cells = [(other.row + way * down, other.col + way * right) for way in (-1, 1)]
    if any(cell not in free_cells(scene) for cell in cells):
        return None
    first = sample_object(rng, cells[0])
    second = replace(first, row=cells[1][0], col=cells[1][1])
    look = f"{size_word(rng, first.size)} {color_word(rng, first.color)} "
    words = {"look": look + first.shape, "looks": look + plural(first.shape)}
    text, used = phrase(rng, "edits", kind, it=called(rng, scene, other), **words)
    said = words["looks"] if "looks" in used else words["look"]
    return added(
        scene, text, first, second, clauses=tuple((cell_of(o), said) for o in (first, second))
    )


ADDS: dict[Callable[[random.Random, Scene], Edit | None], float] = {
    add_beside: 6, add_same_color: 2, copy: 3, add_two: 3, between: 1, add_corners: 1,
    add_sides: 1.5,
}  # fmt: skip


def one_add(rng: random.Random, scene: Scene) -> Edit | None:
    return rng.choices(tuple(ADDS), tuple(ADDS.values()))[0](rng, scene)
