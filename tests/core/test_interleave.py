"""Interleaving with the golden set's tiny language model, whose words are put into its mouth."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from blip3u_core.chat import interleave as module
from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import ChatModel
from blip3u_core.chat.interleave import (
    Interleaved,
    PictureRequest,
    ask_for_story,
    interleave,
    readable,
)
from blip3u_core.language.context import Context
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.model import LanguageModel, build_language_model
from blip3u_core.language.prompt import (
    DRAWN_PICTURE,
    INTERLEAVE_REQUEST,
    PICTURE,
    caption_text,
    fill_request,
)
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE

ASK = Chat().say("user", fill_request(INTERLEAVE_REQUEST, "a day at the sea"))


@pytest.fixture(scope="module")
def llm() -> LanguageModel:
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    return build_language_model(checkpoint.llm, checkpoint.assets, checkpoint.generation_config)


class Mouth:
    """Speaks the given segments in place of `generate_tokens`; notes what it was shown."""

    def __init__(self, llm: LanguageModel, segments: list[str]) -> None:
        self.llm = llm
        self.segments: Iterator[str] = iter(segments)
        self.contexts: list[Context] = []
        self.drawings: list[Context] = []

    def write(self, llm, contexts, sampling, on_token, prefix_cache, stop) -> list[list[int]]:
        self.contexts += contexts
        written: list[int] = []
        for token in llm.tokenizer.encode(next(self.segments))[: sampling.max_new_tokens]:
            written.append(token)
            on_token([written], len(written), sampling.max_new_tokens)
            if stop(written):
                break
        return [written]

    def draw(self, request: PictureRequest, index: int) -> Tensor:
        self.drawings.append(request.context)
        return torch.full((56, 56, 3), index / 10)

    def text(self, context: Context) -> str:
        return self.llm.tokenizer.decode(context.ids, keep_special=True)


Tell = Callable[..., tuple[Interleaved, Mouth]]


@pytest.fixture
def tell(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Tell:
    def run(*segments: str, limit: int = 4, tokens: int = 500, on_text=None):
        mouth = Mouth(llm, list(segments))
        monkeypatch.setattr(module, "generate_tokens", mouth.write)
        chat_model = ChatModel(llm, SamplingParams(max_new_tokens=tokens), on_text)
        return interleave(chat_model, ASK, mouth.draw, limit), mouth

    return run


def test_text_and_pictures_take_turns(tell: Tell) -> None:
    story, mouth = tell("The sea.[IMG] never said", "A ship.[IMG]", "The end.")
    assert story.chat.turns[-1].text == f"The sea.{DRAWN_PICTURE}A ship.{DRAWN_PICTURE}The end."
    assert story.text == "The sea. [picture 1] A ship. [picture 2] The end."
    assert [picture[0, 0, 0].item() for picture in story.pictures] == pytest.approx([0.0, 0.1])
    assert len(mouth.contexts) == 3
    assert len(story.chat.pictures) == 2
    assert len(ASK.turns) == 1


def test_a_picture_is_drawn_from_all_before_it(tell: Tell) -> None:
    _, mouth = tell("The sea.[IMG]", "A ship.[IMG]", "")
    first, second = mouth.drawings
    assert mouth.text(first).endswith("<|im_start|>assistant\nThe sea.")
    assert "a day at the sea" in mouth.text(first)
    assert not second.spatial
    assert len(second.pictures) == 1
    assert mouth.text(second).endswith("<|vision_end|>A ship.")


def test_what_was_drawn_is_shown_before_it_goes_on(tell: Tell) -> None:
    _, mouth = tell("The sea.[IMG]", "The end.")
    assert len(mouth.contexts[1].pictures) == 1
    assert mouth.contexts[1].spatial
    assert "The sea.[IMG]<|vision_start|>" in mouth.text(mouth.contexts[1])


@pytest.mark.parametrize("behind", ["", "\n", ".\n"])
def test_marked_captions_are_drawn_alone(tell: Tell, behind: str) -> None:
    story, mouth = tell(f"Look: <picture> a blue sea </picture>{behind}", " The end.")
    assert mouth.text(mouth.drawings[0]) == caption_text("a blue sea")
    assert f"</picture>{PICTURE}" in story.chat.turns[-1].text
    assert story.text.startswith("Look:  [picture 1]")
    assert story.text.endswith("The end.")


def test_two_marked_captions(tell: Tell) -> None:
    story, mouth = tell("<picture>one</picture>", " and <picture>two</picture>", ".")
    assert [mouth.text(context) for context in mouth.drawings] == [
        caption_text("one"),
        caption_text("two"),
    ]
    assert story.text.split() == ["[picture", "1]", "and", "[picture", "2]", "."]


@pytest.mark.parametrize("wish", ["[IMG]", "<picture>three</picture>"])
def test_it_ends_where_one_more_is_asked_for(tell: Tell, wish: str) -> None:
    story, mouth = tell(*[f"So:{wish}"] * 3, limit=2)
    assert len(story.pictures) == len(mouth.drawings) == 2
    assert story.text.split() == ["So:", "[picture", "1]", "So:", "[picture", "2]", "So:"]


def test_tokens_are_counted_over_the_whole_answer(tell: Tell) -> None:
    seen: list[tuple[int, int]] = []
    segment = "Here it is.[IMG]"
    story, _ = tell(
        *[segment] * 9,
        limit=9,
        tokens=20,
        on_text=lambda _, done, total: seen.append((done, total)),
    )
    assert seen == [(done, 20) for done in range(1, 21)]
    assert 1 <= len(story.pictures) < 9


def test_an_answer_without_pictures(tell: Tell) -> None:
    story, mouth = tell("No picture here.")
    assert story.text == "No picture here."
    assert story.pictures == ()
    assert mouth.drawings == []


def test_the_text_so_far_grows_with_places(tell: Tell) -> None:
    texts: list[str] = []
    tell("The sea.[IMG]", "A ship.", on_text=lambda text, *_: texts.append(text))
    assert texts[-1] == "The sea. [picture 1] A ship."


def test_cancel_while_drawing_goes_through(llm: LanguageModel, tell: Tell) -> None:
    def cancel(text: str, done: int, total: int) -> None:
        if "[picture 1]" in text:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        tell("The sea.[IMG]", "A ship.", on_text=cancel)


def test_what_is_made_can_be_kept(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Interleaved] = []
    mouth = Mouth(llm, ["The sea.[IMG]", "A ship.[IMG]"])

    def draw(request: PictureRequest, index: int) -> Tensor:
        if index == 1:
            raise InterruptedError
        return mouth.draw(request, index)

    monkeypatch.setattr(module, "generate_tokens", mouth.write)
    with pytest.raises(InterruptedError):
        interleave(ChatModel(llm), ASK, draw, 4, kept.append)
    assert [story.text for story in kept] == ["The sea. [picture 1]"]
    assert len(kept[0].chat.pictures) == 1


def test_a_stopped_story_goes_on(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own text and pictures before it, and as many new pictures as are allowed."""
    mouth = Mouth(llm, ["The sea.[IMG]", "A ship.[IMG]", " An island.[IMG]", "The end."])
    monkeypatch.setattr(module, "generate_tokens", mouth.write)
    begun = interleave(ChatModel(llm), ASK, mouth.draw, 1)
    assert begun.text == "The sea. [picture 1] A ship."
    asked = ask_for_story(begun.chat, " ", writes_sign=True)
    told = interleave(ChatModel(llm), asked, mouth.draw, 2)
    assert told.text == "The sea. [picture 1] A ship. An island. [picture 2] The end."
    assert len(told.chat.turns) == len(begun.chat.turns)
    assert len(told.pictures) == 2


def test_the_request_suits_the_language_model() -> None:
    taught = ask_for_story(Chat(), "a day at the sea", writes_sign=True)
    assert taught.texts() == ASK.texts()
    untaught = ask_for_story(Chat(), "a day at the sea", writes_sign=False)
    assert "<picture>" in untaught.turns[0].text
    assert ask_for_story(ASK, " ", writes_sign=True) is ASK
    with pytest.raises(ValueError, match="the prompt is empty"):
        ask_for_story(Chat(), "", writes_sign=True)


def test_no_pictures_allowed_is_refused(tell: Tell) -> None:
    with pytest.raises(ValueError, match="max_images is 0, expected 1 or more"):
        tell("The sea.", limit=0)


def test_readable_leaves_plain_text() -> None:
    assert readable("two <picture> without an end") == "two <picture> without an end"
