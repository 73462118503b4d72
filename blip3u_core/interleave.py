"""Text and pictures in turn: the language model writes, asks for a picture, sees it, and goes on.

It asks with its token `[IMG]`, and the picture is drawn from all that was said and shown before;
or, if it was never taught the token, with a marked caption, and the picture is drawn from that.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .answer import Sampling, write_tokens
from .context import Context, dialogue_context, read_context
from .prefix_cache import PrefixCache
from .prompt import (
    DRAWN_PICTURE,
    IMG,
    MARKED_CAPTION_END,
    MARKED_CAPTION_START,
    PICTURE,
    caption_text,
)
from .qwen import LanguageModel

Draw = Callable[[Context, int], Tensor]  # (what to draw from, number of the picture) -> (H, W, 3)
OnText = Callable[[str, int, int], None]  # (readable text so far, tokens so far, most tokens)

_TOKENS_OF_A_MARK = 16  # at most so many tokens hold `</picture>`
_CAPTION = (
    f"{re.escape(MARKED_CAPTION_START)}((?:(?!{re.escape(MARKED_CAPTION_START)}).)*?)"
    f"{re.escape(MARKED_CAPTION_END)}"
)
_NEW_CAPTION = re.compile(f"{_CAPTION}(?!{re.escape(PICTURE)})", re.DOTALL)
_PLACE = re.compile(f"(?:{re.escape(IMG)}|{_CAPTION})?{re.escape(PICTURE)}", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Interleaved:
    """An answer of text and pictures.

    `marked` is the assistant's turn as the language model reads it again, with a picture mark for
    each of `pictures` (H, W, 3).
    """

    marked: str
    pictures: tuple[Tensor, ...]

    @property
    def text(self) -> str:
        """For people: `[picture 1]` where the first picture belongs, and so on."""
        return readable(self.marked)


def readable(marked: str) -> str:
    numbers = iter(range(1, marked.count(PICTURE) + 1))
    return _PLACE.sub(lambda _: f" [picture {next(numbers)}] ", marked).strip()


def interleave(
    llm: LanguageModel,
    turns: Sequence[tuple[str, str]],
    pictures: Sequence[Tensor],
    draw: Draw,
    max_pictures: int,
    sampling: Sampling,
    on_text: OnText | None = None,
    prefix_cache: PrefixCache | None = None,
) -> Interleaved:
    """Let the language model answer a dialogue in text and pictures.

    Args:
        turns: (role, text) up to the request, see `prompt.INTERLEAVE_REQUEST`.
        pictures: those that the turns show, each (H, W, 1 to 4).
        draw: makes a picture from the context of a drawing; what it raises (Cancel) goes through.
        max_pictures: the answer ends where one more is asked for.
        sampling: `max_new_tokens` counts the whole answer.
        on_text: called after every token, may raise to cancel.

    Raises: ValueError for `max_pictures` below 1, or a dialogue longer than the model can read.
    """
    if max_pictures < 1:
        raise ValueError(
            f"max_images is {max_pictures}, expected 1 or more. For text alone, use VQA or Reason."
        )
    story = _Story(llm, turns, pictures, sampling, on_text, prefix_cache)
    while story.tokens_left > 0:
        wish = story.write_to_the_next_picture()
        if wish is None:
            break
        if len(story.drawn) == max_pictures:
            story.end_before_the_wish()
            break
        story.show(draw(wish, len(story.drawn)))
    return Interleaved(story.marked, tuple(story.drawn))


class _Story:
    """An answer in the making: what is written and drawn so far."""

    def __init__(
        self,
        llm: LanguageModel,
        turns: Sequence[tuple[str, str]],
        pictures: Sequence[Tensor],
        sampling: Sampling,
        on_text: OnText | None,
        prefix_cache: PrefixCache | None,
    ) -> None:
        self.llm = llm
        self.turns = turns
        self.pictures = pictures
        self.sampling = sampling
        self.on_text = on_text
        self.prefix_cache = prefix_cache
        self.tokens_left = sampling.max_new_tokens
        self.marked = ""
        self.drawn: list[Tensor] = []

    def write_to_the_next_picture(self) -> Context | None:
        """Go on writing; the context to draw from, or None if the answer is at its end."""
        sampling = replace(self.sampling, max_new_tokens=self.tokens_left)
        context = self._context(for_drawing=False)
        (ids,) = write_tokens(
            self.llm, [context], sampling, self._on_token, self.prefix_cache, self._asks
        )
        self.tokens_left -= len(ids)
        asks = bool(ids) and ids[-1] == self.llm.tokenizer.image_id
        self.marked += self.llm.tokenizer.decode(ids[:-1] if asks else ids)
        if asks:
            self.wish, self.mark = (len(self.marked), len(self.marked)), DRAWN_PICTURE
            return self._context(for_drawing=True)
        caption = _NEW_CAPTION.search(self.marked)
        if caption is None:
            return None
        self.wish, self.mark = caption.span(), PICTURE
        return read_context(self.llm, caption_text(caption.group(1).strip()), for_drawing=True)

    def show(self, picture: Tensor) -> None:
        """Put the picture that was asked for last into its place."""
        self.drawn.append(picture)
        place = self.wish[1]
        self.marked = self.marked[:place] + self.mark + self.marked[place:]

    def end_before_the_wish(self) -> None:
        self.marked = self.marked[: self.wish[0]]

    def _context(self, for_drawing: bool) -> Context:
        return dialogue_context(
            self.llm,
            self.turns,
            (*self.pictures, *self.drawn),
            answer_start=self.marked,
            for_drawing=for_drawing,
        )

    def _asks(self, ids: list[int]) -> bool:
        tail = self.llm.tokenizer.decode(ids[-_TOKENS_OF_A_MARK:])
        return ids[-1] == self.llm.tokenizer.image_id or MARKED_CAPTION_END in tail

    def _on_token(self, written: list[list[int]], done: int, _: int) -> None:
        if self.on_text is not None:
            text = self.marked + self.llm.tokenizer.decode(written[0], unfinished=True)
            total = self.sampling.max_new_tokens
            self.on_text(readable(text), total - self.tokens_left + done, total)
