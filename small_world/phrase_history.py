"""Wishes that only the talk explains: "the new one red", "top left instead", "swap them again".

For training alone.
"""

import random
from dataclasses import dataclass, replace

from small_world.edits import STEPS, Edit, free_cells
from small_world.leaning import Talk, edit_of
from small_world.phrase_edits import about, bare_place
from small_world.phrases import phrase
from small_world.wordings import OF_IT, color_word, size_word, spot, terse_place
from small_world.world import COLORS, SIZES, Object, Scene

NEW = ("the new one", "the new one", "the one you just added", "the last one", "the latest one",
       "the second one", "the newest")  # fmt: skip
OLD = ("the old one", "the first one", "the original", "the one from before", "the first")


@dataclass
class PhraseTalk(Talk):
    """`last` is the newest edit, if it was the last that was drawn, else what `undone` tells.

    `order` are the two objects of a new picture, as they were said.
    """

    last: Edit | None = None
    undone: bool = False
    order: tuple[Object, ...] = ()


def follow(rng: random.Random, kind: str, **words: str) -> str:
    return phrase(rng, "follow", kind, **words)[0]


def aged_names(talk: PhraseTalk) -> list[tuple[Object, tuple[str, ...]]]:
    """Two objects by when they came: the new one and the old one, the first and the second."""
    if talk.last is not None and len(talk.scene.objects) == 2:
        before = talk.last.source.objects
        new = [o for o in talk.scene.objects if o not in before]
        if len(before) == len(new) == 1:
            old = before[0]
            return [(new[0], NEW), (old, OLD)] if old in talk.scene.objects else []
    if len(talk.order) == 2 and talk.last is None and set(talk.order) == set(talk.scene.objects):
        first, second = talk.order
        return [(first, ("the first one", "the first")),
                (second, ("the second one", "the last one", "the second"))]  # fmt: skip
    return []


def by_age(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """ "the new one pink"."""
    found = aged_names(talk)
    if not found:
        return None
    thing, names = rng.choice(found)
    return about(rng, talk.scene, thing, rng.choice(names))


def other_one(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """Anything about the other one of two."""
    others = [o for o in talk.scene.objects if o != talk.it]
    if talk.it is None or len(others) != 1:
        return None
    return about(rng, talk.scene, others[0], rng.choice(("the other one", "the other")))


def copy_it(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """One more like it, at a place or next to it."""
    if talk.it is None or len(talk.scene.objects) == 3:
        return None
    free = free_cells(talk.scene)
    relation = rng.choice(tuple(STEPS))
    cell = (talk.it.row + STEPS[relation][0], talk.it.col + STEPS[relation][1])
    if cell in free and rng.random() < 0.5:
        text = follow(rng, "twin", relation_it=rng.choice(OF_IT[relation]))
    else:
        cell = rng.choice(free)
        text = follow(rng, "copy_it", where=spot(rng, *cell))
    new = replace(talk.it, row=cell[0], col=cell[1])
    return Edit("add", text, talk.scene, talk.scene.with_objects((*talk.scene.objects, new)))


def put_it_here(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """ "no, top left"."""
    if talk.it is None:
        return None
    row, col = rng.choice(free_cells(talk.scene))
    terse = rng.random() < 0.6
    place = rng.choice(terse_place(row, col)) if terse else bare_place(rng, row, col)
    text = follow(rng, "here", place=place)
    return edit_of(talk.scene, talk.it, replace(talk.it, row=row, col=col), text)


def exchange(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """ "swap them" and "swap their colours"."""
    if len(talk.scene.objects) != 2:
        return None
    a, b = talk.scene.objects
    if rng.random() < 0.5:
        pair = (replace(a, row=b.row, col=b.col), replace(b, row=a.row, col=a.col))
        text = follow(rng, "swap_them")
    elif a.color != b.color:
        pair = (replace(a, color=b.color), replace(b, color=a.color))
        text = follow(rng, "swap_their_colors")
    else:
        return None
    return Edit("group", text, talk.scene, talk.scene.with_objects(pair))


def back_but(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """What was just taken away comes back with another look."""
    if talk.last is None or len(talk.last.source.objects) != len(talk.scene.objects) + 1:
        return None
    gone = [o for o in talk.last.source.objects if o not in talk.scene.objects]
    if len(gone) != 1:
        return None
    if rng.random() < 0.5:
        size = rng.choice(tuple(SIZES))
        text = follow(rng, "back_but_size", size=size_word(rng, size))
        new = replace(gone[0], size=size)
    else:
        color = rng.choice([c for c in COLORS if c != gone[0].color])
        text = follow(rng, "back_but_color", color=color_word(rng, color))
        new = replace(gone[0], color=color)
    return Edit("add", text, talk.scene, talk.scene.with_objects((*talk.scene.objects, new)))


def can_undo_two(scenes: list[Scene]) -> bool:
    """Whether two changes lead back to another picture than this one and the last."""
    return len(scenes) > 2 and scenes[-3] not in scenes[-2:]
