"""The meaning benchmark: a perfect model gets 1.0 in every row, a careless one does not."""

import itertools
from dataclasses import replace

import pytest

from benchmarks.meaning import by_hand, edits, rows
from benchmarks.meaning.__main__ import markdown_table
from benchmarks.meaning.contact_sheet import Card, contact_sheet
from benchmarks.meaning.converse import converse, single_turns
from benchmarks.meaning.edits import GROUPS, tells
from benchmarks.meaning.jobs import CAPTION_ROWS, shares
from benchmarks.meaning.rates import Rate
from benchmarks.meaning.rows import Report
from blip3u_core.language.prompt import DRAWN_PICTURE
from small_world.conversations import sample_conversation
from small_world.dialogues import Story
from small_world.edits import Edit, reworded
from small_world.language import Caption, describe
from small_world.riddles import Riddle
from small_world.scorer import satisfies
from small_world.world import Object, Scene, render

SCENE = Scene("day", (Object("star", "red", "big", 0, 0), Object("ring", "blue", "small", 2, 1)))


class PerfectModel:
    """Knows the cases, and draws and writes what they ask for."""

    def __init__(self, spoil=lambda scene: scene):
        self.cases, self.turn, self.spoil = [], 0, spoil

    def wanted(self, case) -> Scene:
        if isinstance(case, Caption | Riddle):
            return case.scene
        if isinstance(case, Edit):
            return case.target
        if isinstance(case, list):
            return case[self.turn - 1].target if self.turn else case[0].source
        return case

    def draw(self, chats, seed):
        assert len(chats) == len(self.cases)
        pictures = [render(self.spoil(self.wanted(case))) for case in self.cases]
        self.turn += 1
        return pictures

    def reply(self, chats):
        return [case.answer for case in self.cases]

    def plan_edits(self, pictures, instructions):
        return [describe(e.source) for e in self.cases], [reworded(e) for e in self.cases]

    def encode(self, pictures):
        return pictures

    def edit(self, features, sources, targets, seed):
        return self.draw(features, seed)

    def decode(self, features, seed):
        return features

    def redraw(self, features, before, sources, seed):
        return features

    def vary(self, pictures, seed):
        return pictures

    def vae_round_trip(self, pictures):
        return pictures

    def interleave(self, chat, max_pictures, seed):
        story = self.cases[(seed - 6000) // 10]
        text = " ".join(f"{s} [picture {i + 1}]" for i, s in enumerate(story.sentences))
        return f"{text} the end.", [render(scene) for scene in story.scenes]


def run(group: str, model: PerfectModel, monkeypatch) -> Report:
    make_cases = rows.make_cases

    def recorded(*arguments):
        model.cases = make_cases(*arguments)
        return model.cases

    for module in (rows, edits):
        monkeypatch.setattr(module, "make_cases", recorded)
    report = Report()
    GROUPS[group](model, 12, report)
    if group in ("one", "several"):
        GROUPS["derived"](model, 12, report)
    return report


OTHERS = ("questions", "derived", "by_hand", "by_other_hands", "converse")
DRAWN = [group for group in GROUPS if group not in OTHERS]


@pytest.mark.parametrize("group", DRAWN)
def test_a_perfect_model_is_right_in_every_row(group, monkeypatch):
    report = run(group, PerfectModel(), monkeypatch)
    assert report.rows
    assert [row.name for row in report.rows if row.rate.value != 1.0] == []


@pytest.mark.parametrize("group", ["one", "several", "counting", "edit_a", "dialogue"])
def test_a_model_that_forgets_an_object_is_wrong(group, monkeypatch):
    def forget(scene: Scene) -> Scene:
        return replace(scene, objects=scene.objects[1:])

    report = run(group, PerfectModel(forget), monkeypatch)
    goal_rows = {row.name: row.rate.value for row in report.rows if row.goal is not None}
    goal_rows.pop("background", None)
    assert min(goal_rows.values()) < 0.5


class Talker:
    """Answers a conversation from a script of (words, scene)."""

    def __init__(self, script):
        self.script = itertools.cycle(script)  # single turns, and whole conversations again
        self.heard = []

    def converse(self, chat, message, seed):
        words, scene = next(self.script)
        self.heard.append(chat)
        return words, [] if scene is None else [render(scene)], chat


def conversations(count: int):
    def make(rng):
        return sample_conversation(rng, "held_out", 5, whole=True)[:5]

    return rows.make_cases("converse", count, make)


def converse_rates(script) -> dict[str, float]:
    report = Report()
    converse(Talker(list(script)), 50, report)
    return {row.name: row.rate.value for row in report.rows}


def test_a_perfect_talker_is_right_in_every_turn_and_a_silent_one_in_none():
    steps = [step for case in conversations(10) for step in case]
    words = [step.answer.text if step.scene is None else " [picture 1] " for step in steps]
    rates = converse_rates(zip(words, [step.scene for step in steps], strict=True))
    assert set(rates.values()) == {1.0}
    assert converse_rates([("", None)] * len(steps))["converse: each turn"] == 0.0


def test_a_single_turn_is_judged_after_the_turns_as_they_should_have_been():
    talker, report = Talker([("", None)]), Report()
    single_turns(talker, conversations(4), report)
    for number, steps in enumerate(conversations(4)):
        chats = talker.heard[5 * number : 5 * number + 5]
        drawn = [step.scene is not None for step in steps]
        assert [len(chat.turns) for chat in chats] == [0, 2, 4, 6, 8]
        assert [len(chat.pictures) for chat in chats] == [sum(drawn[:i]) for i in range(5)]
        for step, turn in zip(steps, chats[-1].turns[1::2], strict=False):
            assert turn.text == (DRAWN_PICTURE if step.scene is not None else step.answer.text)


@pytest.mark.parametrize("file", [by_hand.FILE, by_hand.OTHER_HANDS], ids=lambda file: file.stem)
def test_by_hand_holds_at_least_200_cases_that_the_scorer_can_judge(file):
    cases = by_hand.read_by_hand(file)
    turns = [case for conversation in cases.turns for case in conversation]
    alone = [*cases.draw, *cases.ask, *cases.edit]
    assert len(alone) + len(turns) >= 200
    for case in (*alone, *turns):
        if isinstance(case.expected, tuple):
            assert case.is_right(f"It is {case.expected[0]}.", ())
            assert not case.is_right("", ())
            assert not case.is_right(case.expected[0], [SCENE])
        else:
            assert not case.is_right("words alone", ())
            assert not case.is_right("", [replace(SCENE, objects=SCENE.objects * 2)])


def test_by_hand_reads_places_relations_and_nothing():
    wish = by_hand.read_wish("red star @ top; small blue ring; 2 below 1; day")
    assert satisfies(SCENE, wish)
    assert not satisfies(SCENE, by_hand.read_wish("red star; blue ring; 2 above 1"))
    assert satisfies(Scene("fog", ()), by_hand.read_wish("nothing; fog"))
    with pytest.raises(ValueError, match="cat"):
        by_hand.read_wish("red cat")


def test_processes_share_out_every_row_once_and_keep_captions_together():
    parts = shares(list(GROUPS))
    assert sorted(row for part in parts for row in part) == sorted(GROUPS)
    assert list(CAPTION_ROWS) in parts
    assert shares(["stories", "one"]) == [["one"], ["stories"]]


def test_rates_have_wilson_intervals():
    low, high = Rate(190, 200).interval
    assert (low, high) == pytest.approx((0.9104, 0.9726), abs=1e-3)
    assert Rate(200, 200).interval[0] == pytest.approx(0.9812, abs=1e-3)


def test_a_story_must_describe_each_picture_before_it():
    other = replace(SCENE, background="night")
    story = Story("", ("", ""), (SCENE, other))
    good = f"once {describe(SCENE)}. [picture 1] then {describe(other)}. [picture 2] the end."
    assert tells(good, story)
    assert not tells(good.replace("[picture 2]", ""), story)
    assert not tells(good.replace("at night", "by day"), story)


def test_the_table_and_the_sheet_show_every_case():
    report = Report()
    report.add("one", 0.9, [True] * 9 + [False])
    report.show("one", ["a", "b"], [[render(SCENE)], [render(SCENE)]], [True, False])
    assert "| one | 0.900 (0.596-0.982) | 0.90 reached | 10 |" in markdown_table(report)
    pair = Card("edit", "make it night", (render(SCENE), render(SCENE)), False)
    sheet = contact_sheet([*report.cards, pair], columns=2)
    assert sheet.width == 300
    assert sheet.height == 2 * contact_sheet([pair], columns=2).height
