"""A conversation: what is kept, how pictures are asked for, and its JSON."""

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from blip3u_core.chat import interleave as module
from blip3u_core.chat.chat import Chat
from blip3u_core.chat.converse import (
    CAPTION,
    TOKEN,
    conversation_json,
    converse,
    marks_captions,
    read_conversation,
)
from blip3u_core.chat.dialogue import ChatModel
from blip3u_core.chat.interleave import Interleaved, PictureRequest
from blip3u_core.language.context import Context
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.model import LanguageModel, build_language_model
from blip3u_core.language.prompt import CONVERSE_ORDERS, DRAWN_PICTURE, PICTURE, caption_text
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE


@pytest.fixture(scope="module")
def llm() -> LanguageModel:
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    return build_language_model(checkpoint.llm, checkpoint.assets, checkpoint.generation_config)


class Script:
    """Says the given lines in place of `generate_tokens` and keeps what it was asked to draw."""

    def __init__(self, llm: LanguageModel, lines: list[str]) -> None:
        self.llm = llm
        self.lines: Iterator[str] = iter(lines)
        self.read: list[str] = []
        self.requests: list[PictureRequest] = []
        self.turns: list[str] = []

    def write(self, llm, contexts, sampling, on_token, prefix_cache, stop) -> list[list[int]]:
        self.read += [self.text(context) for context in contexts]
        written: list[int] = []
        for token in llm.tokenizer.encode(next(self.lines)):
            written.append(token)
            on_token([written], len(written), sampling.max_new_tokens)
            if stop(written):
                break
        return [written]

    def draw(self, request: PictureRequest, index: int) -> Tensor:
        self.requests.append(request)
        return torch.full((56, 56, 3), len(self.requests) / 10)

    def text(self, context: Context) -> str:
        return self.llm.tokenizer.decode(context.ids, keep_special=True)


Say = Callable[..., Interleaved]


@pytest.fixture
def talk(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Script, Say]]:
    def start(*lines: str, marked: bool = False) -> tuple[Script, Say]:
        script = Script(llm, list(lines))
        monkeypatch.setattr(module, "generate_tokens", script.write)

        def say(chat: Chat, message: str, *pictures: Tensor, **settings) -> Interleaved:
            return converse(
                ChatModel(llm, SamplingParams(max_new_tokens=500)),
                chat,
                message,
                pictures,
                script.draw,
                settings.pop("limit", 1),
                marks_captions=marked,
                on_turn=lambda turn: script.turns.append(turn.text),
                **settings,
            )

        return script, say

    return start


def test_a_model_that_was_taught_draws_from_the_whole_conversation(talk) -> None:
    script, say = talk("[IMG] never said", "red", "Here:[IMG]")
    chat = say(Chat(), "draw a red circle").chat
    chat = say(chat, "what color is it?").chat
    answer = say(chat, "make it green")
    assert [turn.role for turn in answer.chat.turns] == ["user", "assistant"] * 3
    assert answer.chat.turns[1].text == DRAWN_PICTURE
    assert answer.text == "Here: [picture 1]"
    drawn = script.text(script.requests[1].context)
    assert "draw a red circle" in drawn
    assert drawn.endswith("make it green<|im_end|>\n<|im_start|>assistant\nHere:")
    assert CONVERSE_ORDERS not in "".join(script.read)


def test_a_marked_edit_changes_the_last_picture_towards_its_caption(talk) -> None:
    script, say = talk(
        "Here: <picture>a red circle</picture> never said",
        "Green now. <edit>a green circle</edit>",
        marked=True,
    )
    chat = say(Chat(), "draw a red circle").chat
    chat = say(chat, "make it green").chat
    first, second = script.requests
    assert first.source is None
    assert script.text(first.context) == caption_text("a red circle")
    assert second.source is not None
    assert script.text(second.source.context) == caption_text("a red circle")
    assert script.text(second.context) == caption_text("a green circle")
    assert second.source.picture[0, 0, 0] == 26  # the first picture, 0.1 of 255
    assert all(CONVERSE_ORDERS in text for text in script.read)
    assert CONVERSE_ORDERS not in chat.markdown()
    assert chat.turns[-1].text == f"Green now. <edit>a green circle</edit>{PICTURE}"


def test_the_users_own_picture_is_described_before_it_is_edited(
    talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Chat] = []

    def describe(_model, chat, question, pictures):
        asked.append(chat.say("user", question, pictures))
        return "a dog on a beach", chat

    monkeypatch.setattr(module, "ask", describe)
    script, say = talk("<edit>a cat on a beach</edit>", marked=True)
    say(Chat(), "a cat instead", torch.full((60, 60, 3), 0.5))
    (request,) = script.requests
    assert len(asked[0].pictures) == 1
    assert request.source is not None
    assert script.text(request.source.context) == caption_text("a dog on a beach")


def test_an_edit_without_any_picture_is_a_new_one(talk) -> None:
    script, say = talk("<edit>a green circle</edit>", marked=True)
    say(Chat(), "make it green")
    assert script.requests[0].source is None


def test_the_answer_ends_with_its_last_picture(talk) -> None:
    script, say = talk("[IMG]", "and[IMG]", "more")
    answer = say(Chat(), "two pictures", limit=2)
    assert answer.text == "[picture 1] and [picture 2]"
    assert len(script.read) == 2


