"""Edits as people ask for them: "the circle should be green", "and bigger", "get rid of it"."""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.edits import Edit, change, free_cells
from small_world.language import with_article
from small_world.layout import USUAL
from small_world.names import reference, references
from small_world.wordings import (
    BACKGROUND_WORDS,
    SCENE_WORDS,
    STATE_WORDS,
    as_typed,
    color_word,
    noun_phrase,
    place_words,
    size_word,
)
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, sample_object, split_of

POLITE = (
    "please {}", "{}, please", "can you {}?", "could you {}?", "now {}", "ok, {}", "and {}",
    "then {}", "{} now", "would you {}?", "i want you to {}", "hey, {}", "next, {}", "{} please",
)  # fmt: skip
REMOVALS = ("get rid of {}", "remove {}", "delete {}", "take {} away", "drop {}", "erase {}",
            "throw {} away", "leave {} out", "take {} out", "take away {}")  # fmt: skip
REMOVAL_WISHES = ("i don't want {}", "{} should go", "without {}", "i do not need {}",
                  "no more {bare}",
                  "{} must go", "{} is too much", "i don't like {}")  # fmt: skip
CLEARINGS = ("remove everything", "clear the picture", "make it empty", "delete all of it",
             "take everything away", "remove all objects", "get rid of everything",
             "empty the picture")  # fmt: skip
KEEPING = ("leave everything as it is", "keep it like this", "do not change anything",
           "change nothing",
           "the same again", "draw it once more", "leave it like that", "again")  # fmt: skip


def named(rng: random.Random, scene: Scene, thing: Object) -> str:
    """The object as the talk has it: "it" where it is alone, "the red one", its full name."""
    if len(scene.objects) == 1 and rng.random() < 0.55:
        return "it"
    unique = [o.color for o in scene.objects].count(thing.color) == 1
    if unique and rng.random() < 0.12:
        return f"the {thing.color} {rng.choice(('one', 'thing', 'object', 'shape'))}"
    column = [o for o in scene.objects if o.shape == thing.shape and o.col == thing.col]
    if not references(scene, thing) and len(column) == 1 and thing.col != 1:
        return f"the {('left', '', 'right')[thing.col]} {thing.shape}"
    return reference(rng, scene, thing)


def politely(rng: random.Random, order: str) -> str:
    return order if rng.random() < 0.5 else rng.choice(POLITE).format(order)


def said(rng: random.Random, orders: tuple[str, ...], wishes: tuple[str, ...]) -> str:
    """An order, perhaps politely, or a wish as it is."""
    if rng.random() < 0.6:
        return politely(rng, rng.choice(orders))
    text = rng.choice(wishes)
    return (
        rng.choice(("{}, please", "now {}", "and {}", "ok, {}", "no, {}")).format(text)
        if rng.random() < 0.25
        else text
    )


