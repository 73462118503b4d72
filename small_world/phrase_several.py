"""Edits of several objects, several wishes and wishes taken back, in the phrase book's words.

For training alone; no held-out edit samples from here.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.called import called, several
from small_world.edits import Edit, change, clauses
from small_world.group_edits import changed, without
from small_world.language import plural, with_article
from small_world.phrase_edits import (
    SIZE_KIND,
    about,
    clauses_of,
    look_said,
    one_wish,
    other_size,
    swap,
)
from small_world.phrases import phrase
from small_world.questions import cell_of
from small_world.wordings import color_word, size_word
from small_world.world import COLORS, SHAPES, SIZES, Object, Scene

TRAITS = ("color", "size", "shape")


def said(rng: random.Random, kind: str, **words: str) -> str:
    return phrase(rng, "edits", kind, **words)[0]


def pair(rng: random.Random, scene: Scene) -> tuple[Object, Object, dict[str, str]]:
    """Two of the objects and what they are called."""
    a, b = rng.sample(scene.objects, 2)
    return a, b, {"it": called(rng, scene, a), "other": called(rng, scene, b)}


def change_group(rng: random.Random, scene: Scene) -> Edit | None:
    found = several(rng, scene)
    if found is None:
        return None
    them, things = found
    kind = rng.choice(("color", "color", "remove", "size", "replace"))
    if kind == "color":
        color = rng.choice(tuple(COLORS))
        text = said(rng, "group_color", them=them, color=color_word(rng, color))
        return changed(scene, things, text, color=color)
    if kind == "remove":
        return without(scene, things, said(rng, "group_remove", them=them))
    if kind == "size":
        size = rng.choice(tuple(SIZES))
        text = said(rng, f"group_{SIZE_KIND[size]}", them=them)
        return changed(scene, things, text, size=size)
    shape = rng.choice(SHAPES)
    text = said(rng, "group_replace", them=them, news=plural(shape))
    return changed(scene, things, text, shape=shape)


def exchanged(scene: Scene, a: Object, b: Object, trait: str) -> Scene:
    """Each of the two with the other's colour or size."""
    half = change(scene, a, replace(a, **{trait: getattr(b, trait)}))
    return change(half, b, replace(b, **{trait: getattr(a, trait)}))


def swap_colors(rng: random.Random, scene: Scene) -> Edit | None:
    a, b, words = pair(rng, scene)
    if a.color == b.color:
        return None
    target = exchanged(scene, a, b, "color")
    sources = ((cell_of(a), words["other"]), (cell_of(b), words["it"]))
    return Edit("group", said(rng, "swap_colors", **words), scene, target, sources=sources)


def swap_sizes(rng: random.Random, scene: Scene) -> Edit | None:
    """The big one small and the small one big; of two, "they" need no names."""
    a, b, words = pair(rng, scene)
    if a.size == b.size:
        return None
    target = exchanged(scene, a, b, "size")
    if len(scene.objects) == 2 and rng.random() < 0.6:
        return Edit("group", said(rng, "swap_two_sizes"), scene, target)
    return Edit("group", said(rng, "swap_sizes", **words), scene, target)


def swap_two(rng: random.Random, scene: Scene) -> Edit | None:
    if len(scene.objects) != 2:
        return None
    edit = swap(rng, scene)
    return replace(edit, instruction=said(rng, "swap_two"))


def each(rng: random.Random, scene: Scene) -> Edit:
    """ "the star red, the ring small"."""
    things = rng.sample(scene.objects, 2)
    target, words = scene, {}
    for thing, slot, how in zip(things, ("it", "other"), ("how", "how2"), strict=True):
        words[slot] = called(rng, scene, thing)
        if rng.random() < 0.5:
            look = {"color": rng.choice([c for c in COLORS if c != thing.color])}
            words[how] = color_word(rng, look["color"])
        else:
            look = {"size": other_size(thing)}
            words[how] = look["size"]
        target = change(target, thing, replace(thing, **look))
    text = said(rng, "each", **words)
    a, b = things
    parts = clauses(text, (a, words["it"], words["how"]), (b, words["other"], words["how2"]))
    return Edit("group", text, scene, target, clauses=parts)


def three_wishes(rng: random.Random, scene: Scene) -> Edit | None:
    edits, now = [], scene
    for _ in range(3):
        edit = one_wish(rng, now)
        if edit is None or edit.kind in ("clear", "keep") or edit.where or not edit.target.objects:
            return None
        edits.append(edit)
        now = edit.target
    orders = [edit.instruction.rstrip(".!?") for edit in edits]
    text = said(rng, "three", **dict(zip(("first", "second", "third"), orders, strict=True)))
    parts = clauses_of(edits)
    return Edit("group", text, scene, now, clauses=parts) if now != scene else None


