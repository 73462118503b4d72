"""Captions are read out of whatever an LLM writes; without one the error shows the text."""

import pytest
import torch

from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import ChatModel
from blip3u_core.chat.reason import plan_edits, reason, split_caption
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.model import LanguageModel


@pytest.mark.parametrize(
    ("text", "reasoning", "caption"),
    [
        ("It fell.\nCaption: A red apple", "It fell.", "A red apple"),
        ("caption: a cat", "", "a cat"),
        ('Think.\n\n**Final Caption:** "A red apple."\n', "Think.", "A red apple."),
        ("Think.\n- Caption:\nA red\napple", "Think.", "A red apple"),
        ("Caption: first\nNo.\nCaption: second", "Caption: first\nNo.", "second"),
        ("Think.\nCaption: good one\nCaption: ", "Think.", "good one"),
        ("So I say caption: a dog", "So I say", "a dog"),
        ("Think.\nCaption: a cat\n\nI hope you like it.", "Think.", "a cat"),
        ("### Caption: a `cat`", "", "a `cat"),
    ],
)
def test_captions_are_read(text: str, reasoning: str, caption: str) -> None:
    assert split_caption(text) == (reasoning, caption)


@pytest.mark.parametrize("text", ["I cannot say.", "Caption:", "", "captions matter"])
def test_without_a_caption_the_text_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match="no caption came") as error:
        split_caption(text)
    assert text in str(error.value)


def test_a_model_that_gives_no_caption_is_told_with_a_way_out(llm: LanguageModel) -> None:
    with pytest.raises(ValueError, match=r"language model wrote: .*max_new_tokens \(now 5\)"):
        reason(ChatModel(llm, SamplingParams(5)), Chat(), "a riddle")


def test_empty_wishes_are_told(llm: LanguageModel) -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        reason(ChatModel(llm), Chat(), " ")
    with pytest.raises(ValueError, match="instruction is empty"):
        plan_edits(ChatModel(llm), Chat(), [torch.zeros(8, 8, 3)], "\n")


def test_every_picture_gets_its_own_plan(llm: LanguageModel) -> None:
    pictures = [torch.rand(40, 40, 3, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    chat_model = ChatModel(llm, SamplingParams(8))
    plans = plan_edits(chat_model, Chat(), pictures, "Make it night")
    assert plans[1] == plan_edits(chat_model, Chat(), pictures[1:], "Make it night")[0]
