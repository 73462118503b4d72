"""Where taught heads look: names, groups, what an edit aims at; and all drawings of one talk."""

import random
from dataclasses import replace

import pytest
import torch

from blip3u_core.language.prompt import INSTRUCTION_REQUEST, PICTURE
from small_world.called import EVERY_NAME, all_names, by_neighbor, called, several
from small_world.conversations import KNOWN
from small_world.dialogues import SAMPLERS, TYPED_FREELY
from small_world.phrase_edits import same_color, swap
from small_world.phrase_orders import likened_scene, phrase_edit_sample
from small_world.phrase_talk import phrase_talk_sample
from small_world.questions import cell_of
from small_world.samples import Sample, assistant, dialogue_sample, user
from small_world.typos import mistyped
from small_world.world import Object, Scene
from training.grounding import grounded_names, neighbor_names, neighbor_spans
from training.llm import HEADS, LATE, LlmTraining
from training.llm_data import Batch, collate
from training.scenes import render_batch
from training.sequences import encode, exchanged_cells
from training.tokenizer import load_tokenizer

STAR = Object("star", "red", "big", 0, 0)
RING = Object("ring", "blue", "small", 1, 1)
STAR_TOO = Object("star", "green", "small", 2, 2)
THREE = Scene("day", (STAR, RING, STAR_TOO))


@pytest.mark.parametrize(
    ("text", "last", "cells"),
    [
        ("make the red one small", "the red one", {0}),
        ("remove the left star", "the left star", {0}),
        ("remove the lower thing", "the lower thing", {8}),
        ("paint both stars pink", "both stars", {0, 8}),
        ("delete everything small", "everything small", {4, 8}),
        ("make all of them big", "all of them", {0, 4, 8}),
        ("what is at the top left is too big", "at the top left", {0}),
    ],
)
def test_a_name_looks_at_all_that_it_means(text, last, cells):
    end = text.index(last) + len(last) - 1
    assert {cell for place, cell in grounded_names(text, THREE) if place == end} == cells


def test_it_is_the_only_object():
    assert grounded_names("paint it blue", Scene("day", (RING,))) == [(7, 4)]
    assert grounded_names("paint it blue", THREE) == []


def test_every_name_that_is_said_is_known():
    rng = random.Random(1)
    for _ in range(500):
        scene = likened_scene(rng, "any", rng.choice((1, 2, 3)))
        names = all_names(scene)
        assert names.keys() <= set(EVERY_NAME)
        group = several(rng, scene)
        if group is not None and " and " in group[0]:  # two by their own names
            assert len(set(group[1])) == 2
            continue
        assert group is None or set(names[group[0]]) == set(group[1])
        thing = rng.choice(scene.objects)
        assert names.get(called(rng, scene, thing), (thing,)) == (thing,)


def test_exchanged_objects_look_at_one_another():
    swapped = Scene("day", ()).with_objects(
        (replace(STAR, row=1, col=1), replace(RING, row=0, col=0), STAR_TOO)
    )
    assert exchanged_cells(THREE, swapped) == {0: 4, 4: 0}
    moved = Scene("day", ()).with_objects((replace(STAR, row=0, col=1), RING, STAR_TOO))
    assert exchanged_cells(THREE, moved) == {}  # the words say where to
    rng = random.Random(2)
    edit = swap(rng, THREE)
    sample = dialogue_sample("edit", [user(INSTRUCTION_REQUEST, edit.instruction, THREE)],
                             edit.target, edit.names)  # fmt: skip
    batch = collate([encode(sample)])
    cells = exchanged_cells(THREE, edit.target)
    assert [int(batch.touched[0, c] - batch.copied[0, 0]) for c in cells] == list(cells.values())


def aims(sample: Sample) -> set[tuple[int, int]]:
    """(place of the token behind the picture's first, cell), of a sample with one picture."""
    batch = collate([encode(sample)])
    first = int(batch.copied[0, 0])
    found = batch.attention_targets.get("aimed", torch.zeros(0, 3, dtype=torch.long))
    return {(token, place - first) for _, token, place in found.tolist()}


def test_img_aims_at_every_cell_that_changes_and_words_at_theirs():
    rng, seen = random.Random(3), 0
    for _ in range(200):
        sample = phrase_edit_sample(rng)
        sequence = encode(sample)
        if sample.anew or len(sequence.starts) != 1:
            continue
        batch = collate([sequence])
        changed = batch.changed[0].nonzero().flatten().tolist()
        sign = len(sequence.ids) - batch.skipped - 1
        found = aims(sample)
        assert {cell for token, cell in found if token == sign} == set(changed)
        neighbors = {cell for _, cell in neighbor_spans(sample)}
        assert {cell for _, cell in found} <= set(changed) | neighbors
        seen += len(found) > len(changed)
    assert seen > 20  # edits whose words name a cell


