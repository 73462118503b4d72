"""Chats and the language model: what it reads of a chat, and what it says to it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..language.context import Context, read_context
from ..language.generate import OnToken, SamplingParams, generate
from ..language.model import LanguageModel
from ..language.prefix_cache import PrefixCache
from ..language.prompt import (
    CAPTION_REQUEST,
    INSTRUCTION_REQUEST,
    PICTURE,
    RAW_PICTURE,
    dialogue_text,
    fill_request,
    literal,
)
from ..seeds import item_seed
from .chat import Chat, Turn

log = logging.getLogger(__name__)

ANSWERS_AT_ONCE = 16  # bounds the memory of a large batch of pictures
DRAWING_REQUESTS = {"caption": CAPTION_REQUEST, "instruction": INSTRUCTION_REQUEST}


def warn_of_cut_off(answer: int) -> None:
    """What is done about an answer that did not end by itself, where nothing else is."""
    log.warning(
        "BLIP3-U: answer %d was cut off by max_new_tokens. Raise it if the end is missed.",
        answer + 1,
    )


@dataclass(frozen=True)
class ChatModel:
    """A language model with the way it speaks; one per node run.

    The network runs inside `at_work(contexts, new_tokens)`: a host makes room there.
    """

    llm: LanguageModel
    sampling: SamplingParams = field(default_factory=SamplingParams)
    on_token: OnToken | None = None
    prefix_cache: PrefixCache | None = None
    at_work: Callable[[Sequence[Context], int], AbstractContextManager] = lambda *_: nullcontext()
    on_cut_off: Callable[[int], object] = warn_of_cut_off

    def answer(self, chats: Sequence[Chat], in_words: bool = False) -> list[tuple[str, Chat]]:
        """The answer to each chat, which must end with a user turn, and the chat with it.

        Answer i is drawn with the seed + i. Several are decoded together, up to a bound. An LLM
        may say nothing, or ask for a picture at once, but not where it shall answer `in_words`.
        """
        contexts = [chat_context(self.llm, chat) for chat in chats]
        texts: list[str] = []
        for start in range(0, len(contexts), ANSWERS_AT_ONCE):
            part = contexts[start : start + ANSWERS_AT_ONCE]
            sampling = replace(self.sampling, seed=item_seed(self.sampling.seed, start))
            with self.at_work(part, sampling.max_new_tokens):
                texts += generate(
                    self.llm,
                    part,
                    sampling,
                    self.on_token,
                    self.prefix_cache,
                    lambda answer, start=start: self.on_cut_off(start + answer),
                    in_words,
                )
        turns = (Turn("assistant", literal(text)) for text in texts)
        answered = (chat.add(turn) for chat, turn in zip(chats, turns, strict=True))
        return list(zip(texts, answered, strict=True))


def chat_context(llm: LanguageModel, chat: Chat, for_drawing: bool = False) -> Context:
    """The context from which the assistant goes on.

    A chat that ends with a user turn opens a new assistant turn; one that ends with the
    assistant's lets it write on, as after a reasoning.

    Raises: ValueError if the chat is empty or has only a system turn; if it is longer than the
        model can read, then the message says which turns to drop.
    """
    if not chat.ends_with_user and not chat.ends_with_assistant:
        raise ValueError(
            "the chat holds no message, expected a user turn. Add one with Chat Message."
        )
    turns, start = chat.texts(), ""
    if chat.ends_with_assistant:
        start = turns.pop()[1]
    text = dialogue_text(turns, start)
    context = read_context(llm, text, chat.pictures, for_drawing=for_drawing)
    room = llm.num_queries + 1 if for_drawing else 1
    if len(context) + room > llm.config.max_positions:
        raise ValueError(_too_long(llm, chat, context, room, for_drawing))
    return context


def drawing_context(
    llm: LanguageModel,
    chat: Chat,
    template: str,
    prompt: str,
    pictures: Sequence[Tensor] = (),
) -> Context:
    """What visual tokens are asked for.

    Args:
        template: "caption" or "instruction" put the prompt into a user turn behind `chat`; an
            empty prompt draws from the chat itself. "raw" puts the text behind the chat as it
            is, with marks that act and `<image>` where each picture stands.

    Raises: ValueError for an unknown template, for nothing to draw from, and for pictures that
        the template has no place for.
    """
    if template == "raw":
        text = dialogue_text(chat.texts(), None) if chat.turns else ""
        text += prompt.replace(RAW_PICTURE, PICTURE)
        return read_context(llm, text, [*chat.pictures, *pictures], for_drawing=True)
    if template not in DRAWING_REQUESTS:
        known = ", ".join((*DRAWING_REQUESTS, "raw"))
        raise ValueError(f"the template is {template!r}, expected one of {known}.")
    if not prompt.strip() and not pictures:
        if not chat.turns:
            raise ValueError("the prompt is empty, expected what to draw. Write it.")
        return chat_context(llm, chat, for_drawing=True)
    if template == "caption" and pictures:
        raise ValueError(
            f"{len(pictures)} pictures came with the template caption, which is for text alone. "
            "Choose the template instruction, or disconnect the images."
        )
    request = fill_request(DRAWING_REQUESTS[template], prompt, len(pictures))
    return chat_context(llm, chat.say("user", request, pictures), for_drawing=True)


def ask(
    chat_model: ChatModel,
    chat: Chat,
    question: str,
    pictures: Sequence[Tensor] = (),
    in_words: bool = True,
) -> tuple[str, Chat]:
    """One question, its pictures before it; the answer, and the chat with both turns.

    Users' words in the question are `literal`, as in all that a chat says.
    """
    return chat_model.answer([chat.say("user", question, pictures)], in_words)[0]


def _too_long(
    llm: LanguageModel, chat: Chat, context: Context, room: int, for_drawing: bool
) -> str:
    """Which of the oldest turns must go; the last one, which is the new message, stays."""
    limit = llm.config.max_positions
    total, counts = len(context) + room, _tokens_per_turn(llm, chat, for_drawing)
    first = 1 if chat.turns[0].role == "system" else 0
    dropped = first
    while total > limit and dropped < len(chat.turns) - 1:
        total -= counts[dropped]
        dropped += 1
    while dropped < len(chat.turns) - 1 and chat.turns[dropped].role != "user":
        dropped += 1
    pictures = sum(len(turn.pictures) for turn in chat.turns[first:dropped])
    said = (
        f"the chat is {len(context)} tokens long ({len(chat.pictures)} pictures in "
        f"{len(chat.turns)} turns), with {room} more to come; the language model reads at most "
        f"{limit}. "
    )
    if total > limit:
        return said + (
            f"The last message alone has {counts[-1]} tokens: shorten it or give fewer pictures."
        )
    return said + (
        f"Drop turns {first + 1} to {dropped} ({pictures} pictures): Shorten Chat with "
        f"keep_last {len(chat.turns) - dropped} does it. On Converse set remember_last to "
        f"{len(chat.turns) - dropped - 1}."
    )


def _tokens_per_turn(llm: LanguageModel, chat: Chat, for_drawing: bool) -> list[int]:
    return [
        len(
            read_context(
                llm,
                dialogue_text([("system", ""), (turn.role, turn.text)], None),
                turn.pictures,
                for_drawing=for_drawing,
            )
        )
        - len(llm.tokenizer.encode(dialogue_text([("system", "")], None)))
        for turn in chat.turns
    ]
