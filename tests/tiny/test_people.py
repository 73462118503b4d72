"""What people say: true of its scene, never without an answer, and read in any case of letters."""

import itertools
import random
import re
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, normalizers

from blip3u_core.language.prompt import CAPTION_REQUEST, REASON_REQUEST, fill_request
from small_world.conversations import drawing, refusal, sample_conversation, say
from small_world.dialogues import SAMPLERS
from small_world.free_captions import sample_free_caption, whole_caption
from small_world.free_edits import free_edit
from small_world.free_questions import free_question
from small_world.samples import assistant, dialogue_sample
from small_world.scorer import satisfies
from small_world.truth import is_true
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, sample_scene, split_of
from training.copying import copied_characters
from training.llm_data import query_places
from training.sequences import DECISIVE_WEIGHT, Tokens, encode, last_mentions, token_weights
from training.tokenizer import COMMITTED

PAIR = Scene("night", (Object("star", "red", "big", 0, 0), Object("ring", "blue", "small", 2, 1)))


def test_every_free_caption_is_true_of_its_scene_and_of_its_wish():
    rng = random.Random(0)
    for _ in range(600):
        caption = sample_free_caption(rng)
        assert is_true(caption.text, caption.scene), caption
        assert satisfies(caption.scene, caption.wish), caption


@pytest.mark.parametrize("what", ["shape", "color", "size", "row", "background", "count"])
def test_the_truth_of_a_caption_breaks_with_its_scene(what):
    rng = random.Random(1)
    for _ in range(60):
        scene = sample_scene(rng, "any")
        caption = whole_caption(rng, scene)
        first, *others = scene.objects
        wrong = {
            "shape": lambda o: replace(o, shape=SHAPES[SHAPES.index(o.shape) - 1]),
            "color": lambda o: replace(o, color=next(c for c in COLORS if c != o.color)),
            "size": lambda o: replace(o, size="big" if o.size == "small" else "small"),
            "row": lambda o: replace(o, row=(o.row + 1) % 3),
        }
        changed = Scene(next(b for b in BACKGROUNDS if b != scene.background), scene.objects)
        if what == "count":
            changed = scene.with_objects(tuple(others))
        elif what in wrong:
            changed = scene.with_objects((wrong[what](first), *others))
        assert is_true(caption.text, scene), caption.text
        assert not is_true(caption.text, changed), (caption.text, changed)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("A red star above a blue ring", True),
        ("a blue ring with a red star above it", True),
        ("a blue ring with a red star below it", False),
        ("below a red star there is a blue ring", True),
        ("the star is red, the ring is blue", True),
        ("the star is blue, the ring is red", False),
        ("on the left a red star, at the bottom a blue ring", True),
        ("on the right a red star, at the bottom a blue ring", False),
        ("two red stars", False),
        ("it is dark. a crimson star and a tiny ring", True),
        ("a foggy night with a red star and a blue ring", False),
        ("nothing", False),
    ],
)
def test_truth_is_read_from_words_and_their_order(text, true):
    assert is_true(text, PAIR) == true


def test_free_edits_lead_to_scenes_of_the_split_also_from_and_to_nothing():
    rng = random.Random(2)
    emptied = 0
    for _ in range(400):
        scene = sample_scene(rng) if rng.random() < 0.9 else Scene("fog", ())
        edit = free_edit(rng, scene, "train")
        assert len(edit.target.objects) <= 3
        cells = [thing.cell for thing in edit.target.objects]
        assert len(set(cells)) == len(cells)
        assert not edit.target.objects or split_of(edit.target) == "train"
        emptied += not edit.target.objects and bool(scene.objects)
    assert emptied > 5


def test_no_question_is_without_an_answer_and_no_empty_scene_has_an_object():
    rng = random.Random(3)
    for number in range(400):
        scene = sample_scene(rng) if number % 4 else Scene(rng.choice(tuple(BACKGROUNDS)), ())
        question = free_question(rng, scene)
        assert question.answer.strip()
        if not scene.objects and not question.answer.startswith("there is no"):
            assert not any(shape in question.answer for shape in SHAPES), question


def test_conversations_draw_speak_and_undo_and_know_what_is_shown():
    rng = random.Random(4)
    kinds = set()
    for _ in range(150):
        steps = sample_conversation(rng, "train", 5, whole=True)
        shown: list[Scene] = []
        for step in steps:
            kinds.add(step.kind)
            assert step.answer.text.strip()
            assert (step.scene is not None) == (step.kind in ("draw", "edit", "undo"))
            if step.kind == "undo":
                assert step.scene == shown[-2]
                shown.pop()
            elif step.kind == "draw":
                shown = [step.scene]
            elif step.kind == "edit":
                shown.append(step.scene)
            else:
                assert step.kind == "chat" or shown
    assert kinds == {"draw", "ask", "edit", "undo", "chat"}