def test_an_object_named_by_its_neighbour_is_aimed_at():
    rng, seen = random.Random(5), 0
    for _ in range(60):
        scene = likened_scene(rng, "any", 3)
        for thing in scene.objects:
            for name in by_neighbor(rng, scene, thing):
                text = f"paint {name} red"
                last = len(text) - len(" red") - 1
                assert neighbor_names(text, scene) == [(last, cell_of(thing))]
                seen += 1
    assert seen > 100
    assert neighbor_names("the one below the star", Scene("day", (STAR,))) == []


@torch.no_grad()
def test_a_late_head_is_asked_what_the_first_one_was():
    training, samples = LlmTraining(None), talks(2)
    _, batch = visual_tokens(training, samples)
    losses = training.attention_losses(batch)
    for late in (name for name in HEADS if name.endswith(LATE)):
        first = torch.cat(losses[late.removesuffix(LATE)])
        assert torch.cat(losses[late]).shape == first.shape
        assert HEADS[late][0] > HEADS[late.removesuffix(LATE)][0]
        assert len(first) > 5


def test_a_picture_is_compared_with_the_one_before():
    turns = [user("{prompt}", "a star"), assistant(PICTURE, Scene("day", (STAR,)))]
    turns += [user("{prompt}", "and a ring"), assistant(PICTURE, THREE)]
    sequence = encode(dialogue_sample("talk", [*turns, user("{prompt}", "what is it?")]))
    first, second = sequence.starts
    assert sequence.attention_targets["compared"] == [(second + i, first + i) for i in range(9)]


def test_a_colour_that_is_taken_over_is_looked_up_where_its_object_is_named():
    rng = random.Random(4)
    edit = None
    while edit is None or not edit.sources:
        edit = same_color(rng, THREE)
    ((cell, words),) = edit.sources
    request = [user(INSTRUCTION_REQUEST, edit.instruction, THREE)]
    sample = dialogue_sample("edit", request, edit.target, edit.names, False, edit.sources)
    batch = collate([encode(sample)])
    end = int(batch.named[0, cell]) + 1
    read = load_tokenizer().decode(batch.ids[0, :end].tolist(), skip_special_tokens=False)
    assert read.rstrip(".!?").endswith(words)


def test_typos_keep_what_the_names_mean():
    rng = random.Random(5)
    for kind in sorted(TYPED_FREELY):
        for _ in range(20):
            sample = SAMPLERS[kind](rng, "train")
            if KNOWN not in sample.text:
                typed = mistyped(rng, sample)
                encode(typed)  # which looks for every name
                assert typed.segments[-1] == sample.segments[-1]


def talks(count: int) -> list[Sample]:
    rng, found = random.Random(6), []
    while len(found) < count:
        sample = phrase_talk_sample(rng)
        if len(sample.earlier) > 1:
            found.append(sample)
    return found


def visual_tokens(training: LlmTraining, samples: list[Sample]) -> tuple[torch.Tensor, Batch]:
    batch = collate([encode(sample) for sample in samples])
    seen = torch.zeros(0, 9, training.text.hidden_size)
    if batch.shown:
        seen = training.eyes.encode_images(render_batch(batch.shown))
    return training.hidden(batch, seen, training.read_prefix())[batch.queries], batch


@torch.no_grad()
def test_the_drawings_of_a_talk_are_those_of_its_beginnings():
    training, samples = LlmTraining(None), talks(3)  # no tower: nothing is drawn to the end
    together, batch = visual_tokens(training, samples)
    alone = [part for s in samples for part in (replace(s, earlier=()), *s.earlier)]
    assert len(together) == len(alone) > 8
    for number, sample in enumerate(alone):
        own, single = visual_tokens(training, [sample])
        torch.testing.assert_close(own[0], together[number], atol=1e-5, rtol=1e-4)
        assert single.drawn[0] == batch.drawn[number]
        for name in ("copied", "touched", "named", "settled", "changed"):
            assert torch.equal(getattr(single, name)[0], getattr(batch, name)[number]), name


@pytest.mark.parametrize("said", ["make it blakc", "make it grey", "make it black"])
def test_a_refused_word_is_copied_where_it_can_be(said):
    color = "gray" if "grey" in said else "black"
    turns = [user("{prompt}", said), assistant(f"i know red, not {color}.")]
    targets = encode(dialogue_sample("converse", turns)).attention_targets["repeated"]
    assert bool(targets) == (color in said)