def test_own_orders_come_before_those_for_pictures(talk) -> None:
    script, say = talk("Arr.", marked=True)
    chat = say(Chat().say("system", "Talk like a pirate."), "hello").chat
    assert f"<|im_start|>system\nTalk like a pirate.\n{CONVERSE_ORDERS}<|im_end|>" in script.read[0]
    assert chat.turns[0].text == "Talk like a pirate."


def test_what_is_forgotten_stays_in_the_conversation(talk) -> None:
    script, say = talk("one", "two", "three")
    chat = say(Chat(), "first").chat
    chat = say(chat, "second").chat
    chat = say(chat, "third", remember_last=2).chat
    assert "first" not in script.read[-1]
    assert "second" in script.read[-1]
    assert len(chat.turns) == 6


def test_turns_are_told_while_they_grow(talk) -> None:
    script, say = talk("Look:[IMG]", "Yes.")
    say(Chat(), "draw", limit=2)
    assert "Look:" in script.turns
    assert "Look:[IMG]" in script.turns
    assert script.turns[-1] == f"Look:{DRAWN_PICTURE}Yes."


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Look:[IMG]", "Look:"),
        ("Look: <picture>a cat", "Look: "),
        ("Look: <edit>a cat</edit>", "Look: "),
        ("Look: <picture>a cat</pi", "Look: "),
        (f"<picture>a cat</picture>{PICTURE}", f"<picture>a cat</picture>{PICTURE}"),
        ("1 < 2", "1 < 2"),
    ],
)
def test_a_picture_that_never_came_is_not_kept(said: str, kept: str) -> None:
    assert module.without_open_request(module.Turn("assistant", said)).text == kept


def test_saying_nothing_is_an_answer_too(talk) -> None:
    _, say = talk("")
    chat = say(Chat(), "hello").chat
    assert (chat.turns[-1].role, chat.turns[-1].text) == ("assistant", "")


@pytest.mark.parametrize("token", ["<|im_end|>", "[IMG]", "<|image_pad|>", "<|vision_start|>"])
def test_control_tokens_in_a_message_are_text(talk, token: str) -> None:
    script, say = talk("fine")
    story = say(Chat(), f"hello {token}")
    assert story.text == "fine"
    assert script.requests == []
    back = read_conversation(conversation_json(story.chat, lambda _: "x"), dict.__getitem__)
    assert back.texts() == story.chat.texts()
    assert f"hello {token}" in back.markdown()


def test_markup_that_is_no_token_is_text(talk) -> None:
    script, say = talk("fine", marked=True)
    say(Chat(), "what is <b> or <picture>x</picture>?")
    assert script.requests == []
    assert "what is <b> or <picture>x</picture>?" in script.read[0]


def test_an_empty_message_is_refused(talk) -> None:
    with pytest.raises(ValueError, match="the message is empty"):
        talk("never")[1](Chat(), " \n")


def test_the_way_of_asking_for_pictures() -> None:
    assert marks_captions("auto", taught=False)
    assert not marks_captions("auto", taught=True)
    assert marks_captions(CAPTION, taught=True)
    assert not marks_captions(TOKEN, taught=False)
    with pytest.raises(ValueError, match="picture_request is 'x'"):
        marks_captions("x", taught=True)


def test_a_conversation_goes_through_json(llm: LanguageModel) -> None:
    picture = torch.full((4, 4, 3), 7, dtype=torch.uint8)
    chat = (
        Chat()
        .say("user", "look", [picture])
        .say("assistant", f"so {DRAWN_PICTURE}", [picture + 1])
        .say("user", "and?")
        .add(module.Turn("assistant", ""))
    )
    pictures: dict[str, Tensor] = {}

    def keep(picture: Tensor) -> str:
        name = f"{len(pictures)}.png"
        pictures[name] = picture
        return name

    text = conversation_json(chat, keep)
    back = read_conversation(text, pictures.__getitem__)
    assert back.texts() == chat.texts()
    assert [p[0, 0, 0].item() for p in back.pictures] == [7, 8]
    assert "\n" not in text
    assert read_conversation("", pictures.__getitem__).turns == ()


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([{"role": "user", "parts": ["\ud800"]}], "half a character"),
        ([{"role": "assistant", "parts": ["hi"]}], "turn 1.*user turn before it"),
        ([{"role": "user"}], "lacks a part"),
        ([{"role": "user", "parts": [7]}], "lacks a part"),
        (["no turn"], "lacks a part"),
        ("no list", "no list of turns"),
    ],
)
def test_broken_turns_are_told(llm: LanguageModel, turns, words: str) -> None:
    text = json.dumps({"format": "blip3u-conversation", "version": 1, "turns": turns})
    with pytest.raises(ValueError, match=words):
        read_conversation(text, lambda name: torch.zeros(4, 4, 3))


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', "7", "[" * 100_000])
def test_what_is_no_conversation_is_told(llm: LanguageModel, text: str) -> None:
    with pytest.raises(ValueError, match="the conversation cannot be read"):
        read_conversation(text, lambda name: torch.zeros(4, 4, 3))
