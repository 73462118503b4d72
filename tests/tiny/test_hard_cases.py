"""What is learned last: hard questions have true answers, and a new picture keeps nothing."""

import random
import re
from dataclasses import replace

import pytest

from blip3u_core.language.prompt import PICTURE, open_turn_text
from small_world.conversations import drawing, say
from small_world.dialogues import SAMPLERS
from small_world.edits import sample_edit
from small_world.free_questions import are_all
from small_world.hard_cases import (
    CLOSE,
    cleared_step,
    close_question,
    emptied_sample,
    hard_question,
    hard_question_sample,
    kept_sample,
    of_another_world,
    one_color_scene,
    place_edit,
    place_edit_sample,
    redrawn_sample,
    sentence,
    tags,
)
from small_world.language import NUMBERS
from small_world.questions import SETTING_CELL, ask_yes_no, is_background
from small_world.samples import Drawn, Shown, dialogue_sample
from small_world.wordings import BACKGROUND_WORDS, SCENE_WORDS, STATE_WORDS
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, sample_scene
from training.grounding import grounded_names
from training.llm_data import query_places
from training.rewriting import told_characters
from training.sequences import encode, last_mentions

PAIR = Scene("night", (Object("star", "red", "big", 0, 0), Object("ring", "blue", "small", 2, 1)))
EMPTY = Scene("fog", ())


def test_hard_questions_have_answers_and_none_sees_what_is_not_there():
    rng = random.Random(0)
    answers = []
    for number in range(600):
        scene = sample_scene(rng) if number % 5 else replace(EMPTY, background="snow")
        question = hard_question(rng, scene)
        assert question.answer.strip()
        answers.append(question.answer)
        if not scene.objects and not question.answer.startswith("there is no"):
            assert not any(shape in question.answer for shape in SHAPES), question
    yes, no = answers.count("yes"), answers.count("no")
    assert 0.7 < yes / no < 1.4
    assert {"one", "two", "three", "zero", "none"} <= set(answers)


def test_a_question_of_the_background_is_answered_by_the_picture_and_looks_at_it():
    rng = random.Random(1)
    for _ in range(100):
        scene = sample_scene(rng)
        question = is_background(rng, scene)
        found = [cell for _, cell in grounded_names(question.text, scene)]
        assert found == [SETTING_CELL]
        assert question.about == SETTING_CELL
    words = {b: {*BACKGROUND_WORDS[b], *SCENE_WORDS[b], *STATE_WORDS[b]} for b in BACKGROUNDS}
    for phrases in words.values():
        for phrase in phrases:
            (last, cell), *more = grounded_names(f"is it {phrase}?", PAIR)
            assert (last, cell) == (len(f"is it {phrase}") - 1, SETTING_CELL)
            assert not more


def test_a_yes_counts_what_makes_it_so_and_nothing_what_denies():
    rng = random.Random(7)
    for number in range(900):
        scene = sample_scene(rng) if number % 9 else EMPTY
        question = (ask_yes_no if number % 9 and number % 2 else hard_question)(rng, scene)
        if question.answer not in ("yes", "no"):
            continue
        assert question.counted is not None, question
        if not re.search(
            "two|three|one obj|all|both", question.text, re.I
        ):  # of a number of objects
            denies = re.search(r"\b(nothing|empty)\b", question.text, re.I)
            assert bool(question.counted) == ((question.answer == "yes") != bool(denies)), question


def test_tags_and_a_sentence_say_what_is_there_and_another_world_is_not():
    rng = random.Random(2)
    assert tags(rng, PAIR).answer == "a big red star, a small blue ring, night"
    assert tags(rng, EMPTY).answer == "fog"
    assert sentence(rng, EMPTY).answer == "nothing in the fog"
    for _ in range(60):
        answer = of_another_world(rng, PAIR).answer
        assert answer in ("zero", "no", "none") or answer.startswith("there is no ")
        assert not re.search("|".join((*SHAPES, *COLORS)), answer)


def test_close_questions_ask_for_each_answer_as_often():
    rng = random.Random(3)
    found = [close_question(rng, sample_scene(rng)).answer for _ in range(900)]
    assert 0.7 < found.count("yes") / found.count("no") < 1.4
    numbers = [found.count(word) for word in NUMBERS[1:4]]
    assert min(numbers) >= 10
    assert len(CLOSE) > 10


