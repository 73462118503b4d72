"""Captions of three in a line, or of one in the middle and two beside it. For training alone."""

import random
from dataclasses import replace

from small_world.edits import STEPS
from small_world.free_captions import Named
from small_world.phrase_looks import Said, several_looks
from small_world.phrases import phrase
from small_world.placed_captions import here
from small_world.wordings import OF_IT
from small_world.world import Scene

MIDDLE = (1, 1)


def at(named: Named, cells: list[tuple[int, int]]) -> Named:
    """The objects, in the order of their mention, in these cells, which the words mean."""
    things = [replace(o, row=r, col=c) for (o, _, _), (r, c) in zip(named, cells, strict=True)]
    return [(o, here(wish, o), words) for o, (_, wish, words) in zip(things, named, strict=True)]


def beside_middle(relation: str, cells: int = 1) -> tuple[int, int]:
    down, right = STEPS[relation]
    return MIDDLE[0] + cells * down, MIDDLE[1] + cells * right


def chain(rng: random.Random, scene: Scene) -> Said | None:
    """ "a star, to its right a ring, and to its right a cross": the second in the middle."""
    found = several_looks(rng, scene)
    if found is None:
        return None
    relation = rng.choice(tuple(STEPS))
    slots = dict(zip(("thing", "thing2", "thing3"), (words for *_, words in found), strict=True))
    text, _ = phrase(rng, "draw", "chain", relation_it=rng.choice(OF_IT[relation]), **slots)
    cells = [beside_middle(relation, cells) for cells in (-1, 0, 1)]
    return text, at(found, cells), None, False


def around(rng: random.Random, scene: Scene) -> Said | None:
    """ "a ring in the middle with a star above it and a cross below it"."""
    found = several_looks(rng, scene)
    if found is None:
        return None
    first, second = rng.sample(tuple(STEPS), 2)
    slots = dict(zip(("thing", "thing2", "thing3"), (words for *_, words in found), strict=True))
    slots |= {"relation_it": rng.choice(OF_IT[first]), "relation_it2": rng.choice(OF_IT[second])}
    text, _ = phrase(rng, "draw", "around", **slots)
    return text, at(found, [MIDDLE, beside_middle(first), beside_middle(second)]), None, False
