"""The scorer reads every rendered scene, and says so when a picture is wrong."""

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from small_world.edits import EDITS, sample_edit
from small_world.language import ObjectWish, Wish, wish_of
from small_world.scorer import UNKNOWN, judge_edit, read_scene, same_scene, satisfies
from small_world.world import Object, Scene, render, sample_scene

STAR = Object("star", "red", "big", 0, 0)
RING = Object("ring", "blue", "small", 2, 1)
SCENE = Scene("day", (STAR, RING))


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng, "any") for _ in range(count)]


def test_reads_every_one_of_a_thousand_scenes_and_its_jitter():
    wrong = [scene for scene in scenes(1000) if read_scene(render(scene)) != scene]
    assert wrong == []


def test_reads_blurred_and_noisy_pictures():
    noise = np.random.default_rng(0)
    for scene in scenes(200, seed=1):
        blurred = ndimage.gaussian_filter(render(scene).astype(np.float32), (0.8, 0.8, 0))
        noisy = np.clip(blurred + noise.normal(0, 8, blurred.shape), 0, 255).astype(np.uint8)
        assert same_scene(read_scene(noisy), scene)


def test_reads_floats_and_refuses_other_sizes():
    assert read_scene(render(SCENE) / np.float32(255)) == SCENE
    with pytest.raises(ValueError, match="128"):
        read_scene(render(SCENE, 256))


def test_touching_objects_and_strange_colours_are_failures():
    picture = render(SCENE)
    picture[20:24, :] = (215, 30, 35)
    assert not same_scene(read_scene(picture), SCENE)
    picture = render(SCENE)
    picture[(picture == (215, 30, 35)).all(-1)] = (90, 250, 190)
    assert read_scene(picture).objects[0].color == UNKNOWN
    picture = np.full((128, 128, 3), (200, 20, 120), np.uint8)
    assert read_scene(picture).background == UNKNOWN


def test_an_empty_picture_has_no_objects():
    picture = np.full((128, 128, 3), (18, 22, 62), np.uint8)
    assert read_scene(picture) == Scene("night", ())


@pytest.mark.parametrize(
    ("changed", "attribute"),
    [
        (replace(STAR, shape="cross"), "shape"),
        (replace(STAR, color="pink"), "color"),
        (replace(STAR, size="small"), "size"),
        (replace(STAR, row=1), "place"),
    ],
)
def test_satisfies_asks_only_for_the_given_attributes(changed, attribute):
    wish, scene = wish_of(SCENE), Scene("day", (changed, RING))
    others = {"shape", "color", "size", "place", "background"} - {attribute}
    assert not satisfies(scene, wish)
    assert not satisfies(scene, wish, {attribute})
    assert satisfies(scene, wish, others)


def test_binding_is_not_satisfied_by_swapped_colours():
    wish = Wish((ObjectWish("star", "red"), ObjectWish("ring", "blue")))
    swapped = Scene("day", (replace(STAR, color="blue"), replace(RING, color="red")))
    assert satisfies(SCENE, wish)
    assert satisfies(swapped, wish, {"shape"})
    assert satisfies(swapped, wish, {"color"})
    assert not satisfies(swapped, wish, {"shape", "color"})


def test_counts_and_relations_must_be_right():
    red = ObjectWish("star", "red")
    assert not satisfies(SCENE, Wish((red,)))
    blue = ObjectWish("ring", "blue")
    assert satisfies(SCENE, Wish((red, blue), relation="above"))
    assert not satisfies(SCENE, Wish((red, blue), relation="below"))
    assert not satisfies(SCENE, Wish((red, blue), background="night"))


@pytest.mark.parametrize("kind", EDITS)
def test_judge_edit_tells_the_asked_change_from_the_rest(kind):
    rng = random.Random(0)
    for _ in range(20):
        edit = sample_edit(rng, "any", kind)
        assert judge_edit(edit.target, edit) == (True, True)
        assert judge_edit(edit.source, edit)[0] is False


def test_judge_edit_sees_what_was_not_kept():
    rng = random.Random(1)
    edit = sample_edit(rng, "any", "recolor")
    other = "fog" if edit.target.background != "fog" else "day"
    assert judge_edit(replace(edit.target, background=other), edit) == (True, False)