def test_a_draw_after_a_picture_is_no_edit_and_an_edit_no_new_picture():
    rng = random.Random(6)
    drawn, added = [], []
    for _ in range(300):
        steps = sample_conversation(rng, "train", 5)
        for before, step in itertools.pairwise(steps):
            text = step.message.text.lower()
            if step.kind == "draw" and before.kind in ("draw", "edit", "undo"):
                drawn.append(text)
            elif step.kind == "edit":
                added.append(text)
    assert len(drawn) > 30
    assert not [text for text in drawn if re.search(r"\b(put|then|add)\b", text)]
    assert not [text for text in added if "draw a " in text and not re.search("also|well", text)]


def test_a_cell_is_named_by_the_newest_request_where_its_object_has_been_said():
    old = whole_caption(random.Random(1), PAIR)
    new = Scene("day", (Object("cross", "pink", "small", 0, 0),))
    words = "at the top left a small pink cross"
    turns = [say(old.text), drawing("", PAIR), say(f"By day, {words}")]
    sample = dialogue_sample("converse", turns, new, ((0, words),))
    assert last_mentions(sample) == {0: sample.text.rindex("cross") + len("cross") - 1}
    undone = dialogue_sample("converse", [*turns, drawing("", new), say("undo")], PAIR)
    assert last_mentions(undone) == {}


def test_an_undone_cell_looks_at_the_picture_that_comes_back():
    star = PAIR.objects[0]
    green = PAIR.with_objects((replace(star, color="green"), PAIR.objects[1]))
    turns = [say("a"), drawing("", PAIR), say("b"), drawing("", green), say("undo")]
    sequence = encode(dialogue_sample("converse", turns, PAIR))
    places = query_places(sequence, 0)
    first, last = sequence.starts
    assert places.touched.tolist() == [first, *range(last + 1, last + 9)]
    assert places.copied.tolist() == list(range(last, last + 9))


def test_the_first_token_of_an_answer_decides_and_a_refusal_repeats_what_was_asked_for():
    sample = dialogue_sample(
        "converse",
        [say("A Blue Cat!"), assistant(refusal("a cat")), say("red star"), drawing("", PAIR)],
    )
    tokens = Tokens.from_text(sample.text)
    heavy = (token_weights(sample, tokens) == DECISIVE_WEIGHT).nonzero().flatten().tolist()
    said = [sample.text[tokens.begins[token] :][:5] for token in heavy]
    assert (said[0], said[-1]) == ("i kno", "[IMG]")
    assert sample.text[tokens.begins[heavy[1]] : tokens.begins[heavy[-2] + 1]] == " cat"
    copied = copied_characters(sample)
    assert copied[sample.text.rindex("cat")] == sample.text.index("Cat")


def test_places_are_found_in_any_wording():
    caption = whole_caption(random.Random(0), PAIR)
    for text, cell in (("Upper Left corner", 0), ("the center right", 5), ("lower middle", 7)):
        sample = SAMPLERS["free_caption"](random.Random(1), "train")
        segment = replace(sample.segments[0], text=text)
        assert cell in last_mentions(replace(sample, segments=(segment,), names=()))
    assert caption.names


def test_the_tokenizer_reads_capitals_digits_and_british_and_keeps_the_nodes_own_texts():
    tokenizer = Tokenizer.from_file(str(COMMITTED))
    plain = Tokenizer.from_file(str(COMMITTED))
    plain.normalizer = normalizers.NFC()

    def ids(reader: Tokenizer, text: str) -> list[int]:
        return reader.encode(text, add_special_tokens=False).ids

    assert ids(tokenizer, "3 BLUE Squares") == ids(plain, "three blue squares")
    assert ids(tokenizer, "What\u2019s the colour of the grey centre?") == ids(
        plain, "what's the color of the gray center?"
    )
    rng = random.Random(5)
    for kind in ("caption", "edit", "question", "describe", "edit_plan", "riddle", "story"):
        for _ in range(40):
            text = SAMPLERS[kind](rng, "train").text
            words = [word for word in text.split() if word[0].isupper()]
            if kind in ("question", "describe") or len(words) == len({"You"} & set(words)):
                assert ids(tokenizer, text) == ids(plain, text)
    for request in (CAPTION_REQUEST, REASON_REQUEST):
        text = fill_request(request, "a red star")
        assert ids(tokenizer, text) == ids(plain, text)