def recolor(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    color = rng.choice([c for c in COLORS if c != old.color])
    it, new = named(rng, scene, old), color_word(rng, color)
    orders = [f"make {it} {new}", f"color {it} {new}", f"paint {it} {new}", f"turn {it} {new}",
              f"change the color of {it} to {new}", f"let {it} be {new}",
              f"give {it} the color {new}"]  # fmt: skip
    wishes = [f"{it} should be {new}", f"{it} turns {new}", f"i want {it} to be {new}",
              f"{it} in {new}",
              f"{new} instead of {old.color}", f"{it} is {new}", f"{it} must be {new}",
              f"a {new} {old.shape} instead of the {old.color} one"]  # fmt: skip
    if it == "it":
        orders += [f"change its color to {new}", f"make the color {new}"]
        wishes += [new, new, f"in {new}", f"{new} please", f"{new} again", f"{new} would be nicer"]
    text = said(rng, tuple(orders), tuple(wishes))
    return Edit("recolor", text, scene, change(scene, old, replace(old, color=color)))


def replace_shape(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    shape, color, it = (
        rng.choice([s for s in SHAPES if s != old.shape]),
        old.color,
        named(rng, scene, old),
    )
    if rng.random() < 0.25:
        color = rng.choice(tuple(COLORS))
    new = with_article(shape if color == old.color else f"{color_word(rng, color)} {shape}")
    orders = (f"turn {it} into {new}", f"replace {it} by {new}", f"replace {it} with {new}",
              f"swap {it} for {new}",
              f"make {it} {new}", f"change {it} into {new}", f"exchange {it} for {new}",
              f"make {new} of {it}")  # fmt: skip
    wishes = (f"{new} instead of {it}", f"{it} should be {new}", f"i want {new} instead of {it}",
              f"{it} becomes {new}", f"{new} in place of {it}",
              f"instead of {it} {new}")  # fmt: skip
    return Edit(
        "replace",
        said(rng, orders, wishes),
        scene,
        change(scene, old, replace(old, shape=shape, color=color)),
    )


def add(rng: random.Random, scene: Scene) -> Edit:
    """Where no place is said, in the first of the usual ones that is free."""
    cells = free_cells(scene)
    usual = [cell for cell in USUAL if cell in cells]
    bare = bool(usual) and rng.random() < 0.25
    new = sample_object(rng, usual[0] if bare else rng.choice(cells))
    look = noun_phrase(rng, new, True)
    where = "" if bare else " " + place_words(rng, new.row, new.col)
    look = look if " is " not in look else with_article(f"{new.size} {new.color} {new.shape}")
    orders = (f"add {look}{where}", f"put {look}{where}", f"draw {look}{where} as well",
              f"also draw {look}{where}",
              f"place {look}{where}")  # fmt: skip
    wishes = (f"there should also be {look}{where}", f"i also want {look}{where}",
              f"also {look}{where}",
              f"and {look}{where}", f"{look} too{where}", f"with {look}{where}",
              f"plus {look}{where}",
              f"and now {look}{where} as well")  # fmt: skip
    return Edit("add", said(rng, orders, wishes), scene, scene.with_objects((*scene.objects, new)))


def clear(rng: random.Random, scene: Scene) -> Edit:
    return Edit("clear", politely(rng, rng.choice(CLEARINGS)), scene, scene.with_objects(()))


def remove(rng: random.Random, scene: Scene) -> Edit:
    """One object; of twins the last in reading order, where none is named; or everything."""
    if rng.random() < 0.12:
        return clear(rng, scene)
    old = rng.choice(scene.objects)
    alike = [o for o in scene.objects if (o.shape, o.color) == (old.shape, old.color)]
    it = named(rng, scene, old)
    if len(alike) > 1 and rng.random() < 0.7:
        old, it = (
            alike[-1],
            rng.choice(
                (
                    "one of them",
                    f"one of the {old.shape}s".replace("ss", "sses"),
                    f"one {old.shape}",
                )
            ),
        )
        if len(alike) < len(scene.objects) and it == "one of them":
            it = f"one {old.shape}"
    left = tuple(o for o in scene.objects if o is not old)
    orders = tuple(form.format(it) for form in REMOVALS)
    wishes = tuple(
        form.format(it, bare=it.removeprefix("the "))
        for form in REMOVAL_WISHES
        if it != "it" or "bare" not in form
    )
    if len(left) == 1 and len(scene.objects) == 2:
        kept = named(rng, scene, left[0])
        wishes += (f"only {kept}", f"keep {kept}, drop {it}", f"just keep {kept}")
    return Edit("remove", said(rng, orders, wishes), scene, scene.with_objects(left))


def move(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    row, col = rng.choice(free_cells(scene))
    it, where = named(rng, scene, old), place_words(rng, row, col)
    to = "to the " + where.partition(" the ")[2] if " the " in where else where
    orders = (f"move {it} {to}", f"shift {it} {to}", f"put {it} {where}", f"bring {it} {to}",
              f"place {it} {where}",
              f"push {it} {to}", f"move {it} {where}", f"let {it} stand {where}")  # fmt: skip
    wishes = (f"{it} should be {where}", f"{it} goes {to}", f"i want {it} {where}",
              f"{it} belongs {where}",
              f"{it} {where}", f"{it} moves {to}")  # fmt: skip
    return Edit(
        "move", said(rng, orders, wishes), scene, change(scene, old, replace(old, row=row, col=col))
    )


def change_background(rng: random.Random, scene: Scene) -> Edit:
    background = rng.choice([b for b in BACKGROUNDS if b != scene.background])
    where, noun = rng.choice(BACKGROUND_WORDS[background]), rng.choice(SCENE_WORDS[background])
    state = rng.choice(STATE_WORDS[background])
    special = {"day": "let the sun shine", "night": "let it get dark",
               "desert": "bring it to the desert",
               "snow": "let it snow", "fog": "let fog come up"}[background]  # fmt: skip
    orders = (f"make it {state}", f"make it {noun}", special,
              f"change the background to {background}",
              f"put it {where}", f"show it {where}", f"set it {where}")  # fmt: skip
    wishes = (f"now {where}", f"and {where}", where, f"it should be {state}",
              f"i want it to be {noun}", f"it is {state}",
              f"i want {noun}", noun, f"{state} please", f"it gets {state}",
              f"no more {scene.background}, {noun}",
              f"the same {where}", f"and now {where}")  # fmt: skip
    return Edit(
        "background", said(rng, orders, wishes), scene, replace(scene, background=background)
    )


def resize(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    size = "big" if old.size == "small" else "small"
    more = {
        "big": ("bigger", "larger", "a bit bigger", "much bigger"),
        "small": ("smaller", "a bit smaller", "tinier"),
    }
    it, new = named(rng, scene, old), rng.choice((*more[size], size_word(rng, size)))
    orders = (f"make {it} {new}", f"let {it} be {new}", f"make {it} {new}")
    wishes = [
        f"{it} should be {new}",
        f"i want {it} {new}",
        f"{it} could be {new}",
        f"could {it} be {new}?",
    ]
    if it == "it":
        wishes += [new, f"and {new}", f"{new} please", f"now {new}"]
    other = [o for o in scene.objects if o.size == size]
    if other and it != "it":
        wishes.append(f"make {it} as {size} as {named(rng, scene, other[0])}")
    return Edit(
        "size", said(rng, orders, tuple(wishes)), scene, change(scene, old, replace(old, size=size))
    )


def recolor_all(rng: random.Random, scene: Scene) -> Edit:
    color = rng.choice(tuple(COLORS))
    them = "both of them" if len(scene.objects) == 2 else "all of them"
    them = rng.choice((them, them.split(" ")[0] + " objects", "everything"))
    new = color_word(rng, color)
    orders = (
        f"make {them} {new}",
        f"paint {them} {new}",
        f"color {them} {new}",
        f"turn {them} {new}",
    )
    wishes = (f"{them} should be {new}", f"{them} in {new}", f"i want {them} {new}")
    target = scene.with_objects(tuple(replace(o, color=color) for o in scene.objects))
    return Edit("recolor", said(rng, orders, wishes), scene, target)


def recolor_and_resize(rng: random.Random, scene: Scene) -> Edit:
    first = recolor(rng, scene)
    old = next(o for o in scene.objects if o not in first.target.objects)
    new = next(o for o in first.target.objects if o not in scene.objects)
    size = "big" if old.size == "small" else "small"
    it, word = named(rng, scene, old), size_word(rng, size)
    text = rng.choice((f"make {it} {word} and {new.color}",
                       f"{it} should be {new.color} and {word}",
                       f"make {it} {new.color} and {word}"))  # fmt: skip
    return Edit("recolor", text, scene, change(scene, old, replace(new, size=size)))


def keep(rng: random.Random, scene: Scene) -> Edit:
    return Edit("keep", politely(rng, rng.choice(KEEPING)), scene, scene)


FREE_EDITS: dict[str, Callable[[random.Random, Scene], Edit]] = {
    "recolor": recolor, "replace": replace_shape, "add": add, "remove": remove, "move": move,
    "background": change_background, "size": resize, "all": recolor_all, "two": recolor_and_resize,
    "keep": keep,
}  # fmt: skip
WEIGHTS = (3, 2, 2, 2.5, 2, 2, 1.5, 0.4, 0.4, 0.15)


def free_edit(rng: random.Random, scene: Scene, split: str = "any") -> Edit:
    """An edit whose target lies in the split, or is empty; from an empty scene, too."""
    while True:
        kind = rng.choices(tuple(FREE_EDITS), WEIGHTS)[0]
        count = len(scene.objects)
        if (kind == "add" and count == 3) or (kind == "all" and count < 2):
            continue
        if count == 0 and kind not in ("add", "background", "keep"):
            continue
        edit = FREE_EDITS[kind](rng, scene)
        if split == "any" or not edit.target.objects or split_of(edit.target) == split:
            return replace(edit, instruction=as_typed(rng, edit.instruction))
        if kind == "add" and rng.random() < 0.05:
            kind = "background"
