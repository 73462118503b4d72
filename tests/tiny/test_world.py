"""The world: what is said of a scene is true of it, and the splits keep apart."""

import random
from dataclasses import replace

import numpy as np
import pytest

from blip3u_core.language.prompt import IMG, PICTURE
from small_world.dialogues import MIX, SAMPLERS, corpus, descriptions, sample_any, sample_story
from small_world.edits import EDITS, edit_plan_of, sample_edit
from small_world.language import NUMBERS, describe, look_words, reworded_order, sample_caption
from small_world.questions import ask, ask_yes_no, cell_of
from small_world.riddles import sample_riddle
from small_world.samples import Drawn, Shown, Text
from small_world.world import (
    BACKGROUNDS,
    Object,
    Scene,
    is_never_seen_triple,
    relations,
    render,
    sample_scene,
    split_of,
    triples,
)
from training.copying import copied_words
from training.grounding import grounded_names
from training.rewriting import decisive_characters, rewritings
from training.sequences import encode, last_mentions


def test_scenes_have_one_to_three_objects_in_cells_of_their_own():
    rng = random.Random(0)
    for _ in range(300):
        scene = sample_scene(rng, "any")
        assert 1 <= len(scene.objects) <= 3
        assert len({thing.cell for thing in scene.objects}) == len(scene.objects)
        assert list(scene.objects) == sorted(scene.objects, key=lambda thing: thing.cell)


@pytest.mark.parametrize("split", ["train", "held_out", "never_seen"])
def test_every_scene_of_a_split_belongs_to_it(split):
    rng = random.Random(1)
    assert all(split_of(sample_scene(rng, split)) == split for _ in range(100))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="held_out"):
        sample_scene(random.Random(0), "test")


def test_training_never_shows_a_never_seen_triple():
    rng = random.Random(2)
    shown = set()
    for _ in range(1000):
        for segment in sample_any(rng, "train").segments:
            if isinstance(segment, Shown | Drawn):
                shown |= set(triples(segment.scene))
                assert split_of(segment.scene) == "train"
    assert len(shown) > 150
    assert not any(is_never_seen_triple(triple) for triple in shown)


def test_jitter_does_not_change_the_split():
    rng = random.Random(3)
    for _ in range(100):
        scene = sample_scene(rng, "any")
        still = replace(scene, objects=tuple(replace(o, dx=0, dy=0) for o in scene.objects))
        assert split_of(scene) == split_of(still)


def test_relations_are_opposite():
    a, b = Object("star", "red", "big", 0, 2), Object("ring", "blue", "big", 1, 0)
    assert relations(a, b) == ("right of", "above")
    assert relations(b, a) == ("left of", "below")


def test_render_paints_the_background_and_the_object():
    scene = Scene("night", (Object("square", "red", "big", 1, 1),))
    picture = render(scene)
    assert picture.shape == (128, 128, 3)
    assert tuple(picture[0, 0]) == BACKGROUNDS["night"]
    assert tuple(picture[64, 64]) == (215, 30, 35)
    assert np.array_equal(render(scene, 256)[::2, ::2], picture)
    with pytest.raises(ValueError, match="multiple of 128"):
        render(scene, 100)


def test_captions_wish_for_what_their_scene_shows():
    from small_world.scorer import satisfies

    rng = random.Random(4)
    for _ in range(150):
        caption = sample_caption(rng, "any")
        assert satisfies(caption.scene, caption.wish), caption.text
        riddle = sample_riddle(rng, "held_out")
        assert satisfies(riddle.scene, riddle.wish), riddle.text


def test_what_is_not_said_stands_in_its_usual_place():
    rng = random.Random(14)
    usual = {1: {(1, 1)}, 2: {(1, 1), (1, 2)}, 3: {(1, 1), (1, 2), (1, 0)}}
    beside = {"left of": (1, 2), "right of": (1, 0), "above": (2, 1), "below": (0, 1)}
    kinds = set()
    for _ in range(400):
        caption = sample_caption(rng)
        cells = {thing.cell for thing in caption.scene.objects}
        assert len(cells) == len(caption.wish.objects)
        if caption.wish.relation:
            assert cells == {(1, 1), beside[caption.wish.relation]}, caption.text
            kinds.add("relation")
        elif all(wish.row is wish.col is None for wish in caption.wish.objects):
            assert cells == usual[len(cells)], caption.text
            kinds.add(len(cells))
    assert kinds == {1, 2, 3, "relation"}


