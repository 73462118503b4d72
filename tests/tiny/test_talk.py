"""What people say beyond one sentence: joined captions, edits of several, comparisons, "it"."""

import random
import re
from dataclasses import replace

import pytest

from small_world import comparisons, group_edits, joined_captions, leaning, more_objects
from small_world.dialogues import SAMPLERS
from small_world.free_captions import free_caption
from small_world.language import describe
from small_world.questions import cell_of
from small_world.samples import Shown
from small_world.scorer import satisfies
from small_world.truth import COLOR_OF
from small_world.world import Object, Scene, sample_scene, split_of
from training.sequences import encode

RING = Object("ring", "blue", "small", 2, 1)
STAR = Object("star", "red", "big", 0, 0)
PAIR = Scene("night", (STAR, RING))


def alike(scene: Scene) -> list[tuple[str, str, str]]:
    return sorted((o.shape, o.color, o.size) for o in scene.objects)


@pytest.mark.parametrize("form", joined_captions.COUNTS, ids=lambda form: form.__name__)
def test_joined_captions_say_what_their_scene_shows(form):
    rng = random.Random(form.__name__)
    found = 0
    for _ in range(400):
        scene = sample_scene(rng, "train", rng.choice(joined_captions.COUNTS[form]))
        scene = joined_captions.prepared(rng, form, scene)
        if not joined_captions.fits(form, scene):
            continue
        caption = free_caption(rng, scene, form)
        assert satisfies(caption.scene, caption.wish), caption.text
        colors = {COLOR_OF[word] for word in re.findall(r"\w+", caption.text.lower())
                  if word in COLOR_OF}  # fmt: skip
        said = {wish.color for wish in caption.wish.objects} - {None}
        assert said <= colors or form is joined_captions.bare, caption.text
        assert all(words in caption.text.lower() for _, words in caption.names)
        found += 1
    assert found > 50


def test_two_of_a_kind_are_told_apart_in_one_sentence():
    rng = random.Random(1)
    stars = Scene("day", (STAR, replace(STAR, color="blue", col=1)))
    for _ in range(60):
        caption = free_caption(rng, stars, joined_captions.apart)
        assert {o.color for o in caption.scene.objects} == {"red", "blue"}
        assert [words for _, words in sorted(caption.names)] != []
        where = dict(caption.names)
        for thing in caption.scene.objects:
            words = {COLOR_OF.get(word) for word in re.findall(r"\w+", where[cell_of(thing)])}
            assert thing.color in words


@pytest.mark.parametrize("make", group_edits.GROUP_EDITS, ids=lambda make: make.__name__)
def test_edits_of_several_change_what_they_name_and_nothing_else(make):
    rng, found = random.Random(make.__name__), 0
    for _ in range(300):
        scene = sample_scene(rng, "any", rng.choice((1, 2, 3)))
        edit = make(rng, scene)
        if edit is None:
            continue
        found += 1
        text = edit.instruction.lower()
        if make is group_edits.exchange_background:
            assert edit.target.objects == scene.objects
            assert edit.target.background in text
            continue
        assert edit.target.background == scene.background
        cells = [o.cell for o in edit.target.objects]
        assert len(cells) == len(set(cells)), text
        gone, more = len(scene.objects) - len(edit.target.objects), make is group_edits.add_more
        assert (gone < 0) == more
        assert make is not group_edits.keep_only or len(edit.target.objects) == 1
        assert make is not group_edits.remove_some or 0 < gone < len(scene.objects)
        if make in (group_edits.recolor_group, group_edits.two_recolors):
            new = {o.color for o in edit.target.objects if o not in scene.objects}
            words = {COLOR_OF.get(word) for word in re.findall(r"\w+", text)}
            assert new <= words, text
    assert found > 20


def test_swapped_objects_stand_where_the_other_stood():
    edit = next(e for e in iter(lambda: group_edits.swap_places(random.Random(3), PAIR), None))
    assert {(o.shape, o.cell) for o in edit.target.objects} == {("star", (2, 1)), ("ring", (0, 0))}


def test_the_upper_one_is_the_upper_one():
    rng = random.Random(4)
    twins = Scene("snow", (STAR, replace(STAR, row=2)))
    for _ in range(80):
        words, thing = group_edits.standing(rng, twins) or ("the upper star", STAR)
        assert (thing.row == 0) == bool(re.search("upper|top", words)), words


def test_one_more_is_like_the_one_that_it_means():
    rng = random.Random(5)
    alone = Scene("fog", (RING,))
    for _ in range(80):
        edit = more_objects.another(rng, alone, RING, "it")
        (new,) = [o for o in edit.target.objects if o != RING]
        assert new.shape == "ring"
        assert (new.color != "blue") + (new.size != "small") <= 1
    full = Scene("fog", (RING, STAR, replace(STAR, row=1)))
    assert more_objects.another(rng, full, RING, "it") is None


def test_comparisons_are_true():
    rng = random.Random(6)
    stars = Scene("day", (STAR, replace(STAR, size="small", col=2)))
    answers = {}
    for _ in range(200):
        question = comparisons.same(rng, stars)
        trait = re.search("color|size|shape", question.text)[0]
        answers.setdefault(trait, set()).add(question.answer)
    assert answers == {"color": {"yes"}, "size": {"no"}, "shape": {"yes"}}
    for _ in range(60):
        question = comparisons.place_empty(rng, PAIR)
        pattern = r"the ([\w ]+?)(?: corner)? (?:empty|free)|in the ([\w ]+?)(?: corner)?\?"
        place = re.search(pattern, question.text)
        taken = (place[1] or place[2]) in ("top left", "bottom middle")
        empty = bool(re.search("empty|free|nothing", question.text))
        assert (question.answer == "yes") == (taken != empty), question.text
    assert comparisons.drawn(rng, PAIR).answer == describe(PAIR)
    assert comparisons.compared(rng, Scene("fog", ())).answer == "nothing in the fog"


def test_it_is_what_was_changed_last():
    rng = random.Random(7)
    for _ in range(200):
        talk = leaning.Talk([PAIR], RING)
        edit = leaning.lean(rng, talk, "any")
        if re.search(r"\bit\b", edit.instruction.lower()) and len(edit.target.objects) == 2:
            assert STAR in edit.target.objects, edit.instruction
    assert leaning.meant_by_it(PAIR, PAIR) is None
    green = replace(STAR, color="green")
    assert leaning.meant_by_it(PAIR, PAIR.with_objects((green, RING))) == green


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize(
    "kind",
    ["joined", "group_edit", "compared", "leaning", "phrase_caption", "phrase_edit",
     "phrase_question", "phrase_talk"],
)  # fmt: skip
def test_talk_can_be_read_and_stays_in_its_split(kind, split):
    rng = random.Random(8)
    for _ in range(60):
        sample = SAMPLERS[kind](rng, split)
        sequence = encode(sample)
        shown = [s.scene for s in sample.segments if isinstance(s, Shown)]
        assert len(sequence.starts) == len(shown)
        for scene in shown + [sequence.drawn] * (sequence.drawn is not None):
            assert not scene.objects or split_of(scene) == split
