"""Text and pictures in turn: the language model writes, asks for a picture, sees it, and goes on.

It asks with its token `[IMG]`, and the picture is drawn from all that was said and shown before;
or, if it was never taught the token, with a marked caption, and the picture is drawn from that.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ..language.context import Context, read_context
from ..language.generate import generate_tokens
from ..language.prompt import (
    DESCRIBE_REQUEST,
    DRAWN_PICTURE,
    IMG,
    INTERLEAVE_REQUEST,
    MARKED_CAPTION_END,
    MARKED_EDIT_END,
    MARKED_INTERLEAVE_REQUEST,
    PICTURE,
    SYSTEM_PROMPT,
    caption_text,
    fill_request,
    join_words,
    literal,
)
from ..language.prompt import readable as as_typed
from .chat import Chat, Turn, make_turn
from .dialogue import ChatModel, ask, chat_context

_TOKENS_OF_A_MARK = 16  # at most so many tokens hold `</picture>`
_CAPTION = r"<(picture|edit)>((?:(?!<(?:picture|edit)>).)*?)</\1>"
_NEW_CAPTION = re.compile(f"{_CAPTION}(?!{re.escape(PICTURE)})", re.DOTALL)
_OPEN_REQUEST = re.compile(rf"(?:{re.escape(IMG)}|<(picture|edit)>[^<]*(?:</[a-z]*>?)?)\Z")
_PLACE = re.compile(f"(?:{re.escape(IMG)}|{_CAPTION})?{re.escape(PICTURE)}", re.DOTALL)


@dataclass(frozen=True, eq=False)
class EditSource:
    """A picture (H, W, 3) that is to change, and the context of its description."""

    picture: Tensor
    context: Context


@dataclass(frozen=True, eq=False)
class PictureRequest:
    """What a picture is drawn from; with a `source`, that picture is changed towards it."""

    context: Context
    source: EditSource | None = None


Draw = Callable[[PictureRequest, int], Tensor]  # (request, pictures before it) -> (H, W, 3)


@dataclass(frozen=True, eq=False)
class Interleaved:
    """An answer of text and pictures (H, W, 3), and the chat with it.

    `text` is for people: `[picture 1]` stands where the first picture belongs, and so on.
    """

    text: str
    pictures: tuple[Tensor, ...]
    chat: Chat


def readable(marked: str) -> str:
    """An answer with picture marks, as people read it."""
    numbers = iter(range(1, marked.count(PICTURE) + 1))
    return as_typed(_PLACE.sub(lambda _: f" [picture {next(numbers)}] ", marked)).strip()


def ask_for_story(chat: Chat, prompt: str, writes_sign: bool) -> Chat:
    """The chat with the request for text and pictures; an empty prompt answers the chat itself,
    or writes on where the assistant was stopped.

    Args:
        writes_sign: whether the language model was taught to ask for pictures with `[IMG]`.

    Raises: ValueError if there is nothing to answer.
    """
    if prompt.strip():
        request = INTERLEAVE_REQUEST if writes_sign else MARKED_INTERLEAVE_REQUEST
        return chat.say("user", fill_request(request, prompt))
    if not chat.ends_with_user and not chat.ends_with_assistant:
        raise ValueError(
            "the prompt is empty, expected what to tell. Write it, or connect a chat that ends "
            "with a message, or with a story to go on with."
        )
    return chat


def interleave(
    chat_model: ChatModel,
    chat: Chat,
    draw: Draw,
    max_pictures: int,
    on_picture: Callable[[Interleaved], None] | None = None,
    *,
    orders: str = "",
    ends_with_picture: bool = False,
    on_turn: Callable[[Turn], None] | None = None,
) -> Interleaved:
    """Let the language model answer a chat in text and pictures.

    Args:
        chat_model: its `max_new_tokens` counts the whole answer; its `on_token` gets the readable
            text so far and may raise to cancel.
        chat: ends with the request, see `prompt.INTERLEAVE_REQUEST`, or with a story that was
            stopped, which is then written on.
        draw: makes a picture of a request; what it raises goes through.
        max_pictures: the answer ends where one more is asked for; those before do not count.
        on_picture: called with all so far after each picture, so that a caller can keep it.
        orders: the model reads them in the system turn; the chat that comes back has none.
        ends_with_picture: the answer ends with the last allowed picture instead.
        on_turn: called with the assistant's turn so far, after each token and picture; `[IMG]`
            at its end says that a picture is being drawn.

    Raises: ValueError for `max_pictures` below 1, or a chat longer than the model can read.
    """
    if max_pictures < 1:
        raise ValueError(
            f"max_images is {max_pictures}, expected 1 or more. For text alone, use VQA or Reason."
        )
    story = _Story(chat_model, chat, orders, on_turn)
    most = max_pictures + len(story.drawn)
    while story.tokens_left > 0:
        request = story.write_to_the_next_picture()
        if request is None:
            break
        if len(story.drawn) == most:
            story.end_before_the_request()
            break
        story.show(draw(request, len(story.drawn)))
        if on_picture is not None:
            on_picture(story.so_far)
        if ends_with_picture and len(story.drawn) == most:
            story.end_after_the_picture()
            break
    return story.so_far


def last_picture(chat: Chat) -> tuple[Tensor, str] | None:
    """The picture that was shown last, and the caption that it was drawn from, if it had one."""
    for turn in reversed(chat.turns):
        if turn.pictures:
            place = list(_PLACE.finditer(turn.text))[-1]
            return turn.pictures[-1], (place.group(2) or "").strip()
    return None


def without_open_request(turn: Turn) -> Turn:
    """A turn that was cut short, without the request for a picture that never came."""
    return replace(turn, text=_OPEN_REQUEST.sub("", turn.text))


def with_orders(chat: Chat, orders: str) -> Chat:
    """The chat as the language model reads it: `orders` stand at the end of the system turn."""
    if not orders:
        return chat
    if chat.turns and chat.turns[0].role == "system":
        said = f"{chat.turns[0].text}\n{orders}"
        return Chat((Turn("system", said), *chat.turns[1:]))
    return Chat((Turn("system", f"{SYSTEM_PROMPT} {orders}"), *chat.turns))


class _Story:
    """An answer in the making: what is written and drawn so far."""

    def __init__(
        self,
        chat_model: ChatModel,
        asked: Chat,
        orders: str,
        on_turn: Callable[[Turn], None] | None,
    ) -> None:
        begun = asked.turns[-1] if asked.ends_with_assistant else Turn("assistant", "")
        self.chat_model = chat_model
        self.asked = Chat(asked.turns[:-1]) if asked.ends_with_assistant else asked
        self.orders = orders
        self.on_turn = on_turn
        self.tokens_left = chat_model.sampling.max_new_tokens
        self.marked = begun.text  # as the language model reads it again
        self.drawn: list[Tensor] = list(begun.pictures)

    @property
    def so_far(self) -> Interleaved:
        return Interleaved(readable(self.marked), tuple(self.drawn), self.chat)

    @property
    def chat(self) -> Chat:
        if not self.marked.strip():
            return self.asked
        return self.asked.add(make_turn("assistant", self.marked, self.drawn))

    def write_to_the_next_picture(self) -> PictureRequest | None:
        """Go on writing; what to draw then, or None if the answer is at its end."""
        llm = self.chat_model.llm
        ids = self._write(chat_context(llm, with_orders(self.chat, self.orders)))
        self.tokens_left -= len(ids)
        asks = bool(ids) and ids[-1] == llm.tokenizer.img_token_id
        words = literal(llm.tokenizer.decode(ids[:-1] if asks else ids))
        self.marked = join_words(self.marked, words)
        if asks:
            self.span, self.mark = (len(self.marked), len(self.marked)), DRAWN_PICTURE
            self._tell(self.marked + IMG)
            return PictureRequest(chat_context(llm, self.chat, for_drawing=True))
        caption = _NEW_CAPTION.search(self.marked)
        if caption is None:
            return None
        self.span, self.mark = caption.span(), PICTURE
        source = self._edit_source() if caption.group(1) == "edit" else None
        return PictureRequest(self._caption_context(caption.group(2)), source)

    def show(self, picture: Tensor) -> None:
        """Put the picture that was asked for last into its place."""
        self.drawn.append(picture)
        place = self.span[1]
        self.marked = self.marked[:place] + self.mark + self.marked[place:]
        self._tell(self.marked)

    def end_before_the_request(self) -> None:
        self.marked = self.marked[: self.span[0]]

    def end_after_the_picture(self) -> None:
        self.marked = self.marked[: self.span[1] + len(self.mark)]

    def _caption_context(self, caption: str) -> Context:
        return read_context(self.chat_model.llm, caption_text(caption.strip()), for_drawing=True)

    def _edit_source(self) -> EditSource | None:
        """What an edit begins from; without any picture there is nothing to change."""
        shown = last_picture(self.chat)
        if shown is None:
            return None
        picture, caption = shown
        if not caption:  # the user's own picture
            quiet = replace(self.chat_model, on_token=self._on_description)
            caption, _ = ask(quiet, Chat(), fill_request(DESCRIBE_REQUEST), [picture])
        return EditSource(picture, self._caption_context(caption))

    def _write(self, context: Context) -> list[int]:
        """Tokens up to the end of the answer or the request for a picture."""
        chat_model = self.chat_model
        sampling = replace(chat_model.sampling, max_new_tokens=self.tokens_left)
        with chat_model.at_work([context], self.tokens_left):
            (ids,) = generate_tokens(
                chat_model.llm,
                [context],
                sampling,
                self._on_token,
                chat_model.prefix_cache,
                self._asks,
            )
        return ids

    def _asks(self, ids: list[int]) -> bool:
        tokenizer = self.chat_model.llm.tokenizer
        tail = tokenizer.decode(ids[-_TOKENS_OF_A_MARK:])
        closed = MARKED_CAPTION_END in tail or MARKED_EDIT_END in tail
        return ids[-1] == tokenizer.img_token_id or closed

    def _on_token(self, written: list[list[int]], done: int, _: int) -> None:
        words = self.chat_model.llm.tokenizer.decode(written[0], unfinished=True)
        text = join_words(self.marked, literal(words))
        self._tell(text)
        if self.chat_model.on_token is not None:
            total = self.chat_model.sampling.max_new_tokens
            self.chat_model.on_token(readable(text), done + total - self.tokens_left, total)

    def _on_description(self, _text: str, _done: int, _total: int) -> None:
        """The description of a picture is no part of the answer; Cancel works all the same."""
        if self.chat_model.on_token is not None:
            total = self.chat_model.sampling.max_new_tokens
            self.chat_model.on_token(readable(self.marked), total - self.tokens_left, total)

    def _tell(self, marked: str) -> None:
        if self.on_turn is not None:
            self.on_turn(Turn("assistant", marked, tuple(self.drawn)))
