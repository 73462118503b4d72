"""The row "converse": held-out conversations of five turns in any mix, as Converse holds them."""

import random
from collections.abc import Sequence

from benchmarks.meaning.model import MeaningModel
from benchmarks.meaning.rows import Report, make_cases, read_all
from blip3u_core.chat.chat import Chat
from small_world.conversations import Step, sample_conversation
from small_world.scorer import same_scene
from small_world.world import Scene

TURNS = 5


def is_right(step: Step, answer: str, seen: Sequence[Scene]) -> bool:
    """The right kind of answer, and in it the right picture or the right words."""
    if step.scene is not None:
        return len(seen) == 1 and same_scene(seen[0], step.scene)
    return not seen and answer.strip() == step.answer.text


def converse(model: MeaningModel, count: int, report: Report) -> None:
    """A tenth of the cases: each is five turns long, on the model's own pictures and words."""

    def make(rng: random.Random) -> list[Step]:
        return sample_conversation(rng, "held_out", TURNS, whole=True)[:TURNS]

    cases = make_cases("converse", max(1, count // 5), make)
    turns: dict[str, list[bool]] = {}
    whole, spoken, cards = [], [], []
    for number, steps in enumerate(cases):
        chat, own, pictures = Chat(), [], []
        for turn, step in enumerate(steps):
            answer, drawn, chat = model.converse(
                chat, step.message.text, seed=9000 + 100 * number + turn
            )
            own.append(is_right(step, answer, read_all(drawn)))
            turns.setdefault(step.kind, []).append(own[-1])
            spoken.append(bool(answer.strip()))
            pictures += drawn
        whole.append(all(own))
        cards.append(pictures)
    report.add("converse: each turn", 0.95, [right for kind in turns.values() for right in kind])
    report.add("converse: five mixed turns, all right", 0.85, whole)
    for kind in sorted(turns):
        report.add(f"  converse: {kind}", None, turns[kind])
    report.add("  converse: turns that are answered at all", 1.0, spoken)
    shown = [i for i, pictures in enumerate(cards) if pictures]
    texts = [" / ".join(step.message.text for step in cases[i]) for i in shown]
    report.show("converse", texts, [cards[i] for i in shown], [whole[i] for i in shown])
