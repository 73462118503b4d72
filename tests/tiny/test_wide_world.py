"""The wide world: a hundred things are drawn, read back by their art, and spoken about truly."""

import io
import os
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small_world.dialogues import MIX, SPEAKS_OF_THINGS, sample_any
from small_world.edits import sample_edit
from small_world.emoji_art import DEBIAN_FONT, emoji_font, glyph
from small_world.free_captions import sample_free_caption
from small_world.language import plural, sample_caption, with_article
from small_world.questions import ask
from small_world.scorer import UNKNOWN, same_scene, satisfies
from small_world.things import THINGS, WORD_OF_THING
from small_world.truth import is_true
from small_world.wide_scorer import read_wide_scene
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    SIZES,
    Object,
    Scene,
    WideRandom,
    is_never_seen_pair,
    render,
    sample_scene,
    split_of,
    thing_pairs,
)

# Only what draws needs the art: no picture of it is in this repository.
needs_art = pytest.mark.skipif(
    not Path(os.environ.get("BLIP3U_EMOJI_FONT", DEBIAN_FONT)).is_file(),
    reason="draws things: needs fonts-noto-color-emoji, or BLIP3U_EMOJI_FONT=NotoColorEmoji.ttf",
)
CAT = Object("cat", "", "big", 1, 0)
SCENE = Scene("night", (CAT, Object("rocket", "", "small", 1, 2)))


def wide_scenes(count: int, seed: int = 0, split: str = "any") -> list[Scene]:
    rng = WideRandom(seed)
    return [sample_scene(rng, split) for _ in range(count)]


@needs_art
def test_every_thing_has_its_own_art_and_its_own_words():
    arts = {glyph(name).tobytes() for name in THINGS}
    words = [word for name, thing in THINGS.items() for word in (name, *thing.synonyms)]
    assert len(arts) == len(THINGS) >= 100
    assert len(set(words)) == len(words) == len(WORD_OF_THING)
    assert not set(words) & {*COLORS, "circle", "square", "star", "ring", "cross", "triangle"}


def test_plurals_are_the_ones_people_use():
    said = [plural(name) for name in ("cat", "fish", "cactus", "strawberry", "fox", "key", "cross")]
    assert said == ["cats", "fish", "cacti", "strawberries", "foxes", "keys", "crosses"]


def test_a_missing_font_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setenv("BLIP3U_EMOJI_FONT", "nowhere.ttf")
    emoji_font.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"nowhere.ttf.*fonts-noto-color-emoji"):
            emoji_font()
    finally:
        emoji_font.cache_clear()


def scenes_of_all_things() -> list[Scene]:
    """Every thing once, three to a scene; `benchmarks.meaning.wide --rows truth` reads more."""
    rng, names = random.Random(0), list(THINGS)
    cells = [rng.sample(range(9), 3) for _ in names]
    return [
        Scene(rng.choice(tuple(BACKGROUNDS)), ()).with_objects(
            tuple(
                Object(name, "", rng.choice(tuple(SIZES)), *divmod(cell, 3), rng.randint(-1, 1))
                for name, cell in zip(names[i : i + 3], cells[i], strict=False)
            )
        )
        for i in range(0, len(names), 3)
    ]


@needs_art
def test_the_scorer_reads_every_thing():
    scenes = scenes_of_all_things()
    assert [scene for scene in scenes if read_wide_scene(render(scene)) != scene] == []


@needs_art
@pytest.mark.parametrize("harm", ["jpeg", "noise", "shift"])
def test_the_scorer_reads_degraded_pictures(harm: str):
    generator = np.random.default_rng(0)
    for scene in wide_scenes(8, seed=1):
        picture = render(scene)
        if harm == "jpeg":
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=75)
            picture = np.asarray(Image.open(file))
        elif harm == "noise":
            noisy = picture + generator.normal(0, 4, picture.shape)
            picture = np.clip(noisy, 0, 255).astype(np.uint8)
        else:
            picture = np.roll(picture, (1, -1), (0, 1))
        assert same_scene(read_wide_scene(picture), scene)


