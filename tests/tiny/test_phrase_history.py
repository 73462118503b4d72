"""Wishes that only the talk explains, names by neighbours, and telegrams."""

import random
from dataclasses import replace

import pytest

from small_world import phrase_history as history
from small_world.called import by_neighbor, in_corner
from small_world.conversations import say
from small_world.edits import Edit
from small_world.phrase_adds import ADDS
from small_world.phrase_likes import to_edge
from small_world.phrase_talk import undo_two_step
from small_world.samples import dialogue_sample
from small_world.terse import tersely
from small_world.world import Object, Scene, sample_scene

RING = Object("ring", "blue", "small", 2, 1)
STAR = Object("star", "red", "big", 0, 0)
CROSS = Object("cross", "pink", "big", 1, 1)
ALONE, PAIR = Scene("night", (RING,)), Scene("night", (STAR, RING))
ADDED = Edit("add", "add a star", ALONE, PAIR)


def talk_of(*scenes: Scene, it: Object | None = None, last: Edit | None = None):
    return history.PhraseTalk(list(scenes), it, last=last)


def edits_of(make, talk, count=60):
    rng = random.Random(make.__name__)
    found = [edit for edit in (make(rng, talk) for _ in range(count)) if edit is not None]
    return [edit for edit in found if edit.target != edit.source]  # not "move it to where it is"


def test_the_new_one_is_what_was_added_last():
    found = edits_of(history.by_age, talk_of(ALONE, PAIR, it=STAR, last=ADDED))
    assert len(found) > 30
    for edit in found:
        new = any(name in edit.instruction for name in history.NEW)
        assert (RING in edit.target.objects) == new, edit.instruction
        assert (STAR in edit.target.objects) != new, edit.instruction


def test_the_first_one_is_what_was_said_first():
    talk = talk_of(PAIR)
    talk.order = (RING, STAR)
    for edit in edits_of(history.by_age, talk):
        assert (STAR in edit.target.objects) == ("the first" in edit.instruction), edit.instruction


def test_nothing_is_new_where_the_picture_is_not_of_two_ages():
    talk = talk_of(ALONE, PAIR, it=STAR, last=replace(ADDED, source=PAIR))
    assert not edits_of(history.by_age, talk)


def test_the_other_one_is_not_it():
    found = edits_of(history.other_one, talk_of(PAIR, it=STAR))
    assert found
    assert all(STAR in edit.target.objects for edit in found)


def test_a_copy_keeps_the_original():
    for edit in edits_of(history.copy_it, talk_of(PAIR, it=STAR)):
        (new,) = [o for o in edit.target.objects if o not in PAIR.objects]
        assert new.look == STAR.look
        assert {STAR, RING} < set(edit.target.objects)


def test_what_comes_back_may_have_another_look():
    removed = Edit("remove", "", PAIR, ALONE)
    found = edits_of(history.back_but, talk_of(PAIR, ALONE, last=removed))
    assert found
    for edit in found:
        (new,) = [o for o in edit.target.objects if o != RING]
        assert (new.shape, new.cell) == ("star", STAR.cell)
        assert new.color != "red" or new.size in ("big", "small")
    assert not edits_of(history.back_but, talk_of(ALONE, PAIR, last=ADDED))


def test_exchanged_objects_keep_all_else():
    for edit in edits_of(history.exchange, talk_of(PAIR)):
        colors = {o.shape: o.color for o in edit.target.objects}
        cells = {o.shape: o.cell for o in edit.target.objects}
        places = cells == {"star": RING.cell, "ring": STAR.cell}
        assert places or colors == {"star": "blue", "ring": "red"}, edit.instruction


def test_two_changes_are_undone_at_once():
    empty = Scene("night", ())
    talk = talk_of(empty, ALONE, PAIR)
    assert history.can_undo_two(talk.scenes)
    assert not history.can_undo_two([ALONE, PAIR, ALONE])
    step = undo_two_step(random.Random(1), talk)
    assert step.scene == empty
    assert talk.scenes == [empty]


def test_a_neighbour_names_one_object():
    rng = random.Random(2)
    names = {name for _ in range(40) for name in by_neighbor(rng, PAIR, RING)}
    assert names
    assert all(name.endswith(("star", "red object")) for name in names)
    three = Scene("day", (STAR, CROSS, RING))
    assert not by_neighbor(rng, three, CROSS), "star and ring are both beside it"
    assert in_corner(three, STAR)
    assert not in_corner(three, RING)
    assert not in_corner(three.with_objects((STAR, replace(RING, row=0, col=2))), STAR)


@pytest.mark.parametrize("make", ADDS, ids=lambda make: make.__name__)
def test_what_is_new_leaves_all_that_was_there(make):
    rng, found = random.Random(make.__name__), 0
    for _ in range(400):
        scene = sample_scene(rng, "any", rng.choice((1, 2)))
        edit = make(rng, scene)
        if edit is None:
            continue
        found += 1
        assert set(scene.objects) < set(edit.target.objects), edit.instruction
        assert len({o.cell for o in edit.target.objects}) == len(edit.target.objects)
        assert all(words in edit.instruction for _, words in edit.names), edit
        assert all(words in edit.instruction for _, words in edit.sources), edit
    assert found > 15


def test_to_the_edge_stays_in_its_line():
    rng = random.Random(3)
    edits = [edit for edit in (to_edge(rng, PAIR, RING, "it") for _ in range(60)) if edit]
    for edit in edits:
        (moved,) = [o for o in edit.target.objects if o.shape == "ring"]
        assert (moved.row == RING.row) != (moved.col == RING.col)
        assert moved.row in (0, 2) or moved.col in (0, 2)
    assert edits


def test_a_telegram_keeps_what_the_names_mean():
    names = ((0, "a red star at the top left"),)
    said = "Draw a red star at the top left, on the right of the picture there is nothing."
    sample = dialogue_sample("caption", [say(said)], ALONE, names)
    texts = set()
    for seed in range(8):
        terse = tersely(random.Random(seed), sample)
        assert all(words in terse.text.lower() for _, words in terse.names)
        texts.add(terse.text.partition("Draw ")[2].partition(",")[0])
    assert texts == {"red star top left", "a red star top left"}