def corrected(rng: random.Random, scene: Scene) -> Edit | None:
    """A wish, and at once another one in its place."""
    old = rng.choice(scene.objects)
    it = called(rng, scene, old)
    if rng.random() < 0.35:
        wrong, right = rng.sample([c for c in COLORS if c != old.color], 2)
        text = said(rng, "correct_color", it=it, color=wrong, color2=right)
        return Edit("recolor", text, scene, change(scene, old, replace(old, color=right)))
    same = rng.random() < 0.6
    first = about(rng, scene, old, it) if same else one_wish(rng, scene)
    second = about(rng, scene, old, it) if same else one_wish(rng, scene)
    if first is None or second is None or second.where:
        return None
    halves = {"first": first.instruction.rstrip(".!?"), "second": second.instruction}
    return replace(second, instruction=said(rng, "correct", **halves))


def same_change(edit: Edit, thing: Object) -> Edit | None:
    """What the edit did to one object's look, or its removal, done to `thing` of its source.

    None where it was not one trait of one object, or would change nothing.
    """
    scene = edit.source
    gone = [o for o in scene.objects if o not in edit.target.objects]
    new = [o for o in edit.target.objects if o not in scene.objects]
    if len(gone) != 1 or thing == gone[0] or edit.source.background != edit.target.background:
        return None
    if not new:
        return without(scene, [thing], "")
    look = {t: getattr(new[0], t) for t in TRAITS if getattr(new[0], t) != getattr(gone[0], t)}
    if len(new) != 1 or len(look) != 1 or new[0].cell != gone[0].cell:
        return None
    target = change(scene, thing, replace(thing, **look))
    return Edit(edit.kind, "", scene, target) if target != scene else None


def meant_other(rng: random.Random, scene: Scene) -> Edit | None:
    """ "remove the star. no, i meant the ring"."""
    a, b, words = pair(rng, scene)
    first = about(rng, scene, a, words["it"])
    second = same_change(first, b) if first is not None else None
    if second is None:
        return None
    more, _ = phrase(rng, "follow", "meant_other", it=words["other"], other=words["it"])
    link = rng.choice((", ", ". ", "... ", " - "))
    return replace(second, instruction=f"{first.instruction.rstrip('.!?')}{link}{more}")


def instead(rng: random.Random, scene: Scene) -> Edit:
    """Something else, said in full, in the place of an object."""
    old = rng.choice(scene.objects)
    size, color = rng.choice(tuple(SIZES)), rng.choice(tuple(COLORS))
    new = replace(old, shape=rng.choice(SHAPES), color=color, size=size)
    words = {"it": called(rng, scene, old), "thing": look_said(rng, new, 1.0)}
    return Edit("replace", said(rng, "instead", **words), scene, change(scene, old, new))


def all_of_it(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    color, size = rng.choice([c for c in COLORS if c != old.color]), rng.choice(tuple(SIZES))
    words = {"it": called(rng, scene, old), "color": color_word(rng, color)}
    text = said(rng, "all_of_it", size=size_word(rng, size), **words)
    return Edit("group", text, scene, change(scene, old, replace(old, color=color, size=size)))


def recolored_by_name(rng: random.Random, scene: Scene) -> Edit | None:
    """ "i meant a square, not a cross" says which object, too."""
    old = rng.choice(scene.objects)
    if [o.shape for o in scene.objects].count(old.shape) > 1:
        return None
    shape = rng.choice([s for s in SHAPES if s != old.shape])
    new, was = with_article(shape), with_article(old.shape)
    text = rng.choice((f"i meant {new}, not {was}", f"not {was}, {new}", f"{new}, not {was}",
                       f"it should be {new} and not {was}", f"i said {new}, not {was}",
                       f"{new} instead of {was}"))  # fmt: skip
    return Edit("replace", text, scene, change(scene, old, replace(old, shape=shape)))


OF_TWO: dict[Callable[[random.Random, Scene], Edit | None], float] = {
    change_group: 24, swap_colors: 5, swap_sizes: 2.5, swap_two: 1, each: 6, three_wishes: 1.5,
    corrected: 4, meant_other: 3, instead: 1, all_of_it: 1.5, recolored_by_name: 0.5,
}  # fmt: skip
OF_ANY = {three_wishes: 2, corrected: 3, instead: 2.5, all_of_it: 1.5, recolored_by_name: 0.5}


def several_wishes(rng: random.Random, scene: Scene) -> Edit | None:
    """One of these edits; of a scene without objects none."""
    if not scene.objects:
        return None
    makers = OF_TWO if len(scene.objects) > 1 else OF_ANY
    return rng.choices(tuple(makers), tuple(makers.values()))[0](rng, scene)
