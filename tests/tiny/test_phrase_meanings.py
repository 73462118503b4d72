"""What lines of the phrase book mean: in a talk, by name, of everything at once."""

import random
import re
from dataclasses import replace

from small_world import (
    neighbor_captions,
    phrase_adds,
    phrase_captions,
    phrase_choices,
    phrase_groups,
    phrase_moves,
    phrase_several,
    phrase_talk,
    placed_captions,
)
from small_world.called import called
from small_world.edits import Edit
from small_world.world import Object, Scene

RING = Object("ring", "blue", "small", 2, 1)
STAR = Object("star", "red", "big", 0, 0)
PAIR = Scene("night", (STAR, RING))


def test_it_is_what_the_talk_was_about():
    rng, spoken = random.Random(6), set()
    for _ in range(500):
        talk = phrase_talk.PhraseTalk([PAIR], RING, rng.choice(("", "color")))
        edit = phrase_talk.following(rng, talk, "any")
        if re.search(r"\bother one\b", edit.instruction.lower()) and edit.kind == "lean":
            spoken.add("other")
            assert RING in edit.target.objects, edit.instruction
    assert spoken == {"other"}
    twins = Scene("day", (STAR, replace(STAR, col=2)))
    assert phrase_talk.is_alike(twins, STAR)


def test_the_same_change_is_of_one_trait_of_one_object():
    green = replace(STAR, color="green")
    recolored = Edit("recolor", "", PAIR, PAIR.with_objects((green, RING)))
    assert phrase_several.same_change(recolored, RING).target.objects == (
        STAR, replace(RING, color="green")
    )  # fmt: skip
    assert phrase_several.same_change(recolored, STAR) is None
    both = Edit("group", "", PAIR, PAIR.with_objects((replace(green, size="small"), RING)))
    assert phrase_several.same_change(both, RING) is None
    removed = Edit("remove", "", PAIR, PAIR.with_objects((RING,)))
    assert phrase_several.same_change(removed, RING).target.objects == (STAR,)
    moved = Edit("move", "", PAIR, PAIR.with_objects((replace(STAR, col=2), RING)))
    assert phrase_several.same_change(moved, RING) is None


def test_meaning_the_other_undoes_the_first_change():
    rng = random.Random(8)
    green = PAIR.with_objects((replace(STAR, color="green"), RING))
    talk = phrase_talk.PhraseTalk([PAIR, green], None, "color", Edit("recolor", "", PAIR, green))
    edits = [phrase_talk.meant_other(rng, talk) for _ in range(40)]
    targets = {edit.target for edit in edits if edit is not None}
    assert targets == {PAIR.with_objects((STAR, replace(RING, color="green")))}
    talk.it = None
    added = phrase_talk.same_for(rng, talk)
    assert {thing.color for thing in added.target.objects} == {"green"}


def test_there_is_where_something_was():
    rng = random.Random(9)
    gone = PAIR.with_objects((RING,))
    talk = phrase_talk.PhraseTalk([PAIR, gone], None, "", Edit("remove", "", PAIR, gone))
    for _ in range(20):
        edit = phrase_talk.put_there(rng, talk)
        assert {thing.cell for thing in edit.target.objects} == {STAR.cell, RING.cell}


def test_names_mean_one_object():
    rng, twins = random.Random(10), PAIR.with_objects((STAR, replace(RING, shape="star")))
    said = {called(rng, twins, STAR) for _ in range(900)}
    assert {"the upper star", "the left one", "the bigger one"} <= said
    assert not said & {"the lower star", "the right one", "the smaller one", "the star"}


def test_choices_are_answered_with_what_is_asked_for():
    rng = random.Random(13)
    scene = PAIR.with_objects((STAR, replace(STAR, row=1, col=1), replace(RING, row=2, col=2)))
    for make in phrase_choices.CHOICES:
        found = [make(rng, scene) for _ in range(40)]
        assert any(found), make.__name__
    middle = scene.objects[1]
    assert phrase_choices.between_them(rng, scene).about == 3 * middle.row + middle.col
    assert phrase_choices.odd_one(rng, scene).about == 8
    foremost = [phrase_choices.foremost(rng, [STAR, RING]) for _ in range(60)]
    assert {more: thing.shape for (more, _), thing in foremost} == {
        "bigger": "star", "larger": "star", "smaller": "ring", "higher up": "star",
        "lower down": "ring", "further left": "star", "further right": "ring",
    }  # fmt: skip
    answers = {phrase_choices.how_many_traits(rng, scene).answer for _ in range(20)}
    assert answers == {"two"}


def test_moves_across_and_of_everything():
    rng, alone = random.Random(14), Scene("fog", (STAR,))
    found = {phrase_moves.move_across(rng, alone).target.objects[0].cell for _ in range(40)}
    assert found == {(0, 2), (2, 2)}
    pair = PAIR.with_objects((replace(STAR, row=1), replace(RING, row=2)))
    found = {edit.target for _ in range(60) if (edit := phrase_moves.shift_all(rng, pair))}
    up = pair.with_objects((STAR, replace(RING, row=1)))
    right = pair.with_objects((replace(STAR, row=1, col=1), replace(RING, col=2)))
    assert found == {up, right}


