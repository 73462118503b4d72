"""The phrase book: every line can be said, and means what its kind says."""

import random
import re

import pytest

from small_world import (
    phrase_captions,
    phrase_chat,
    phrase_edits,
    phrase_orders,
    phrase_several,
)
from small_world.phrase_questions import phrase_question
from small_world.phrases import TOPICS, phrase, phrases, slots
from small_world.scorer import satisfies
from small_world.truth import COLOR_OF
from small_world.world import BACKGROUNDS, Object, Scene, sample_scene

RING = Object("ring", "blue", "small", 2, 1)
STAR = Object("star", "red", "big", 0, 0)
PAIR = Scene("night", (STAR, RING))
MAKERS = (*phrase_edits.OF_SCENE, *phrase_several.OF_TWO)

# kind -> slots that a template must have, and those that it may have
IT, IT_COLOR, PAIR_SLOTS, NONE = ("it", ""), ("it color", ""), ("it other", ""), ("", "")
TRAIT = ("trait", "")
CORRECTED = (
    phrase_captions.corrected,
    phrase_captions.corrected_color,
    phrase_captions.corrected_later,
)
TWICE_SAID = ("chain", "adj_where", "pair_where", "sizes_told", "piecewise", "piecewise_two")
SLOTS = {
    "edits": {
        "recolor": ("it color", "old"), "replace": ("it new", ""), "remove": IT,
        "add": ("thing", "where"), "move": ("it", "where place"), "up": IT, "down": IT,
        "left": IT, "right": IT, "beside": ("it relation other", ""), "grow": IT, "shrink": IT,
        **dict.fromkeys(BACKGROUNDS, NONE), "all_color": ("color", ""), "all_grow": NONE,
        "all_shrink": NONE, "recolor_two": ("it color other color2", ""),
        "same_color": PAIR_SLOTS, "swap": PAIR_SLOTS, "only": IT, "recolor_grow": IT_COLOR,
        "recolor_shrink": IT_COLOR, "clear": NONE, "keep": NONE, "then": ("first second", ""),
        "ask_politely": ("order", ""), "group_color": ("them color", ""),
        **dict.fromkeys(("group_remove", "group_grow", "group_shrink"), ("them", "")),
        "group_replace": ("them news", ""), "swap_colors": PAIR_SLOTS, "swap_two": NONE,
        "each": ("it how other how2", ""), "three": ("first second third", ""),
        "correct": ("first second", ""), "correct_color": ("it color color2", ""),
        "instead": ("it thing", ""), "all_of_it": ("it color size", ""),
        "add_beside": ("thing relation other", ""), "add_same_color": ("thing other", ""),
        "two_steps": ("it way", ""), "move_between": ("it other third", ""),
        "copy": ("it where", ""), "add_two": ("thing thing2", ""),
        "between": ("thing other third", ""), "all_but_color": IT_COLOR,
        **dict.fromkeys(("all_but_grow", "all_but_shrink"), IT),
        "all_but_replace": ("it nouns", ""), "same_size": PAIR_SLOTS, "same_shape": PAIR_SLOTS,
        **dict.fromkeys(("far_up", "far_down", "far_left", "far_right"), IT),
        "other_side": IT, "other_corner": IT, "shift_all": ("way", ""),
        "add_corners": ("things corners", ""), "swap_sizes": PAIR_SLOTS, "swap_two_sizes": NONE,
        "recolor_color": ("old color", ""), "all_but_looks": ("it color size", ""),
        **dict.fromkeys(("group_step", "group_two_steps"), ("them way", "")),
        "step_corner": ("it way way2", ""),
        **dict.fromkeys(("add_sides", "add_above_below"), ("it", "look looks")),
    },
    "follow": {
        **dict.fromkeys(("color", "not_color", "other_color", "back_color"), ("color", "")),
        **dict.fromkeys(("grow", "shrink", "remove", "one_more", "undo", "put_back"), NONE),
        "replace": ("new", ""), "move": ("", "where place"), "too_color": IT, "too": IT,
        "meant_other": ("it", "other"), "there": ("thing", ""),
        "add_beside": ("thing", "relation relation_it"), "both_color": ("color", ""),
        **dict.fromkeys(("up", "down", "left", "right", "again_undo"), NONE),
        **dict.fromkeys(("both_grow", "both_shrink", "undo_two"), NONE),
        **dict.fromkeys(("swap_them", "swap_their_colors"), NONE),
        "back_but_size": ("size", ""), "back_but_color": ("color", ""),
        "copy_it": ("where", ""), "twin": ("relation_it", ""), "here": ("place", ""),
    },
    "questions": {
        **dict.fromkeys(("color", "size", "is_big", "is_small", "place"), IT),
        **dict.fromkeys(
            ("shape_alone", "bigger", "smaller", "count_all", "same_shape_q", "setting",
             "anything", "empty", "colors", "shapes", "describe"), NONE
        ),
        **{f"is_{background}": NONE for background in BACKGROUNDS},
        "is_color": IT_COLOR, "color_or": ("it color color2", ""), "shape": ("color", ""),
        "count": ("things", ""), "any": ("things", ""), "is_number": ("number things", ""),
        "at": ("where", ""), "is_at": ("it where", ""), "is_there": ("thing", ""),
        "related": ("it relation other", ""), "same_color_q": PAIR_SLOTS,
        "left_or_right": PAIR_SLOTS, "is_bigger": PAIR_SLOTS, "is_smaller": PAIR_SLOTS,
        "are_all": ("how", ""), "count_how": ("how", ""), "still": ("thing", ""),
        "left_of_it": ("relation it", ""),
        **dict.fromkeys(("where_alone", "color_alone", "size_alone", "higher", "lefter"), NONE),
        "choose_of": ("it other more", ""), "choose_of_all": ("", "more most"),
        **dict.fromkeys(("twice", "two_same", "all_same", "all_differ", "odd_one"), TRAIT),
        "how_many_traits": ("traits", ""), "count_not": ("how", ""),
        "count_not_shape": ("shape", ""), "between_them": PAIR_SLOTS,
        "anything_color": ("color", ""), "which_color": ("color", ""),
        "more_than": ("things others", ""), "in_line": ("line", ""), "same_as": ("it trait", ""),
        "between_color": PAIR_SLOTS, "only_not": ("how", ""), "anything_size": ("size", ""),
        "count_line": ("place", ""),
    },
    "draw": {
        "one": ("", "size color shape"), "one_where": ("thing where", ""),
        "one_setting": ("thing setting", ""), "one_both": ("thing where setting", ""),
        "two": ("thing thing2", ""), "relation": ("thing relation thing2", ""),
        "three": ("thing thing2 thing3", ""), "two_where": ("thing where thing2 where2", ""),
        "number": ("number things", ""), "number_setting": ("number things setting", ""),
        "correct": ("thing thing2", ""), "not_size": ("color shape size", ""),
        "pair_color": ("shape shape2 color", ""), "twins_and": ("number things thing", ""),
        "one_each": ("things color color2", ""), "under_it": ("thing relation thing2", ""),
        "big_small": ("color shape", ""), "same_too": ("thing shape2", ""),
        "three_where": ("thing where thing2 where2 thing3 where3", ""),
        "adj_where": ("adj adj2 shape where where2", ""),
        "pair_where": ("color shape shape2 where where2", ""),
        "anchor_beside": ("thing where relation thing2", ""),
        "line_three": ("looks line", ""), "corner_each": ("look corners", ""),
        "ask": ("scene", ""), "fresh": ("scene", ""),
        "nothing": NONE,
        "line_listed": ("thing thing2 thing3 line", "way"),
        "line_adjs": ("shape line adj adj2 adj3", "way"),
        "corner_pair": ("shape corners first adj second adj2", ""),
        "pair_looks": ("shape shape2 size color", ""),
        "pair_size": ("shape color shape2 color2 size", ""),
        "trio_color": ("shape shape2 shape3 color", ""),
        "trio_size": ("thing thing2 thing3 size", ""),
        "many_colors": ("shape color color2 color3", ""), "two_colors": ("shape color color2", ""),
        "respective": ("shape shape2 color color2", ""),
        "sizes_told": ("shape color color2 size size2", ""),
        "relation_after": ("thing thing2 name relation name2", ""),
        "keyed": ("color size shape where", ""), "adj_order": ("color size shape where", ""),
        "keyed_two": ("thing where thing2 where2 setting", ""),
        "piecewise": ("shape color size where", ""),
        "piecewise_two": ("shape color shape2 color2 name where", ""),
        "correct_adj": ("color color2 shape", ""),
        "correct_later": ("thing thing2 name color", ""),
        "chain": ("thing thing2 thing3 relation_it", ""),
        "around": ("thing thing2 thing3 relation_it relation_it2", ""),
        **{f"nothing_{background}": NONE for background in BACKGROUNDS},
    },
    "talk": {**dict.fromkeys(phrase_chat.ANSWERS, NONE), "unknown": ("noun", "")},
}  # fmt: skip


