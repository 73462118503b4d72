"""Questions with pictures, many at once, as the harnesses put them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..chat.chat import Chat, Turn
from ..chat.dialogue import chat_context
from ..language.context import Context
from ..language.generate import SamplingParams, generate
from ..language.model import LanguageModel
from ..language.prefill import prefill
from ..language.prompt import QUESTION_REQUEST, fill_request, literal
from ..pipeline import Pipeline

MARK = "<image>"  # where some tasks would have a picture; ours stand before the text


@dataclass(frozen=True)
class Question:
    """One request of a benchmark: its text and its pictures."""

    text: str
    pictures: tuple[Image.Image, ...] = ()


class Likelihood(NamedTuple):
    """How likely an answer is."""

    log_probability: float  # of the whole answer, natural
    num_tokens: int
    is_greedy: bool  # whether greedy decoding would write it


def answer_all(
    pipeline: Pipeline, questions: Sequence[Question], sampling: SamplingParams
) -> list[str]:
    """What the model says to each question, decoded together; as `Pipeline.answer` alone."""
    contexts = [_context(pipeline.llm, question) for question in questions]
    return generate(pipeline.llm, contexts, sampling, in_words=True)


@torch.no_grad()
def likelihoods(
    pipeline: Pipeline, questions: Sequence[Question], answers: Sequence[str]
) -> list[Likelihood]:
    """How likely each given answer is to its question."""
    llm = pipeline.llm
    open_contexts = [_context(llm, question) for question in questions]
    contexts = [
        _context(llm, question, answer) for question, answer in zip(questions, answers, strict=True)
    ]
    hidden = prefill(llm, contexts).hidden
    found = []
    for row, before, whole in zip(hidden, open_contexts, contexts, strict=True):
        count = len(whole) - len(before)
        wanted = torch.tensor(whole.ids[len(before) :], device=row.device)
        # The state behind a token scores the next one.
        scores = llm.logits(row[-count - 1 : -1]).log_softmax(dim=-1)
        total = scores.gather(1, wanted[:, None]).sum()
        is_greedy = bool((scores.argmax(dim=-1) == wanted).all())
        found.append(Likelihood(float(total), count, is_greedy))
    return found


def _context(llm: LanguageModel, question: Question, answer: str | None = None) -> Context:
    text = fill_request(
        QUESTION_REQUEST, question.text.replace(MARK, "").strip(), len(question.pictures)
    )
    chat = Chat().add(Turn("user", ""))  # what a bare answer is weighed against
    if text or question.pictures:
        chat = Chat().say("user", text, [_tensor(picture) for picture in question.pictures])
    if answer is not None:
        chat = chat.add(Turn("assistant", literal(answer)))
    return chat_context(llm, chat)


def _tensor(picture: Image.Image) -> Tensor:
    """(H, W, 3) in [0, 1]"""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255