def test_every_drawn_object_is_named_where_the_text_speaks_of_it():
    rng = random.Random(15)
    for make in (SAMPLERS["caption"], SAMPLERS["riddle"]):
        for _ in range(200):
            sample = make(rng, "train")
            if not sample.draws:
                continue
            mentions = last_mentions(sample)
            for thing in sample.segments[-1].scene.objects:
                spoken = sample.text[: mentions[3 * thing.row + thing.col] + 1].lower()
                assert thing.shape in spoken, sample.text


def test_an_answer_is_about_the_cell_that_decides_it():
    rng = random.Random(16)
    for kind, part in (("color", "color"), ("shape", "shape"), ("position", "place")):
        for _ in range(100):
            scene = sample_scene(rng)
            question = ask(rng, scene, kind)
            thing = {3 * o.row + o.col: o for o in scene.objects}.get(question.about)
            if thing is not None:  # "nothing" is said of an empty cell
                answers = {getattr(thing, part)}
                if kind == "position" and not question.text.startswith(("where", "in which")):
                    answers.add(look_words(thing))  # of twins, what stands at a place is asked
                assert question.answer in answers


def test_names_are_grounded_in_the_only_object_that_fits():
    scene = Scene(
        "day", (Object("star", "red", "big", 0, 0), Object("star", "blue", "small", 2, 1))
    )
    for text, cells in {
        "what color is the big star?": [0],
        "make the blue star green": [7],
        "put the red star at the bottom right": [0],
        "is the tiny object at the bottom middle blue?": [7],
        "where is the star?": [],
        "how many stars are there?": [],
        "is the red star above the blue star?": [0, 7],
    }.items():
        found = grounded_names(text, scene)
        assert [cell for _, cell in found] == cells, text
        assert all(text[last + 1 : last + 2] in ("", " ", "?") for last, _ in found), text


def test_a_rewritten_description_copies_from_the_words_that_keep_or_change_it():
    before = "a big red star at the top left and a small blue ring in the center by day"
    after = "a big green star at the top left and a small blue ring in the center by day"
    text = f"{before}; make the star green; {after}"
    copied = copied_words(text, len(text) - len(after), len(text))
    assert all(text[new] == text[old] for new, old in copied.items())
    assert copied[text.rindex("green")] == text.index("green")
    assert copied[text.rindex("star")] == text.index("star")
    assert copied[text.rindex("a small")] == text.index("a small")
    assert copied_words(before, 0, len(before)) == {}


def test_a_rewritten_description_keeps_the_order_of_what_it_rewrites():
    star, ring = Object("star", "red", "big", 0, 0), Object("ring", "blue", "small", 1, 1)
    cross = Object("cross", "pink", "big", 0, 1)
    moved = replace(star, row=2, col=2)
    before = [star, ring]
    for after, order in {
        (moved, ring): [moved, ring],
        (star, ring, cross): [star, ring, cross],
        (ring,): [ring],
        (star, ring): [star, ring],
    }.items():
        scene = Scene("day", ()).with_objects(after)
        assert reworded_order(before, scene) == order
    text = describe(Scene("day", ()).with_objects((moved, ring)), [moved, ring])
    assert text.startswith("a big red star at the bottom right and a small blue ring")


def test_a_rewriting_knows_its_object_and_the_words_that_decide():
    rng = random.Random(21)
    kinds = set()
    for _ in range(300):
        edit = sample_edit(rng)
        sample = edit_plan_of(edit)
        (rewriting,) = rewritings(sample)
        text, source = sample.text, set(edit.source.objects)
        kept = {thing for _, _, thing in rewriting.phrases if thing is not None}
        assert kept == source & set(edit.target.objects)
        gone = source - set(edit.target.objects)
        assert rewriting.meant == (gone.pop() if gone else None)
        decisive = decisive_characters(sample)
        assert min(decisive) >= rewriting.start
        if edit.kind == "recolor":
            (new,) = set(edit.target.objects) - source
            words = "".join(text[place] for place in sorted(decisive))
            assert words == new.color
        kinds.add(edit.kind)
    assert kinds == set(EDITS)


