"""Chats and the language model: what it reads of a chat, and what it says to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .answer import OnToken, Sampling, answer
from .chat import Chat, Turn
from .context import Context, read_context
from .prefix_cache import PrefixCache
from .prompt import dialogue_text
from .qwen import LanguageModel


@dataclass(frozen=True)
class Speaker:
    """A language model with the way it speaks; one per node run.

    `prepare(contexts, new_tokens)` is called before the network runs: a host makes room there.
    """

    llm: LanguageModel
    sampling: Sampling = field(default_factory=Sampling)
    on_token: OnToken | None = None
    prefix_cache: PrefixCache | None = None
    prepare: Callable[[Sequence[Context], int], None] | None = None

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        """What the assistant answers to each chat, which must end with a user turn."""
        contexts = [chat_context(self.llm, chat) for chat in chats]
        if self.prepare is not None:
            self.prepare(contexts, self.sampling.max_new_tokens)
        return answer(self.llm, contexts, self.sampling, self.on_token, self.prefix_cache)


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


def ask(
    speaker: Speaker, chat: Chat, question: str, pictures: Sequence[Tensor] = ()
) -> tuple[str, Chat]:
    """One question, its pictures before it; the answer, and the chat with both turns."""
    asked = chat.say("user", question, pictures)
    (text,) = speaker.reply([asked])
    return text, asked.add(Turn("assistant", text))  # an LLM may say nothing: no check


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
        f"keep_last {len(chat.turns) - dropped} does it."
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