@pytest.mark.parametrize("topic", TOPICS)
def test_every_template_has_the_slots_of_its_kind(topic):
    assert phrases(topic).keys() == SLOTS[topic].keys()
    for kind, (needed, allowed) in SLOTS[topic].items():
        needed, allowed = set(needed.split()), set(allowed.split())
        for template in phrases(topic)[kind]:
            used = slots(template)
            assert needed <= used <= needed | allowed, (topic, kind, template)
            counts = {template.count(f"{{{slot}}}") for slot in used}
            assert counts <= {1} or kind in TWICE_SAID, (kind, template)
    moves = phrases("edits")["move"] if topic == "edits" else phrases("follow")["move"]
    assert all(len(slots(template) & {"where", "place"}) == 1 for template in moves)


def test_a_template_is_taken_only_with_all_that_it_asks_for():
    rng = random.Random(1)
    for _ in range(50):
        text, used = phrase(rng, "edits", "add", thing="an orange star")
        assert "where" not in used
        assert "{" not in text
        assert "an orange star" in text


def test_articles_fit_the_word_that_follows():
    rng = random.Random(2)
    words = {"size": "small", "color": "orange", "shape": "star"}
    for _ in range(300):
        assert " a orange" not in f" {phrase(rng, 'draw', 'one', **words)[0]}"


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_edits_of_the_book_change_the_picture(make):
    rng, found = random.Random(make.__name__), 0
    for _ in range(60):
        edit = make(rng, sample_scene(rng, "any", rng.choice((2, 3))))
        if edit is None:
            continue
        found += 1
        cells = [thing.cell for thing in edit.target.objects]
        assert len(cells) == len(set(cells)), edit.instruction
        words = {COLOR_OF.get(word) for word in re.findall(r"\w+", edit.instruction.lower())}
        if make in (phrase_edits.recolor_two, phrase_edits.add):
            new = {o.color for o in edit.target.objects if o not in edit.source.objects}
            assert new <= words, edit.instruction
        assert (edit.target == edit.source) == (make is phrase_edits.keep) or make in (
            phrase_edits.change_all, phrase_edits.recolor_two, phrase_edits.swap,
            phrase_several.change_group, phrase_several.corrected, phrase_several.instead,
            phrase_several.meant_other, phrase_several.swap_two,
        )  # fmt: skip
    assert found > 5