def test_all_of_one_color_is_true_where_nothing_else_is_found():
    rng = random.Random(9)
    for _ in range(60):
        scene = one_color_scene(rng, "train")
        assert len({thing.color for thing in scene.objects}) == 1
        question = are_all(rng, scene)
        assert (question.answer, question.counted) == ("yes", ())
    question = are_all(rng, PAIR)
    assert question.answer == "no"
    assert question.counted == ((7,) if "red" in question.text else (0,))


def test_an_edit_of_place_moves_brings_or_takes_away_and_its_source_is_known():
    rng = random.Random(10)
    kinds, forms = set(), set()
    for _ in range(120):
        edit = place_edit(rng, sample_scene(rng), "train")
        assert len(edit.source.objects) - len(edit.target.objects) in (-1, 0, 1)
        assert edit.source.background == edit.target.background
        kinds.add(edit.kind)
        sample = place_edit_sample(rng)
        assert len(encode(sample).starts) == sum(isinstance(s, Shown) for s in sample.segments)
        forms.add(sample.kind)
    assert kinds == {"move", "add", "remove", "replace"}
    assert forms == {"edit", "dialogue", "edit_plan"}


@pytest.mark.parametrize(
    "make", [emptied_sample, redrawn_sample, kept_sample, hard_question_sample]
)
def test_hard_samples_can_be_read_and_mark_every_picture(make):
    rng = random.Random(4)
    anew = 0
    for _ in range(80):
        sample = make(rng)
        sequence = encode(sample)
        shown = [s.scene for s in sample.segments if isinstance(s, Shown)]
        assert len(sequence.starts) == len(shown)
        assert sample.draws == isinstance(sample.segments[-1], Drawn)
        anew += sample.anew
        if sample.anew:
            places = query_places(sequence, 0)
            assert places.touched.tolist() == [len(sequence.ids) - 1] * 9
    assert (anew > 10) == (make in (emptied_sample, redrawn_sample))


def test_a_picture_that_is_kept_is_asked_for_as_it_is():
    rng = random.Random(12)
    for _ in range(60):
        sample = kept_sample(rng)
        *_, last = [s.scene for s in sample.segments if isinstance(s, (Shown, Drawn))]
        before = [s.scene for s in sample.segments if isinstance(s, Shown)]
        assert last == before[-1]


def test_a_cleared_picture_keeps_nothing_but_its_background():
    step = cleared_step(random.Random(5), PAIR)
    assert step.scene == Scene("night", ())
    assert step.anew
    turns = [say("a"), drawing("", PAIR), step.message]
    places = query_places(encode(dialogue_sample("converse", turns, step.scene, anew=True)), 0)
    assert places.changed.tolist() == [cell in (0, 7) for cell in range(9)]
    kept = query_places(encode(dialogue_sample("converse", turns, step.scene)), 0)
    assert len(set(kept.touched.tolist())) == 8  # not anew: only the two cells look at `[IMG]`
    assert len(set(places.touched.tolist())) == 1


def test_a_place_beside_an_object_is_named_by_its_words():
    rng = random.Random(6)
    relative = 0
    for _ in range(400):
        edit = sample_edit(rng)
        if edit.names:
            relative += 1
            ((cell, words),) = edit.names
            assert words in edit.instruction.lower()
            (new,) = [o for o in edit.target.objects if 3 * o.row + o.col == cell]
            assert new not in edit.source.objects
            turns = [say("a"), drawing("", edit.source), say(edit.instruction)]
            sample = dialogue_sample("dialogue", turns, edit.target, edit.names)
            place = sample.text.lower().rindex(words) + len(words) - 1
            assert last_mentions(sample)[cell] == place
    assert relative > 15


def test_a_sentence_of_a_story_looks_at_the_instruction_that_it_tells():
    rng = random.Random(8)
    lengths = set()
    for _ in range(60):
        sample = SAMPLERS["story"](rng, "train")
        if not sample.draws:
            prompt = sample.text.split(open_turn_text("user"))[1].split("\n")[0]
            ends = [sample.text[:end].rpartition(";")[2] for _, end in told_characters(sample)]
            assert ends == prompt.split(";")[1:]
            lengths.add(len(ends))
            starts = [start for start, _ in told_characters(sample)]
            assert all(sample.text[:start].endswith(PICTURE) for start in starts)
            sequence = encode(sample)
            assert len(sequence.attention_targets["told"]) == len(ends)
    assert lengths == {1, 2}
