"""The rows of the meaning table: held-out cases, what the model makes of them, who is right.

Every case comes from its own seed, so a row has the same cases whatever else is run.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.meaning.contact_sheet import Card
from benchmarks.meaning.model import MeaningModel, Picture, caption_chat, request_chat
from benchmarks.meaning.rates import Rate
from blip3u_core.chat.reason import split_caption
from blip3u_core.language.prompt import (
    DESCRIBE_REQUEST,
    QUESTION_REQUEST,
    REASON_REQUEST,
)
from small_world.language import (
    Caption,
    counting_caption,
    describe,
    full_caption,
    is_countable,
    make_caption,
    relation_caption,
)
from small_world.questions import QUESTIONS, ask
from small_world.riddles import sample_riddle
from small_world.scorer import read_scene, satisfies
from small_world.world import Scene, render, sample_scene

Case = TypeVar("Case")
VQA_KINDS = ("color", "shape", "count", "position", "yes_no")
CARDS_A_ROW = 4


@dataclass(frozen=True)
class MeaningRow:
    """One line of the table; `goal` None is reported only."""

    name: str
    goal: float | None
    outcomes: list[bool]

    @property
    def rate(self) -> Rate:
        return Rate.of(self.outcomes)


@dataclass
class Report:
    """What a run has measured so far."""

    rows: list[MeaningRow] = field(default_factory=list)
    drawn: list[tuple[Caption, Scene]] = field(default_factory=list)  # what captions became
    cards: list[Card] = field(default_factory=list)

    def add(self, name: str, goal: float | None, outcomes: Sequence[bool]) -> None:
        self.rows.append(MeaningRow(name, goal, list(outcomes)))
        print(f"{name:58} {self.rows[-1].rate}", flush=True)

    def show(
        self,
        title: str,
        texts: Sequence[str],
        pictures: Sequence[Sequence[Picture]],
        good: Sequence[bool],
    ) -> None:
        """The first cases, and the first failures behind them."""
        first = list(range(min(CARDS_A_ROW, len(texts))))
        failed = [i for i, right in enumerate(good) if not right and i not in first]
        for i in first + failed[: CARDS_A_ROW // 2]:
            self.cards.append(Card(title, texts[i], tuple(pictures[i]), good[i]))


def make_cases(name: str, count: int, make: Callable[[random.Random], Case | None]) -> list[Case]:
    """`count` cases from fixed seeds; a maker may refuse a draw with None."""
    cases: list[Case] = []
    seed = 0
    while len(cases) < count:
        case = make(random.Random(f"{name} {seed}"))
        seed += 1
        if case is not None:
            cases.append(case)
    return cases


def read_all(pictures: Sequence[Picture]) -> list[Scene]:
    return [read_scene(picture) for picture in pictures]


# ---------------------------------------------------------------- text to image


def drawn_captions(
    model: MeaningModel, report: Report, title: str, captions: Sequence[Caption]
) -> list[Scene]:
    pictures = model.draw([caption_chat(caption.text) for caption in captions], seed=1000)
    scenes = read_all(pictures)
    report.drawn += zip(captions, scenes, strict=True)
    good = [satisfies(s, c.wish) for s, c in zip(scenes, captions, strict=True)]
    report.show(title, [c.text for c in captions], [[p] for p in pictures], good)
    return scenes


def judged(scenes: Sequence[Scene], captions: Sequence[Caption], *attributes: str) -> list[bool]:
    """Whether the number of objects and these attributes are right (all of them by default)."""
    chosen = [attributes] if attributes else []
    return [satisfies(s, c.wish, *chosen) for s, c in zip(scenes, captions, strict=True)]


def one_object(model: MeaningModel, count: int, report: Report) -> None:
    def make(rng: random.Random) -> Caption:
        return make_caption(rng, sample_scene(rng, "held_out", 1))

    captions = make_cases("one", count, make)
    scenes = drawn_captions(model, report, "one object", captions)
    report.add("one object (colour, shape)", 0.98, judged(scenes, captions, "color", "shape"))
    report.add("one object, all that is said", None, judged(scenes, captions))


def several_objects(model: MeaningModel, count: int, report: Report) -> None:
    def make(rng: random.Random) -> Caption:
        return make_caption(rng, sample_scene(rng, "held_out", rng.choice((2, 3))))

    captions = make_cases("several", count, make)
    scenes = drawn_captions(model, report, "two and three", captions)
    report.add("two and three objects, all right", 0.95, judged(scenes, captions))
    for number in (2, 3):
        part = [i for i, c in enumerate(captions) if len(c.scene.objects) == number]
        right = judged([scenes[i] for i in part], [captions[i] for i in part])
        report.add(f"  of these with {number} objects", None, right)


def counting(model: MeaningModel, count: int, report: Report) -> None:
    def make(rng: random.Random) -> Caption | None:
        scene = sample_scene(rng, "held_out", rng.choice((2, 3)))
        return counting_caption(rng, scene) if is_countable(scene) else None

    captions = make_cases("counting", count, make)
    scenes = drawn_captions(model, report, "counting", captions)
    report.add("counting (objects of each shape)", 0.95, judged(scenes, captions, "shape"))


def position(model: MeaningModel, count: int, report: Report) -> None:
    """Half relations of two objects, half named places."""

    def make(rng: random.Random) -> Caption:
        if rng.random() < 0.5:
            return relation_caption(rng, sample_scene(rng, "held_out", 2))
        return full_caption(rng, sample_scene(rng, "held_out"))

    captions = make_cases("position", count, make)
    scenes = drawn_captions(model, report, "position", captions)
    right = judged(scenes, captions, "color", "shape", "place", "relation")
    report.add("position (places and relations)", 0.95, right)


def never_seen(model: MeaningModel, count: int, report: Report) -> None:
    """Scenes with a colour-shape-relation triple that no picture of the training has."""

    def make(rng: random.Random) -> Caption:
        return full_caption(rng, sample_scene(rng, "never_seen"))

    captions = make_cases("never seen", count, make)
    scenes = drawn_captions(model, report, "never seen", captions)
    report.add("never-seen combinations, all right", 0.90, judged(scenes, captions))


def has_binding(caption: Caption) -> bool:
    """Two or more objects, all colours and shapes different: each could go to the wrong one."""
    objects = caption.scene.objects
    colors, shapes = {o.color for o in objects}, {o.shape for o in objects}
    return len(colors) == len(shapes) == len(objects) > 1


def derived_rows(report: Report) -> None:
    """Colour binding and background, of all pictures that were drawn from captions."""
    bound = [(c, s) for c, s in report.drawn if has_binding(c)]
    if bound:
        captions, scenes = zip(*bound, strict=True)
        report.add("colour binding", 0.95, judged(scenes, captions, "color", "shape"))
    said = [(c.wish.background, s.background) for c, s in report.drawn if c.wish.background]
    if said:
        report.add("background", 0.98, [wished == drawn for wished, drawn in said])


# ---------------------------------------------------------------- riddles and questions


def caption_of(answer: str) -> str:
    try:
        return split_caption(answer)[1]
    except ValueError:
        return ""


def riddles(model: MeaningModel, count: int, report: Report) -> None:
    cases = make_cases("riddle", count, lambda rng: sample_riddle(rng, "held_out"))
    asked = [request_chat(REASON_REQUEST, case.text) for case in cases]
    answers = model.reply(asked)
    texts = [caption_of(a) == c.caption for a, c in zip(answers, cases, strict=True)]
    reasoned = [
        chat.say("assistant", answer or " .") for chat, answer in zip(asked, answers, strict=True)
    ]
    report.add("  riddle: caption right", None, texts)
    for way, chats in {
        "after reasoning": reasoned,
        "without reasoning": [caption_chat(case.text) for case in cases],
    }.items():
        pictures = model.draw(chats, seed=2000)
        right = [satisfies(s, c.wish) for s, c in zip(read_all(pictures), cases, strict=True)]
        if way == "after reasoning":
            right = [a and b for a, b in zip(texts, right, strict=True)]
            report.add("riddle, after reasoning (text and picture)", 0.95, right)
        else:
            report.add("riddle, without reasoning", None, right)
        report.show(f"riddle {way}", [c.text for c in cases], [[p] for p in pictures], right)


def questions(model: MeaningModel, count: int, report: Report) -> None:
    for kind in QUESTIONS:
        rngs = [random.Random(f"vqa {kind} {i}") for i in range(count)]
        scenes = [sample_scene(rng, "held_out") for rng in rngs]
        asked = [ask(rng, scene, kind) for rng, scene in zip(rngs, scenes, strict=True)]
        answers = model.reply(
            [
                request_chat(QUESTION_REQUEST, question.text, [render(scene)])
                for question, scene in zip(asked, scenes, strict=True)
            ]
        )
        right = [a == q.answer for a, q in zip(answers, asked, strict=True)]
        report.add(f"VQA: {kind.replace('_', ' ')}", 0.98 if kind in VQA_KINDS else None, right)
    scenes = make_cases("describe", count, lambda rng: sample_scene(rng, "held_out"))
    answers = model.reply([request_chat(DESCRIBE_REQUEST, "", [render(s)]) for s in scenes])
    right = [a == describe(s) for a, s in zip(answers, scenes, strict=True)]
    report.add("VQA: describe, every word", 0.98, right)
