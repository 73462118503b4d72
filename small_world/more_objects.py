"""Edits that bring more of what is there: "another one, but small", "make a copy of it".

For training alone; the benchmark's held-out edits do not sample from here.
"""

import random
from dataclasses import replace

from small_world.edits import Edit, free_cells
from small_world.free_edits import named
from small_world.language import NUMBERS, plural, with_article
from small_world.layout import USUAL, Cell
from small_world.wordings import color_word, size_word
from small_world.world import COLORS, SHAPES, SIZES, Object, Scene

SHORTLY = ("{}, please", "{} please", "now {}", "and {}", "ok, {}", "then {}")


def shortly(rng: random.Random, wish: str) -> str:
    """A wish that is no order, perhaps with a word before or after it."""
    return wish if rng.random() < 0.5 else rng.choice(SHORTLY).format(wish)


def copies(old: Object, it: str) -> tuple[str, ...]:
    look = f"{old.color} {old.shape}"
    forms = (f"one more {look}", f"another {look}", f"the same {old.shape} again")
    alone = ("another one", "one more", "one more of these", "a second one", "the same once more")
    return forms + alone if it == "it" else forms


def colored(shape: str, word: str, it: str) -> tuple[str, ...]:
    forms = (f"one more {shape}, {with_article(word)} one", f"another {shape}, but {word}",
             f"one more {shape} in {word}", f"a second {shape} that is {word}",
             f"another {shape}, {word}", f"another {shape} in {word}")  # fmt: skip
    alone = (f"and {with_article(word)} one", f"another one in {word}", f"and one in {word}",
             f"{with_article(word)} one as well", f"also {with_article(word)} one",
             f"another one, but {word}", f"add {with_article(word)} one")  # fmt: skip
    return alone if it == "it" else forms


def sized(old: Object, word: str, it: str) -> tuple[str, ...]:
    look = f"{old.color} {old.shape}"
    forms = (f"another {look}, but {word}", f"one more {look}, but {word}")
    alone = (f"another one, but {word}", f"add {with_article(word)} one",
             f"and {with_article(word)} one", f"another one next to it, but {word}",
             f"the same, but {word}, next to it")  # fmt: skip
    return alone if it == "it" else forms


def another(rng: random.Random, scene: Scene, old: Object, it: str) -> Edit | None:
    """One more of `old`, which the talk calls `it`, as it is or in another colour or size."""
    cells = [cell for cell in USUAL if cell in free_cells(scene)]
    if len(scene.objects) == 3 or not cells:
        return None
    new = replace(old, row=cells[0][0], col=cells[0][1])
    kind = rng.choice(("copy", "color", "size"))
    if kind == "copy":
        forms = copies(old, it)
        if rng.random() < 0.4:
            forms = (f"make a copy of {it}", f"copy {it}", f"double {it}", f"duplicate {it}")
    elif kind == "color":
        color = rng.choice([c for c in COLORS if c != old.color])
        new, forms = replace(new, color=color), colored(old.shape, color_word(rng, color), it)
    else:
        size = "big" if old.size == "small" else "small"
        new, forms = replace(new, size=size), sized(old, size_word(rng, size), it)
    text = shortly(rng, rng.choice(forms))
    return Edit("add", text, scene, scene.with_objects((*scene.objects, new)))


def add_more(rng: random.Random, scene: Scene) -> Edit | None:
    """One more of something, or two of a kind."""
    if len(scene.objects) < 2 and rng.random() < (0.3 if scene.objects else 1.0):
        return add_two(rng, scene, [cell for cell in USUAL if cell in free_cells(scene)])
    old = rng.choice(scene.objects)
    return another(rng, scene, old, named(rng, scene, old))


def add_two(rng: random.Random, scene: Scene, cells: list[Cell]) -> Edit:
    shape, color, size = rng.choice(SHAPES), rng.choice(tuple(COLORS)), rng.choice(tuple(SIZES))
    number = 2 if scene.objects else rng.choice((2, 2, 3))
    words = f"{size_word(rng, size)} {color_word(rng, color)} {plural(shape)}"
    form = rng.choice(("put {} {} here", "add {} {}", "draw {} {} there", "also {} {}",
                       "place {} {} there", "{} {}, too"))  # fmt: skip
    new = [Object(shape, color, size, *cell) for cell in cells[:number]]
    text = shortly(rng, form.format(NUMBERS[number], words))
    return Edit("add", text, scene, scene.with_objects((*scene.objects, *new)))