def test_no_thing_is_read_into_pictures_of_shapes():
    rng = random.Random(2)
    for _ in range(12):
        scene = sample_scene(rng, "any")
        assert read_wide_scene(render(scene)) == scene


@needs_art
def test_what_is_no_art_is_unknown():
    picture = render(Scene("day", ()))
    picture[50:78, 50:78] = np.random.default_rng(3).integers(0, 255, (28, 28, 3))
    assert [thing.shape for thing in read_wide_scene(picture).objects] == [UNKNOWN]


def test_todays_world_has_no_things():
    rng = random.Random(4)
    assert not any(o.shape in THINGS for _ in range(300) for o in sample_scene(rng).objects)


def test_training_never_shows_the_pairs_that_are_kept_back():
    pairs = {pair for scene in wide_scenes(600, split="train") for pair in thing_pairs(scene)}
    kept = {pair for scene in wide_scenes(600, split="any") for pair in thing_pairs(scene)}
    assert not any(map(is_never_seen_pair, pairs))
    assert any(map(is_never_seen_pair, kept))
    assert split_of(SCENE) == split_of(replace(SCENE, objects=SCENE.objects))


@pytest.mark.parametrize("sample", [sample_caption, sample_free_caption])
def test_captions_are_true_of_their_scene_and_of_no_other_thing(sample):
    rng, things = WideRandom(5), 0
    for _ in range(200):
        caption = sample(rng)
        scene = caption.scene
        assert is_true(caption.text, scene, wide=True), caption
        assert satisfies(scene, caption.wish)
        for thing in scene.objects:
            if thing.shape in THINGS:
                things += 1
                other = replace(thing, shape="cat" if thing.shape != "cat" else "dog")
                rest = tuple(o for o in scene.objects if o is not thing)
                assert not is_true(caption.text, scene.with_objects((*rest, other)), wide=True), (
                    caption
                )
    assert things > 130


def test_questions_know_things_and_give_them_no_colour():
    rng, asked = WideRandom(6), set()
    for _ in range(500):
        scene = sample_scene(rng)
        question = ask(rng, scene)
        asked.add(question.text)
        assert question.answer
        assert "  " not in question.text + question.answer
        for thing in scene.objects:
            if question.text == "what is this?":
                assert question.answer == with_article(thing.shape)
        for thing in THINGS:
            assert not any(f"{color} {thing}" in question.text for color in COLORS), question
    assert {"what is this?", "what is on the left?"} <= asked


def test_replacing_puts_another_thing_at_the_same_place():
    rng, texts = WideRandom(7), []
    for _ in range(400):
        edit = sample_edit(rng, kind="replace")
        (old,) = set(edit.source.objects) - set(edit.target.objects)
        (new,) = set(edit.target.objects) - set(edit.source.objects)
        assert (old.cell, old.size) == (new.cell, new.size)
        assert old.shape != new.shape
        words = {word for word, name in WORD_OF_THING.items() if name == new.shape}
        assert any(word in edit.instruction.lower() for word in words or {new.shape})
        texts.append(edit.instruction)
        assert "  " not in edit.instruction
    assert any(text.startswith("replace the") for text in texts)


def test_every_kind_of_sample_can_be_had_and_paints_no_thing():
    rng, painted = WideRandom(8), re.compile(rf"({'|'.join(COLORS)}) ({'|'.join(WORD_OF_THING)})\b")
    for kind in MIX:
        for _ in range(8):
            text = sample_any(rng, "train", {kind: 1}).text.lower()
            if kind in SPEAKS_OF_THINGS - {"free_caption", "related", "whole_caption"}:
                assert not painted.search(text), text
                assert "  " not in text


def test_only_what_has_a_colour_gets_another():
    for seed in range(100):
        edit = sample_edit(WideRandom(seed), kind="recolor")
        assert all(o.color in COLORS for o in set(edit.source.objects) - set(edit.target.objects))