def test_words_of_a_rewriting_look_where_queries_would():
    rng = random.Random(22)
    for _ in range(100):
        edit = sample_edit(rng, kind=rng.choice(("recolor", "move", "remove")))
        sequence = encode(edit_plan_of(edit))
        ((opener, meant),) = sequence.attention_targets["meant"]
        cells = {cell_of(thing) for thing in edit.source.objects}
        assert meant - sequence.starts[0] in cells
        looked = {place for _, place in sequence.attention_targets["touched"]}
        new = set(edit.target.objects) - set(edit.source.objects)
        assert (opener in looked) == bool(new)
        stay = set(edit.target.objects) & set(edit.source.objects)
        assert looked - {opener} == {sequence.starts[0] + cell_of(thing) for thing in stay}
        assert all(token >= opener for token, _ in sequence.attention_targets["touched"])


def test_what_is_counted_is_the_answer():
    rng = random.Random(17)
    seen = set()
    for _ in range(300):
        scene = sample_scene(rng)
        question = ask(rng, scene, "count")
        assert NUMBERS[len(question.counted)] == question.answer
        assert {divmod(cell, 3) for cell in question.counted} <= {o.cell for o in scene.objects}
        question = ask_yes_no(rng, scene)
        if question.counted is not None and "two" not in question.text:
            seen.add((bool(question.counted), question.answer))
    assert {(True, "yes"), (False, "no")} <= seen


def test_half_of_the_yes_no_answers_are_no():
    rng = random.Random(5)
    answers = [ask_yes_no(rng, sample_scene(rng)).answer for _ in range(400)]
    assert 150 < answers.count("no") < 250


def test_answers_do_not_depend_on_what_cannot_be_seen():
    rng = random.Random(6)
    for _ in range(300):
        scene = sample_scene(rng)
        state = rng.getstate()
        question = ask(rng, scene)
        rng.setstate(state)
        moved = replace(scene, objects=tuple(replace(o, dx=0, dy=0) for o in scene.objects))
        assert ask(rng, moved) == question


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_changes_something_and_keeps_the_number_of_objects_allowed(kind):
    rng = random.Random(7)
    for _ in range(50):
        edit = sample_edit(rng, "train", kind)
        assert describe(edit.source) != describe(edit.target)
        assert 1 <= len(edit.target.objects) <= 3
        assert split_of(edit.target) == "train"


def test_samples_mark_one_picture_for_every_scene_and_draw_last():
    rng = random.Random(8)
    assert set(MIX) == set(SAMPLERS)
    for kind, make in SAMPLERS.items():
        for _ in range(30):
            sample = make(rng, "train")
            shown = sum(isinstance(segment, Shown) for segment in sample.segments)
            assert sample.text.count(PICTURE) == shown, kind
            assert not any(isinstance(segment, Drawn) for segment in sample.segments[:-1]), kind
            learnt = any(isinstance(segment, Text) and segment.loss for segment in sample.segments)
            assert learnt or sample.draws, kind
            assert not sample.draws or sample.text.endswith(IMG), kind


def test_a_story_has_a_sentence_for_every_picture():
    rng = random.Random(9)
    for _ in range(50):
        story = sample_story(rng)
        assert len(story.sentences) == len(story.scenes) >= 2
        for sentence, text in zip(story.sentences, descriptions(story.scenes), strict=True):
            assert text in sentence


def test_the_corpus_holds_no_marks_and_repeats():
    texts = list(corpus(random.Random(0), num_samples=50))
    assert texts == list(corpus(random.Random(0), num_samples=50))
    assert not any(IMG in text or PICTURE in text for text in texts)


def test_a_question_of_place_means_one_object():
    twins = Object("ring", "red", "big", 0, 0), Object("ring", "red", "big", 2, 2)
    rng = random.Random(10)
    for _ in range(50):
        assert "where" not in ask(rng, Scene("day", twins), "position").text
        mixed = Scene("day", (*twins, Object("star", "red", "big", 1, 1)))
        assert ask(rng, mixed, "position").answer == "center"