@pytest.mark.parametrize("make", phrase_edits.OF_ONE, ids=lambda make: make.__name__)
def test_an_edit_of_it_leaves_the_other_object_alone(make):
    rng, found = random.Random(make.__name__), 0
    for _ in range(50):
        edit = make(rng, PAIR, RING, "it")
        if edit is not None and edit.target != PAIR:
            assert STAR in edit.target.objects
            assert RING not in edit.target.objects
            found += 1
    assert found > 10


def test_two_wishes_are_one_after_the_other():
    rng, found = random.Random(3), 0
    for _ in range(400):
        edit = phrase_orders.two_wishes(rng, PAIR)
        if edit is not None:
            assert edit.target != edit.source, edit.instruction
            found += sum(a != b for a, b in zip(edit.target.objects, PAIR.objects, strict=False))
    assert found > 100


@pytest.mark.parametrize("form", phrase_captions.FORMS, ids=lambda form: form.__name__)
def test_captions_of_the_book_say_what_their_scene_shows(form):
    rng, found = random.Random(form.__name__), 0
    for _ in range(100):
        scene = sample_scene(rng, "train", rng.choice(phrase_captions.FORMS[form]))
        caption = phrase_captions.form_caption(rng, form, scene)
        if caption is None:
            continue
        assert satisfies(caption.scene, caption.wish), caption.text
        said = {wish.color for wish in caption.wish.objects} - {None}
        colors = {COLOR_OF[w] for w in re.findall(r"\w+", caption.text) if w in COLOR_OF}
        assert said == colors or (form in CORRECTED and said <= colors)
        assert all(words in caption.text for _, words in caption.names), caption
        found += 1
    assert found > 15


def test_the_first_of_a_relation_may_be_named_second():
    rng, firsts = random.Random(4), set()
    scene = Scene("day", (STAR, RING))
    for _ in range(200):
        caption = phrase_captions.form_caption(rng, phrase_captions.related, scene)
        if caption is None:
            continue
        placed = {thing.shape: thing for thing in caption.scene.objects}
        star, ring = placed["star"], placed["ring"]
        assert star.row < ring.row or star.col < ring.col, caption.text
        firsts.add(caption.text.find("star") < caption.text.find("ring"))
    assert firsts == {True, False}


def test_questions_of_the_book_are_true():
    rng = random.Random(5)
    for _ in range(500):
        scene = sample_scene(rng, "any")
        question = phrase_question(rng, scene)
        if question.answer in ("yes", "no"):
            continue
        if question.about is not None and question.answer != "nothing":
            (thing,) = [o for o in scene.objects if 3 * o.row + o.col == question.about]
            known = {*thing.look, thing.place, " ".join(thing.look), "left", "right"}
            assert question.answer.removeprefix("a ").removeprefix("an ") in known, question
            hidden = thing.color if question.answer == thing.color else "."
            alone = re.findall(r"\w+", question.text.lower())
            assert hidden not in alone or any(c in alone for c in COLOR_OF if c != hidden)


def test_a_clause_names_the_cells_that_it_changes():
    rng, found = random.Random(11), 0
    for make in (phrase_edits.recolor_two, phrase_several.each, phrase_orders.two_wishes,
                 phrase_several.three_wishes) * 60:  # fmt: skip
        edit = make(rng, PAIR)
        if edit is None or not edit.clauses:
            continue
        found += 1
        text = edit.instruction.lower()
        assert all(words in text for _, words in edit.clauses), edit
        changed = set(edit.source.objects) ^ set(edit.target.objects)
        assert {3 * o.row + o.col for o in changed} <= {cell for cell, _ in edit.clauses}
    assert found > 60
    edit = phrase_several.each(random.Random(12), PAIR)
    (_, first), (_, second) = edit.clauses
    assert first != second
