"""Edits as somebody says them in one message: a wish, two of them, several objects at once.

For training alone; no held-out edit samples from here.
"""

import random
from dataclasses import replace

from blip3u_core.language.prompt import INSTRUCTION_REQUEST, PICTURE
from small_world.edits import Edit
from small_world.group_edits import TRIES
from small_world.joined_captions import with_looks
from small_world.phrase_edits import about, clauses_of, clear, one_wish
from small_world.phrase_several import several_wishes
from small_world.phrases import phrase
from small_world.samples import Sample, Turn, dialogue_sample, user
from small_world.wordings import as_typed
from small_world.world import BACKGROUNDS, Scene, sample_scene, split_of

WHOLE_WISHES = ("clear", "keep")  # neither goes together with another wish


def two_wishes(rng: random.Random, scene: Scene) -> Edit | None:
    """One after the other in one message; "it" in the second is what the first was about."""
    first = one_wish(rng, scene)
    if first is None or first.kind in WHOLE_WISHES or not first.target.objects:
        return None
    new = [o for o in first.target.objects if o not in scene.objects]
    if len(new) == 1 and first.kind != "group" and rng.random() < 0.5:
        second = about(rng, first.target, new[0], "it")
    else:
        second = one_wish(rng, first.target)
    if second is None or second.kind in WHOLE_WISHES or second.target == scene:
        return None
    if first.where or second.where:
        return None
    halves = {"first": first.instruction.rstrip(".!?"), "second": second.instruction}
    text, parts = phrase(rng, "edits", "then", **halves)[0], clauses_of((first, second))
    return Edit("group", text, scene, second.target, clauses=parts)


def any_wish(rng: random.Random, scene: Scene) -> Edit | None:
    makers = (one_wish, two_wishes, several_wishes)
    return rng.choices(makers, (5, 4, 6))[0](rng, scene)


def phrase_edit(rng: random.Random, scene: Scene, split: str = "any") -> Edit:
    """An edit whose target lies in the split or is empty, as it is typed.

    Where hardly any target lies there, all is cleared away.
    """
    for _ in range(TRIES):
        edit = any_wish(rng, scene)
        if edit is None:
            continue
        if not edit.target.objects or split in ("any", split_of(edit.target)):
            return replace(edit, instruction=as_typed(rng, edit.instruction))
    return clear(rng, scene)


def likened_scene(rng: random.Random, split: str, count: int | None = None) -> Scene:
    """A scene of `count` objects; in two of five they share a shape, a colour or a size."""
    while True:
        scene = sample_scene(rng, split, count)
        if rng.random() < 0.4:
            trait = rng.choice(("shape", "color", "size"))
            scene = with_looks(scene, **{trait: getattr(scene.objects[0], trait)})
        if split in ("any", split_of(scene)):
            return scene


def phrase_edit_sample(rng: random.Random, split: str = "train") -> Sample:
    """Of a picture that is shown, in the editing template or as Converse asks."""
    scene = likened_scene(rng, split, rng.choices((1, 2, 3), (2, 4, 4))[0])
    if rng.random() < 0.04:
        scene = Scene(rng.choice(tuple(BACKGROUNDS)), ())
    edit = phrase_edit(rng, scene, split)
    request = user(INSTRUCTION_REQUEST, edit.instruction, scene)
    if rng.random() < 0.3:
        request = Turn("user", PICTURE + edit.instruction, (scene,))
    anew = edit.kind == "clear"
    return dialogue_sample("edit", [request], edit.target, edit.names, anew, edit.sources)
