"""Thinking before drawing: a reasoning with its caption, and the plan of an edit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..language.prompt import DESCRIBE_REQUEST, REASON_REQUEST, REWRITE_REQUEST, fill_request
from .chat import Chat
from .dialogue import ChatModel, ask

# "Caption:" as LLMs write it: at a line's start, maybe "**Final caption:**" or "- Caption:".
_MARK = re.compile(r"(?im)^[\s>#*_\-\d.]*(?:final\s+)?caption\s*[*_]*\s*[::]\s*[*_]*")
_MARK_INSIDE = re.compile(r"(?i)\bcaption\s*[*_]*\s*[::]\s*[*_]*")
_WRAPPING = "\"'`*_\u201c\u201d\u2018\u2019 \t\n"


@dataclass(frozen=True)
class Reasoning:
    """What the LLM thought, what it decided to draw, and the chat with both."""

    reasoning: str
    caption: str
    chat: Chat


def reason(
    chat_model: ChatModel, chat: Chat, prompt: str, pictures: Sequence[Tensor] = ()
) -> Reasoning:
    """Let the language model think in text and then say what the picture should show.

    Raises: ValueError for an empty prompt, and, with the text that was written, if it ends
        without a caption.
    """
    if not prompt.strip():
        raise ValueError("the prompt is empty, expected what to think about. Write it.")
    request = fill_request(REASON_REQUEST, prompt, len(pictures))
    text, continued = ask(chat_model, chat, request, pictures, in_words=False)
    try:
        reasoning, caption = split_caption(text)
    except ValueError as error:
        limit = chat_model.sampling.max_new_tokens
        raise ValueError(
            f"{error} If the text stops in the middle, raise max_new_tokens (now {limit}); else "
            "ask again with another seed and a temperature such as 0.7, or draw without Reason."
        ) from error
    return Reasoning(reasoning, caption, continued)


def split_caption(text: str) -> tuple[str, str]:
    """What stands before the last caption, and that caption without quotes and emphasis.

    Raises: ValueError with the text if there is no caption.
    """
    for pattern in (_MARK, _MARK_INSIDE):
        end = len(text)
        for mark in reversed(list(pattern.finditer(text))):
            caption = text[mark.end() : end].strip().split("\n\n")[0].strip(_WRAPPING)
            if caption:
                return text[: mark.start()].strip(), " ".join(caption.split())
            end = mark.start()
    said = f"the language model wrote: {text.strip()!r}" if text.strip() else "it wrote nothing"
    raise ValueError(f'no caption came, expected a last line "Caption: ..."; {said}.')


def plan_edits(
    chat_model: ChatModel, chat: Chat, pictures: Sequence[Tensor], instruction: str
) -> list[tuple[str, str]]:
    """Describe each picture, then rewrite the description by the instruction.

    Returns: source caption and target caption per picture.
    Raises: ValueError for an empty instruction, or if the LLM writes nothing.
    """
    if not instruction.strip():
        raise ValueError("the instruction is empty, expected what to change. Write it.")
    describe = fill_request(DESCRIBE_REQUEST)
    chats = [chat.say("user", describe, [one]) for one in pictures]
    described = chat_model.answer(chats, in_words=True)
    rewrite = fill_request(REWRITE_REQUEST, instruction)
    rewritten = chat_model.answer(
        [told.say("user", rewrite) for _, told in described], in_words=True
    )
    plans = [
        (source.strip(), target.strip())
        for (source, _), (target, _) in zip(described, rewritten, strict=True)
    ]
    for index, (source, target) in enumerate(plans):
        if not source or not target:
            name = "changed description" if source else "description"
            raise ValueError(
                f"the language model wrote no {name} of picture {index + 1}. Try another picture "
                "or other words, or write the source and target captions yourself."
            )
    return plans