def test_exchanged_sizes_leave_all_else():
    edit = phrase_several.swap_sizes(random.Random(15), PAIR)
    small, big = replace(STAR, size="small"), replace(RING, size="big")
    assert edit.target == PAIR.with_objects((small, big))


def test_undoing_the_first_picture_leaves_nothing():
    talk = phrase_talk.PhraseTalk([PAIR], RING)
    step = phrase_talk.undo_first_step(random.Random(16), talk)
    assert step.scene == talk.scene == PAIR.with_objects(())
    assert step.anew


def test_recoloring_a_color_means_all_that_have_it():
    scene = PAIR.with_objects(
        (STAR, replace(RING, color="red"), replace(STAR, row=1, color="pink"))
    )
    for number in range(40):
        edit = phrase_groups.recolor_color(random.Random(number), scene)
        before = [o.color for o in scene.objects]
        after = [o.color for o in edit.target.objects]
        changed = {old: new for old, new in zip(before, after, strict=True) if old != new}
        assert len(changed) == 1, edit.instruction
        assert set(changed) & set(after) == set(), edit.instruction


def test_all_but_one_take_on_both_looks():
    edits = [phrase_groups.all_but_looks(random.Random(number), PAIR) for number in range(20)]
    found = [edit for edit in edits if edit is not None]
    assert len(found) > 10
    for edit in found:
        (kept,) = set(edit.target.objects) & {STAR, RING}
        (new,) = set(edit.target.objects) - {kept}
        assert new.size in edit.instruction
        assert new.cell in {STAR.cell, RING.cell} - {kept.cell}


def test_a_group_moves_together_and_stays_inside():
    assert phrase_moves.moved_by([STAR, RING], "up", 1) is None
    moved = phrase_moves.moved_by([STAR, RING], "to the right", 1)
    assert [o.cell for o in moved] == [(0, 1), (2, 2)]
    assert phrase_moves.moved_by([STAR], "down", 2)[0].cell == (2, 0)


def test_aside_is_one_cell_each_way():
    cells = set()
    for number in range(60):
        edit = phrase_groups.step_aside(random.Random(number), Scene("fog", (STAR,)))
        cells |= {o.cell for o in edit.target.objects} if edit else set()
    assert cells == {(1, 1)}


def test_both_sides_get_the_same():
    alone = Scene("fog", (replace(STAR, row=1, col=1),))
    for number in range(40):
        edit = phrase_adds.add_sides(random.Random(number), alone)
        first, second = (o for o in edit.target.objects if o.cell != (1, 1))
        assert replace(first, row=second.row, col=second.col) == second
        assert (first.row + second.row, first.col + second.col) == (2, 2)
    assert phrase_adds.add_sides(random.Random(1), PAIR) is None


def test_neighbors_stand_in_a_line_or_around_the_middle():
    scene = PAIR.with_objects((STAR, RING, replace(STAR, shape="cross", row=1)))
    said = {
        form: [form(random.Random(number), scene) for number in range(30)]
        for form in (neighbor_captions.chain, neighbor_captions.around)
    }
    chains, rings = (
        [[thing.cell for thing, _, _ in found[1]] for found in captions if found]
        for captions in said.values()
    )
    assert min(len(chains), len(rings)) > 10
    for first, second, third in chains:
        assert second == (1, 1)
        assert (first[0] + third[0], first[1] + third[1]) == (2, 2)
    for first, *others in rings:
        assert first == (1, 1)
        assert all(abs(row - 1) + abs(col - 1) == 1 for row, col in others)


def test_sides_leave_the_rest_of_the_place_open():
    found = set()
    for number in range(80):
        said = placed_captions.two_placed(random.Random(number), PAIR)
        for thing, wish, _ in said[1] if said else ():
            assert wish.row in (None, thing.row)
            assert wish.col in (None, thing.col)
            found.add((wish.row is None, wish.col is None))
    assert found == {(False, False), (True, False), (False, True)}


def test_a_color_that_is_corrected_counts_as_the_second():
    pair = PAIR.with_objects((STAR, replace(RING, color="red")))
    found = 0
    for number in range(40):
        said = phrase_captions.corrected_later(random.Random(number), pair)
        for thing, wish, words in said[1] if said else ():
            if thing.color != "red":
                found += 1
                assert wish.color == thing.color
                assert thing.shape in words
                assert words in said[0]
    assert found > 20


def test_counts_in_a_line_and_the_only_other_one():
    scene = PAIR.with_objects((STAR, replace(STAR, row=1, col=1), replace(RING, row=1, col=2)))
    counted = {phrase_choices.count_line(random.Random(n), scene).answer for n in range(60)}
    assert counted == {"zero", "one", "two"}
    only = {phrase_choices.only_not(random.Random(n), scene).answer for n in range(20)}
    assert only == {"a small blue ring"}
    sized = {phrase_choices.anything_size(random.Random(n), PAIR).answer for n in range(9)}
    assert sized == {"yes"}
    lined = scene.with_objects((STAR, replace(RING, row=1, col=1), replace(STAR, row=2, col=2)))
    assert phrase_choices.between_color(random.Random(1), lined).answer == "blue"
