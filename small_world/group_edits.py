"""Edits of several objects, by comparison or by place: "swap them", "remove the upper one".

For training alone; the benchmark's held-out edits do not sample from here.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from blip3u_core.language.prompt import INSTRUCTION_REQUEST, PICTURE
from small_world.edits import Edit, change, clauses, free_cells
from small_world.free_edits import REMOVALS, clear, named, politely
from small_world.language import join_list, plural, with_article
from small_world.more_objects import add_more, shortly
from small_world.names import reference
from small_world.samples import Sample, Turn, dialogue_sample, user
from small_world.wordings import as_typed, color_word, size_word
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    sample_scene,
    split_of,
)

TRIES = 200  # one scene in sixteen is held out, and few edits lead to one
BIGGER = {"big": ("bigger", "larger", "big", "huge"), "small": ("smaller", "small", "tiny")}


def changed(
    scene: Scene, things: Sequence[Object], text: str, kind: str = "group", **looks: str
) -> Edit:
    """An edit that gives these objects that look."""
    target = tuple(replace(o, **looks) if o in things else o for o in scene.objects)
    return Edit(kind, text, scene, scene.with_objects(target))


def without(scene: Scene, gone: Sequence[Object], text: str) -> Edit:
    left = tuple(o for o in scene.objects if o not in gone)
    return Edit("remove", text, scene, scene.with_objects(left))


def group(rng: random.Random, scene: Scene) -> tuple[str, list[Object]] | None:
    """Words for some of the objects: all, all of a shape, of a colour, of a size."""
    kind = rng.choice(("all", "shape", "color", "size"))
    first = rng.choice(scene.objects)
    if kind == "all":
        them = rng.choice(("everything", "all of them", "them all", "all objects"))
        if len(scene.objects) == 2:
            them = rng.choice(("both", "both of them", "them both", "everything", "them"))
        return (them, list(scene.objects)) if len(scene.objects) > 1 else None
    things = [o for o in scene.objects if getattr(o, kind) == getattr(first, kind)]
    if len(things) < 2:
        return None
    noun = rng.choice(("objects", "things", "shapes", "ones"))
    words = {"shape": plural(first.shape), "color": f"{first.color} {noun}",
             "size": f"{first.size} {noun}"}[kind]  # fmt: skip
    every = rng.choice(("all ", "the ", "all the ", "the two " if len(things) == 2 else "the "))
    return every + words, things


def recolor_group(rng: random.Random, scene: Scene) -> Edit | None:
    found = group(rng, scene)
    if found is None:
        return None
    (them, things), color = found, rng.choice(tuple(COLORS))
    word = color_word(rng, color)
    text = rng.choice((f"make {them} {word}", f"paint {them} {word}", f"turn {them} {word}",
                       f"{them} should be {word}", f"color {them} {word}", f"{them} in {word}",
                       f"i want {them} to be {word}"))  # fmt: skip
    return changed(scene, things, politely(rng, text), color=color)


def resize_group(rng: random.Random, scene: Scene) -> Edit | None:
    found, size = group(rng, scene), rng.choice(tuple(SIZES))
    if found is None:
        return None
    them, things = found
    word = rng.choice(BIGGER[size])
    text = rng.choice((f"make {them} {word}", f"{them} should be {word}", f"let {them} be {word}",
                       f"i want {them} {word}", f"make {them} {word}"))  # fmt: skip
    return changed(scene, things, politely(rng, text), size=size)


def reshape_group(rng: random.Random, scene: Scene) -> Edit | None:
    found, shape = group(rng, scene), rng.choice(SHAPES)
    if found is None:
        return None
    (them, things), new = found, plural(shape)
    text = rng.choice((f"turn {them} into {new}", f"replace {them} with {new}",
                       f"change {them} into {new}", f"{them} should be {new}",
                       f"make {them} {new}", f"{new} instead of {them}"))  # fmt: skip
    return changed(scene, things, politely(rng, text), shape=shape)


def two_recolors(rng: random.Random, scene: Scene) -> Edit | None:
    """ "make the ring brown and the cross yellow"."""
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    names = [reference(rng, scene, o) for o in (a, b)]
    colors = rng.sample(tuple(COLORS), 2)
    words = [color_word(rng, color) for color in colors]
    verb = rng.choice(("make", "paint", "color", "turn"))
    link = rng.choice((" and ", ", ", f" and {verb} "))
    text = f"{verb} {names[0]} {words[0]}{link}{names[1]} {words[1]}"
    if rng.random() < 0.25:
        text = f"{names[0]} should be {words[0]} and {names[1]} {words[1]}"
    half = changed(scene, [a], text, color=colors[0])
    target = change(half.target, b, replace(b, color=colors[1]))
    said = clauses(text, (a, names[0], words[0]), (b, names[1], words[1]))
    return Edit("group", politely(rng, text), scene, target, clauses=said)


def keep_only(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) < 2:
        return None
    kept = rng.choice(scene.objects)
    it = reference(rng, scene, kept)
    text = rng.choice((f"keep only {it}", f"only keep {it}", f"remove everything except {it}",
                       f"remove everything but {it}", f"delete all but {it}", f"leave only {it}",
                       f"only {it} stays", f"just {it}, nothing else",
                       f"everything but {it} should go",
                       f"get rid of all except {it}"))  # fmt: skip
    gone = [o for o in scene.objects if o is not kept]
    return without(scene, gone, politely(rng, text))


def remove_some(rng: random.Random, scene: Scene) -> Edit | None:
    """Two by their names, or a group."""
    found = group(rng, scene)
    if len(scene.objects) == 3 and rng.random() < 0.6:
        things = rng.sample(scene.objects, 2)
        found = join_list([reference(rng, scene, o) for o in things]), things
    if found is None or len(found[1]) == len(scene.objects):
        return None
    return without(scene, found[1], politely(rng, rng.choice(REMOVALS).format(found[0])))


def like_another(rng: random.Random, scene: Scene) -> Edit | None:
    """ "give the cross the same color as the ring", "could the cross be as big as the ring?"."""
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    it, other = reference(rng, scene, a), reference(rng, scene, b)
    trait = rng.choice(("color", "size", "shape"))
    if getattr(a, trait) == getattr(b, trait):
        return None
    forms = [f"give {it} the same {trait} as {other}", f"give {it} the {trait} of {other}",
             f"{it} should have the same {trait} as {other}", f"make {it} the {trait} of {other}",
             f"make the {trait} of {it} like that of {other}"]  # fmt: skip
    if trait == "size":
        forms += [f"could {it} be as {b.size} as {other}?", f"make {it} as {b.size} as {other}",
                  f"{it} should be as {b.size} as {other}"]  # fmt: skip
    if trait == "color":
        forms += [f"make {it} as {b.color} as {other}", f"{it} should be {b.color} like {other}"]
    text = politely(rng, rng.choice(forms))
    return changed(scene, [a], text, **{trait: getattr(b, trait)})


def swap_places(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    pair = f"{reference(rng, scene, a)} and {reference(rng, scene, b)}"
    forms = [f"swap {pair}", f"swap the places of {pair}", f"exchange {pair}",
             f"let {pair} change places", f"{pair} should change places",
             f"switch {pair}", f"exchange the places of {pair}",
             f"switch the positions of {pair}"]  # fmt: skip
    if len(scene.objects) == 2:
        forms += ["swap them", "swap their places", "exchange them", "let them change places",
                  "switch their places", "the other way round"]  # fmt: skip
    moved = change(scene, a, replace(a, row=b.row, col=b.col))
    others = [o for o in moved.objects if o != b] + [replace(b, row=a.row, col=a.col)]
    if len(others) != len(scene.objects):
        return None
    return Edit("group", politely(rng, rng.choice(forms)), scene, scene.with_objects(tuple(others)))


def standing(rng: random.Random, scene: Scene) -> tuple[str, Object] | None:
    """One object by where it stands: "the upper star", "the left one", "the one at the top"."""
    things = scene.objects
    shape = rng.choice(things).shape
    alike = [o for o in things if o.shape == shape]
    noun = shape
    if len(things) == 2 and rng.random() < 0.5:
        alike, noun = list(things), rng.choice(("one", "one", "object", "thing"))
    if len(alike) != 2:
        return None
    axis = rng.choice(("row", "col"))
    first, second = sorted(alike, key=lambda o: getattr(o, axis))
    if getattr(first, axis) == getattr(second, axis):
        return None
    which = rng.randrange(2)
    adjectives = (("upper", "lower") if axis == "row" else ("left", "right"))[which]
    if axis == "row" and rng.random() < 0.4:
        adjectives = ("top", "bottom")[which]
    words = f"the {adjectives} {noun}"
    if rng.random() < 0.35:
        sides = (("at the top", "at the bottom"), ("on the left", "on the right"))
        words = f"the {noun} {sides[axis == 'col'][which]}"
    return words, (first, second)[which]


def edit_standing(rng: random.Random, scene: Scene) -> Edit | None:
    found = standing(rng, scene)
    if found is None:
        return None
    it, old = found
    kind = rng.choice(("remove", "remove", "color", "shape", "size"))
    if kind == "remove":
        return without(scene, [old], politely(rng, rng.choice(REMOVALS).format(it)))
    if kind == "color":
        color = rng.choice([c for c in COLORS if c != old.color])
        form = rng.choice(("make {} {}", "paint {} {}", "{} should be {}", "{} in {}"))
        text = form.format(it, color_word(rng, color))
        return changed(scene, [old], politely(rng, text), color=color)
    if kind == "shape":
        shape = rng.choice([s for s in SHAPES if s != old.shape])
        form = rng.choice(("turn {} into {}", "replace {} with {}", "swap {} for {}"))
        return changed(
            scene, [old], politely(rng, form.format(it, with_article(shape))), shape=shape
        )
    size = "big" if old.size == "small" else "small"
    text = f"make {it} {rng.choice(BIGGER[size])}"
    return changed(scene, [old], politely(rng, text), size=size)


def by_size(rng: random.Random, scene: Scene) -> Edit | None:
    """ "make the small one orange", "delete the big one"."""
    old = rng.choice(scene.objects)
    if [o.size for o in scene.objects].count(old.size) > 1:
        return None
    it = f"the {size_word(rng, old.size)} one"
    if rng.random() < 0.4:
        return without(scene, [old], politely(rng, rng.choice(REMOVALS).format(it)))
    color = rng.choice([c for c in COLORS if c != old.color])
    form = rng.choice(("make {} {}", "paint {} {}", "{} should be {}", "turn {} {}"))
    return changed(
        scene, [old], politely(rng, form.format(it, color_word(rng, color))), color=color
    )


STEPS = {(-1, 0): "up", (1, 0): "down", (0, -1): "left", (0, 1): "right"}


def move_on(rng: random.Random, scene: Scene) -> Edit | None:
    """One step, or as far as it goes: "move it up", "all the way to the right"."""
    old = rng.choice(scene.objects)
    it, (step, word) = named(rng, scene, old), rng.choice(tuple(STEPS.items()))
    free, path = free_cells(scene), []
    row, col = old.row + step[0], old.col + step[1]
    while (row, col) in free:
        path.append((row, col))
        row, col = row + step[0], col + step[1]
    if not path:
        return None
    side = {"up": "top", "down": "bottom"}.get(word, word)
    to = f"to the {word}" if word in ("left", "right") else word
    near = (to, f"a bit {to}", f"{to} a bit", f"one step {word}", f"a little {to}",
            f"{to} a little")  # fmt: skip
    far = (f"all the way {to}", f"to the very {side}", f"two steps {word}",
           f"as far {to} as it goes", f"to the {side} edge")  # fmt: skip
    is_far = len(path) == 2 and rng.random() < 0.4
    where, cell = rng.choice(far if is_far else near), path[1 if is_far else 0]
    verb = rng.choice(("move", "shift", "push", "put", "move", "slide"))
    text = politely(rng, f"{verb} {it} {where}")
    target = change(scene, old, replace(old, row=cell[0], col=cell[1]))
    return Edit("move", text, scene, target)


def exchange_background(rng: random.Random, scene: Scene) -> Edit:
    """The old one named as well: "change the snow to fog"."""
    old = scene.background
    new = rng.choice([name for name in BACKGROUNDS if name != old])
    text = rng.choice((f"change the {old} to {new}", f"replace the {old} with {new}",
                       f"turn the {old} into {new}", f"{new} instead of {old}",
                       f"not {old} but {new}", f"switch from {old} to {new}",
                       f"it should be {new} instead of {old}", f"it should be {new}, not {old}",
                       f"make the {old} {new}"))  # fmt: skip
    return Edit("background", shortly(rng, text), scene, replace(scene, background=new))


GROUP_EDITS: dict[Callable[[random.Random, Scene], Edit | None], float] = {
    recolor_group: 2, resize_group: 2, reshape_group: 1.5, two_recolors: 2, keep_only: 2,
    remove_some: 1.5, like_another: 2, swap_places: 2, edit_standing: 3, by_size: 1.5, move_on: 3,
    add_more: 4, exchange_background: 1.5,
}  # fmt: skip


def group_edit(rng: random.Random, scene: Scene, split: str = "train") -> Edit:
    """One of these edits whose target lies in the split; where few do, all is cleared away."""
    makers, weights = tuple(GROUP_EDITS), tuple(GROUP_EDITS.values())
    for _ in range(TRIES):
        maker = rng.choices(makers, weights)[0]
        if not scene.objects and maker not in (add_more, exchange_background):
            continue
        edit = maker(rng, scene)
        if edit is None or edit.target == scene:
            continue
        if split == "any" or not edit.target.objects or split_of(edit.target) == split:
            return replace(edit, instruction=as_typed(rng, edit.instruction))
    edit = clear(rng, scene)
    return replace(edit, instruction=as_typed(rng, edit.instruction))


def group_edit_sample(rng: random.Random, split: str = "train") -> Sample:
    """Of a picture that is shown, with Converse's words around it or those of the editing nodes."""
    scene = sample_scene(rng, split, rng.choice((1, 2, 2, 3)))
    if rng.random() < 0.08:
        scene = scene.with_objects(())
    edit = group_edit(rng, scene, split)
    asked = user(INSTRUCTION_REQUEST, edit.instruction, scene)
    if rng.random() < 0.3:
        asked = Turn("user", PICTURE + edit.instruction, (scene,))
    return dialogue_sample("edit", [asked], edit.target, edit.names)
