"""What a training sample is: the segments of a dialogue, just as the nodes send it to the LLM."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from blip3u_core.language.prompt import (
    CAPTION_REQUEST,
    IMG,
    PICTURE,
    SYSTEM_PROMPT,
    TURN_END,
    fill_request,
    open_turn_text,
    turn_text,
)
from small_world.language import Caption
from small_world.world import Scene


@dataclass(frozen=True)
class Text:
    """Words; with `loss` the LLM learns to write them itself.

    `about` is the cell of the last picture that the words are about, for a head that is taught to
    look there; `counted` are the cells whose number decides them.
    """

    text: str
    loss: bool = False
    about: int | None = None
    counted: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Shown:
    """A picture that the LLM looks at: `<|vision_start|>`, its pads, `<|vision_end|>`."""

    scene: Scene


@dataclass(frozen=True)
class Drawn:
    """`[IMG]` and the latent queries, from which the scene is drawn; always the last segment."""

    scene: Scene


Segment = Text | Shown | Drawn


@dataclass(frozen=True)
class Sample:
    """One training sequence.

    A sample that ends in `Drawn` runs as the generation pass (plain positions), any other as an
    answer (3-D positions).
    """

    kind: str
    segments: tuple[Segment, ...]
    names: tuple[tuple[int, str], ...] = ()  # (cell to be drawn, the words that mean its object)
    sources: tuple[tuple[int, str], ...] = ()  # (cell, the words for what it takes over)
    anew: bool = False  # what is drawn keeps nothing of the pictures before
    earlier: tuple["Sample", ...] = ()  # where its text draws: what it was up to there

    @property
    def draws(self) -> bool:
        return isinstance(self.segments[-1], Drawn)

    @property
    def text(self) -> str:
        """All of it as the tokenizer sees it, one pad token a picture."""
        return "".join(segment_text(segment) for segment in self.segments)


def segment_text(segment: Segment) -> str:
    if isinstance(segment, Text):
        return segment.text
    return PICTURE if isinstance(segment, Shown) else IMG


@dataclass(frozen=True)
class Turn:
    """What one side says; each `PICTURE` mark in `text` takes the next of `pictures`."""

    role: str
    text: str
    pictures: tuple[Scene, ...] = ()
    about: int | None = None
    counted: tuple[int, ...] | None = None


def user(request: str, prompt: str = "", *pictures: Scene) -> Turn:
    """A user turn from one of the request texts of `blip3u_core.language.prompt`."""
    return Turn("user", fill_request(request, prompt, len(pictures)), pictures)


def assistant(
    text: str,
    *pictures: Scene,
    about: int | None = None,
    counted: tuple[int, ...] | None = None,
) -> Turn:
    return Turn("assistant", text, pictures, about, counted)


def drawn_turn(scene: Scene) -> Turn:
    """An earlier picture of the assistant, as a chat holds it."""
    return assistant(PICTURE, scene)


def with_pictures(
    text: str,
    pictures: Sequence[Scene],
    loss: bool,
    about: int | None = None,
    counted: tuple[int, ...] | None = None,
) -> Iterator[Segment]:
    """Cut `text` at its picture marks and put the scenes there."""
    pieces = text.split(PICTURE)
    assert len(pieces) == len(pictures) + 1, f"{len(pictures)} pictures for the marks of {text!r}"
    for piece, picture in zip(pieces, [*pictures, None], strict=True):
        if piece:
            yield Text(piece, loss, about, counted)
        if picture is not None:
            yield Shown(picture)


def turn_segments(turn: Turn) -> Iterator[Segment]:
    if turn.role != "assistant":
        yield from with_pictures(turn_text(turn.role, turn.text), turn.pictures, loss=False)
        return
    yield Text(open_turn_text(turn.role))
    words = turn.text + TURN_END
    learned = turn.text != PICTURE
    yield from with_pictures(words, turn.pictures, learned, turn.about, turn.counted)
    yield Text("\n")


def merged(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Join neighbouring texts of the same loss, so that the tokenizer sees whole texts."""
    result: list[Segment] = []
    for segment in segments:
        last = result[-1] if result else None
        if isinstance(segment, Text) and isinstance(last, Text) and last.loss == segment.loss:
            result[-1] = replace(last, text=last.text + segment.text)
        else:
            result.append(segment)
    return tuple(result)


def dialogue_sample(
    kind: str,
    turns: Sequence[Turn],
    drawn: Scene | None = None,
    names: tuple[tuple[int, str], ...] = (),
    anew: bool = False,
    sources: tuple[tuple[int, str], ...] = (),
) -> Sample:
    """A dialogue after the usual system turn; with `drawn` the assistant answers by that picture.

    When the last turn is the assistant's and `drawn` is given, the picture follows its words
    (a reasoning in context, a story), inside the same turn.
    """
    segments: list[Segment] = list(turn_segments(Turn("system", SYSTEM_PROMPT)))
    for turn in turns[:-1]:
        segments += turn_segments(turn)
    last = turns[-1]
    if drawn is None or last.role == "user":
        segments += turn_segments(last)
    if drawn is not None:
        segments.append(Text(open_turn_text("assistant")))
        if last.role == "assistant":
            segments += with_pictures(last.text, last.pictures, loss=True)
        segments.append(Drawn(drawn))
    return Sample(kind, merged(segments), names, sources, anew)


def caption_sample(kind: str, caption: Caption) -> Sample:
    request = user(CAPTION_REQUEST, caption.text)
    return dialogue_sample(kind, [request], caption.scene, caption.names)
