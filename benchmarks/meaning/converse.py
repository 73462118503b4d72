"""The rows "converse": held-out conversations of five turns in any mix, as Converse holds them.

A turn is judged after the turns that it was meant for: with the pictures and answers that were
right. Otherwise one wrong drawing counts again in every later question and edit. Whole
conversations run on the model's own pictures and words.
"""

import random
from collections.abc import Sequence

from benchmarks.meaning.model import MeaningModel, as_tensor
from benchmarks.meaning.rows import Report, make_cases, read_all
from blip3u_core.chat.chat import Chat
from blip3u_core.language.prompt import DRAWN_PICTURE
from small_world.conversations import Step, sample_conversation
from small_world.scorer import same_scene
from small_world.world import Scene, render

TURNS = 5


def is_right(step: Step, answer: str, seen: Sequence[Scene]) -> bool:
    """The right kind of answer, and in it the right picture or the right words."""
    if step.scene is not None:
        return len(seen) == 1 and same_scene(seen[0], step.scene)
    return not seen and answer.strip() == step.answer.text


def as_it_should_be(chat: Chat, step: Step) -> Chat:
    """The chat after this message and the right answer to it."""
    chat = chat.say("user", step.message.text)
    if step.scene is not None:
        return chat.say("assistant", DRAWN_PICTURE, [as_tensor(render(step.scene))])
    return chat.say("assistant", step.answer.text)


def single_turns(model: MeaningModel, cases: Sequence[Sequence[Step]], report: Report) -> None:
    turns: dict[str, list[bool]] = {}
    for number, steps in enumerate(cases):
        chat = Chat()
        for turn, step in enumerate(steps):
            answer, drawn, _ = model.converse(chat, step.message.text, 9000 + 100 * number + turn)
            turns.setdefault(step.kind, []).append(is_right(step, answer, read_all(drawn)))
            chat = as_it_should_be(chat, step)
    report.add("converse: each turn", 0.95, [right for kind in turns.values() for right in kind])
    for kind in sorted(turns):
        report.add(f"  converse: {kind}", None, turns[kind])


def whole_conversations(
    model: MeaningModel, cases: Sequence[Sequence[Step]], report: Report
) -> None:
    right, whole, spoken, cards = [], [], [], []
    for number, steps in enumerate(cases):
        chat, own, pictures = Chat(), [], []
        for turn, step in enumerate(steps):
            answer, drawn, chat = model.converse(
                chat, step.message.text, 9000 + 100 * number + turn
            )
            own.append(is_right(step, answer, read_all(drawn)))
            spoken.append(bool(answer.strip()))
            pictures += drawn
        right += own
        whole.append(all(own))
        cards.append(pictures)
    report.add("converse: five mixed turns, all right", 0.85, whole)
    report.add("  converse: each turn, on its own pictures", None, right)
    report.add("  converse: turns that are answered at all", 1.0, spoken)
    kept = [i for i, pictures in enumerate(cards) if pictures]
    texts = [" / ".join(step.message.text for step in cases[i]) for i in kept]
    report.show("converse", texts, [cards[i] for i in kept], [whole[i] for i in kept])


def converse(model: MeaningModel, count: int, report: Report) -> None:
    """A fifth of the cases: each is five turns long."""

    def make(rng: random.Random) -> list[Step]:
        return sample_conversation(rng, "held_out", TURNS, whole=True)[:TURNS]

    cases = make_cases("converse", max(1, count // TURNS), make)
    single_turns(model, cases, report)
    whole_conversations(model, cases, report)
