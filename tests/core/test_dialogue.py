"""What the language model reads of chats: order, length, templates; the prefix cache."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import ChatModel, ask, chat_context, drawing_context
from blip3u_core.language.context import read_context
from blip3u_core.language.generate import SamplingParams, generate_tokens
from blip3u_core.language.model import LanguageModel
from blip3u_core.language.prefix_cache import PrefixCache, common_length
from blip3u_core.language.prompt import IMAGE_PAD, caption_text, instruction_text
from blip3u_core.language.visual_tokens import visual_tokens

SIXTEEN = SamplingParams(16)


def picture(seed: int, height: int = 60, width: int = 90) -> Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def text_of(llm: LanguageModel, ids: tuple[int, ...]) -> str:
    """The text of a context with one mark per picture."""
    text = llm.tokenizer.decode(ids, keep_special=True)
    while IMAGE_PAD * 2 in text:
        text = text.replace(IMAGE_PAD * 2, IMAGE_PAD)
    return text


class TestTemplates:
    def test_caption_and_instruction_are_the_references(self, llm: LanguageModel) -> None:
        drawn = drawing_context(llm, Chat(), "caption", "A cat")
        assert text_of(llm, drawn.ids) == caption_text("A cat")
        drawn = drawing_context(llm, Chat(), "instruction", "Undo", [picture(1), picture(2)])
        assert text_of(llm, drawn.ids) == instruction_text("Undo", 2)

    def test_raw_marks_pictures_like_the_reference(self, llm: LanguageModel) -> None:
        drawn = drawing_context(llm, Chat(), "raw", "a <image> b", [picture(1)])
        assert text_of(llm, drawn.ids) == "a <|vision_start|><|image_pad|><|vision_end|> b"

    def test_an_empty_prompt_draws_from_the_reasoning(self, llm: LanguageModel) -> None:
        chat = Chat().say("user", "riddle").say("assistant", "hm\nCaption: a cat")
        drawn = drawing_context(llm, chat, "caption", "")
        assert text_of(llm, drawn.ids).endswith("assistant\nhm\nCaption: a cat")

    @pytest.mark.parametrize(
        ("template", "prompt", "pictures", "said"),
        [
            ("caption", "  ", 0, "prompt is empty"),
            ("raw", "", 0, "prompt is empty"),
            ("caption", "a", 1, "Choose the template instruction"),
            ("poem", "a", 0, "template is 'poem'"),
            ("raw", "a", 1, "0 places for pictures"),
            ("raw", "<image>", 0, "1 places for pictures"),
        ],
    )
    def test_bad_prompts_are_told(
        self, llm: LanguageModel, template: str, prompt: str, pictures: int, said: str
    ) -> None:
        shown = [picture(index) for index in range(pictures)]
        with pytest.raises(ValueError, match=said):
            visual_tokens(llm, [drawing_context(llm, Chat(), template, prompt, shown)])


class TestLength:
    def test_a_long_chat_says_what_to_drop(
        self, llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """50 pictures of 256 tokens against a model that reads 4000 tokens."""
        monkeypatch.setattr(llm, "config", replace(llm.config, max_positions=4000))
        chat = Chat()
        for index in range(50):
            chat = chat.say("user", "And this?", [picture(index)]).say("assistant", "A picture.")
        chat = chat.say("user", "Which was the first?")
        with pytest.raises(ValueError, match=r"Drop turns 1 to \d+ \(\d+ pictures\)") as error:
            chat_context(llm, chat, for_drawing=True)
        keep = int(str(error.value).split("keep_last ")[1].split()[0])
        kept = chat_context(llm, chat.last_turns(keep), for_drawing=True)
        assert len(kept) + llm.num_queries + 1 <= 4000
        with pytest.raises(ValueError, match="Drop turns"):
            chat_context(llm, chat.last_turns(keep + 2), for_drawing=True)

    def test_a_long_message_is_told(
        self, llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(llm, "config", replace(llm.config, max_positions=300))
        with pytest.raises(ValueError, match="last message alone has"):
            chat_context(llm, Chat().say("user", "word " * 500))
        with pytest.raises(ValueError, match="reads at most 300"):
            visual_tokens(llm, [read_context(llm, "word " * 500, for_drawing=True)])

    def test_an_answer_ends_where_the_model_can_read_no_further(
        self, llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = read_context(llm, "word")
        limit = len(context) + 3
        monkeypatch.setattr(llm, "config", replace(llm.config, max_positions=limit))
        (ids,) = generate_tokens(llm, [context], SamplingParams(50))
        assert len(ids) == 3


def question(shown: torch.Tensor) -> Chat:
    return Chat().say("user", "What?", [shown])


class TestBatch:
    def test_each_answer_of_a_batch_is_that_of_its_single_run(self, llm: LanguageModel) -> None:
        pictures = [picture(index, 40 + 30 * index, 90) for index in range(5)]
        for sampling in (SIXTEEN, SamplingParams(16, temperature=1.5, top_p=0.9, seed=7)):
            together = ChatModel(llm, sampling).answer([question(one) for one in pictures])
            for index, (text, _) in enumerate(together):
                alone = ChatModel(llm, replace(sampling, seed=sampling.seed + index))
                single = alone.answer([question(pictures[index])])
                assert single[0][0] == text

    def test_pictures_of_all_sizes_in_one_prompt(self, llm: LanguageModel) -> None:
        sizes = [(40, 200), (150, 60), (33, 33), (1, 1)]
        pictures = [picture(i, *size) for i, size in enumerate(sizes)]
        context = drawing_context(llm, Chat(), "instruction", "Mix", pictures)
        other = drawing_context(llm, Chat(), "caption", "A cat")
        together = visual_tokens(llm, [context, other])
        torch.testing.assert_close(together[:1], visual_tokens(llm, [context]), atol=1e-5, rtol=0)
        torch.testing.assert_close(together[1:], visual_tokens(llm, [other]), atol=1e-5, rtol=0)
        swapped = drawing_context(llm, Chat(), "instruction", "Mix", pictures[::-1])
        assert (visual_tokens(llm, [swapped]) - together[:1]).abs().max() > 1e-2

    def test_the_seed_matters_with_a_temperature(self, llm: LanguageModel) -> None:
        context = read_context(llm, "word")
        runs = [
            generate_tokens(llm, [context], SamplingParams(16, temperature=1.0, seed=seed))
            for seed in (1, 1, 2)
        ]
        assert runs[0] == runs[1] != runs[2]

    def test_a_small_top_p_is_greedy(self, llm: LanguageModel) -> None:
        context = read_context(llm, "word")
        drawn = generate_tokens(
            llm, [context], SamplingParams(16, temperature=1.0, top_p=1e-6, seed=3)
        )
        assert drawn == generate_tokens(llm, [context], SIXTEEN)

    @pytest.mark.parametrize(
        "values", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}]
    )
    def test_bad_sampling_is_told(self, values: dict) -> None:
        with pytest.raises(ValueError, match=next(iter(values))):
            SamplingParams(**values)

    def test_cancel_stops_within_one_token(self, llm: LanguageModel) -> None:
        class Cancelled(Exception):
            pass

        counts = []

        def on_token(_: str, done: int, __: int) -> None:
            counts.append(done)
            if done == 3:
                raise Cancelled

        with pytest.raises(Cancelled):
            ask(ChatModel(llm, SamplingParams(100), on_token), Chat(), "Tell me")
        assert counts == [1, 2, 3]


class TestPrefixCache:
    def test_keys_agree_up_to_the_first_that_differs(self) -> None:
        keys = (5, 7, 7, (b"picture", True, 0), 3)
        for length in range(len(keys) + 1):
            assert common_length(keys[:length], keys) == length
            assert common_length(keys, (*keys[:length], 99, *keys[length + 1 :])) == length
        assert common_length((), ()) == 0

    def ten_turns(self, llm: LanguageModel, cache: PrefixCache | None) -> list[str]:
        chat_model, chat, texts = ChatModel(llm, SIXTEEN, prefix_cache=cache), Chat(), []
        for turn in range(10):
            shown = [picture(turn, 60 + 10 * turn, 100)] if turn % 3 == 0 else []
            text, chat = ask(chat_model, chat, f"Question {turn}?", shown)
            texts.append(text)
        return texts

    def test_ten_turns_with_pictures_are_the_same_with_and_without(
        self, llm: LanguageModel
    ) -> None:
        plain = self.ten_turns(llm, None)
        cache = PrefixCache(1 << 30)
        assert self.ten_turns(llm, cache) == plain
        assert cache.reused_tokens > 200  # of the last turn
        assert self.ten_turns(llm, PrefixCache(200_000)) == plain  # forgets all the time

    def test_branches_share_their_trunk(self, llm: LanguageModel) -> None:
        cache = PrefixCache(1 << 30)
        cached, plain = (ChatModel(llm, SIXTEEN, prefix_cache=c) for c in (cache, None))
        _, trunk = ask(plain, Chat(), "Look.", [picture(1)])
        for question in ("Left?", "Right?", "Left?"):
            assert ask(cached, trunk, question)[0] == ask(plain, trunk, question)[0]
        assert cache.reused_tokens > 30

    def test_another_picture_is_not_taken_for_the_first(self, llm: LanguageModel) -> None:
        cache = PrefixCache(1 << 30)
        for seed in (1, 2, 1):
            cached = ask(ChatModel(llm, SIXTEEN, prefix_cache=cache), Chat(), "?", [picture(seed)])
            assert cached[0] == ask(ChatModel(llm, SIXTEEN), Chat(), "?", [picture(seed)])[0]

    def test_drawing_after_answering_uses_its_own_positions(self, llm: LanguageModel) -> None:
        cache = PrefixCache(1 << 30)
        side = llm.generation_side
        _, chat = ask(
            ChatModel(llm, SIXTEEN, prefix_cache=cache), Chat(), "Look.", [picture(1, side, side)]
        )
        context = drawing_context(llm, chat, "caption", "Again")
        expected = visual_tokens(llm, [context])
        for _ in range(2):  # the second time, nearly all is known
            torch.testing.assert_close(
                visual_tokens(llm, [context], cache), expected, atol=1e-5, rtol=0
            )
        assert cache.reused_tokens == len(context)

    def test_other_weights_forget_everything(self, llm: LanguageModel) -> None:
        cache = PrefixCache(1 << 30)
        cache.bind("first")
        ask(ChatModel(llm, SIXTEEN, prefix_cache=cache), Chat(), "Hello?")
        cache.bind("first")
        assert cache.num_bytes > 0
        cache.bind("second")
        assert cache.num_bytes == 0

    def test_the_budget_holds(self, llm: LanguageModel) -> None:
        cache = PrefixCache(200_000)
        for question in ("One?", "Two?", "Three?", "Four?", "Five?"):
            ask(ChatModel(llm, SIXTEEN, prefix_cache=cache), Chat(), question)
            assert cache.num_bytes <= 200_000
        assert cache.num_bytes > 0
