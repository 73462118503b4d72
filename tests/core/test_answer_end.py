"""Where an answer ends, and how often the host asks whether it has."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from blip3u_core.language import generate as generating
from blip3u_core.language.choose import SamplingParams, TokenChooser, draw
from blip3u_core.language.context import dialogue_context
from blip3u_core.language.generate import generate, generate_tokens
from blip3u_core.language.model import LanguageModel
from blip3u_core.language.prefix_cache import PrefixCache

TEXTS = ("think of a picture", "what is it?", "say a word or two about nothing at all")
WAITS = {  # each has a GPU's host wait for everything launched before
    getattr(Tensor, name)
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
}


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "look_every", lambda llm: generating.LOOK_EVERY)


def contexts(llm: LanguageModel) -> list[Any]:
    return [dialogue_context(llm, [("user", text)]) for text in TEXTS]


def scripted(monkeypatch: pytest.MonkeyPatch, tokens: list[int]) -> None:
    script = iter([*tokens, *[tokens[0]] * 16])
    monkeypatch.setattr(TokenChooser, "_pick", lambda *_: torch.tensor([next(script)]))


class Waits(TorchFunctionMode):
    """Counts what would have the host wait for a GPU."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in WAITS
        return func(*args, **(kwargs or {}))


def waits(llm: LanguageModel, num_tokens: int, temperature: float) -> int:
    with Waits() as counted:
        answers = generate_tokens(llm, contexts(llm), SamplingParams(num_tokens, temperature))
    assert {len(ids) for ids in answers} == {num_tokens}
    return counted.count


@pytest.mark.parametrize("stride", [1, generating.LOOK_EVERY])
def test_an_answer_ends_where_the_model_would_draw(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    """After a reasoning the model may write `[IMG]`: what follows is a picture, not text."""
    word = llm.tokenizer.encode("a")[0]
    scripted(monkeypatch, [word, word, llm.tokenizer.img_token_id, word, word])
    monkeypatch.setattr(generating, "look_every", lambda *_: stride)
    told: list[tuple[str, int, int]] = []
    answers = generate(
        llm, contexts(llm)[:1], SamplingParams(max_new_tokens=5), lambda *said: told.append(said)
    )
    assert answers == ["aa"]
    assert [done for _, done, _ in told] == ([1, 2, 3, 5] if stride == 1 else [3, 5])


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_was_computed_in_vain_is_not_remembered(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = llm.tokenizer.encode("a")[0]
    scripted(monkeypatch, [word, word, next(iter(llm.eos_token_ids))])
    known, (context, *_) = PrefixCache(2**30), contexts(llm)
    (ids,) = generate_tokens(llm, [context], SamplingParams(20), prefix_cache=known)
    assert ids == [word, word]
    (entry,) = known._entries
    assert len(entry.keys) == entry.cache.length == len(context) + 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("most", [1, 7, 8, 21])
def test_looking_rarely_writes_the_same(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, most: int, temperature: float
) -> None:
    sampling = SamplingParams(most, temperature, seed=3)
    each = generate_tokens(llm, contexts(llm), sampling)
    monkeypatch.setattr(generating, "look_every", lambda *_: generating.LOOK_EVERY)
    told: list[int] = []
    rarely = generate_tokens(llm, contexts(llm), sampling, lambda _, done, __: told.append(done))
    assert rarely == each
    assert told == [*range(8, most, 8), most][: len(told)]


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_gpu_waits_once_in_8_tokens(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    look = waits(llm, 24, temperature) - waits(llm, 16, temperature)
    assert look == 2  # whether the scores were numbers, and which tokens they chose
    assert waits(llm, 17, temperature) - waits(llm, 10, temperature) == look


@pytest.mark.parametrize("size", [1, 300, 20_000])
@pytest.mark.parametrize("top_p", [1.0, 0.8, 0.01])
def test_noise_drawn_ahead_draws_what_multinomial_draws(size: int, top_p: float) -> None:
    """So that a seed gives the answers that it gave when each token was drawn by itself."""
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    noise = torch.empty(8, 1, size)
    for row in noise:
        row.exponential_(generator=generators[0])
    for step in range(8):
        logits = 3 * torch.randn(1, size, generator=torch.Generator().manual_seed(step))
        ordered, order = logits.softmax(-1).sort(descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0.0
        drawn = torch.multinomial(ordered, 1, generator=generators[1])
        assert draw(logits, top_p, noise[step]) == order[0, drawn[0]]


def test_without_numbers_there_is_no_answer(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stride in (1, generating.LOOK_EVERY):
        monkeypatch.setattr(generating, "look_every", lambda *_, stride=stride: stride)
        monkeypatch.setattr(llm, "logits", lambda hidden: torch.full((1, 300), float("nan")))
        with pytest.raises(ValueError, match="computed NaN or infinite scores"):
            generate_tokens(llm, contexts(llm)[:1], SamplingParams(20, repetition_penalty=1.0))


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6])
def test_the_smallest_temperatures_are_greedy(llm: LanguageModel, temperature: float) -> None:
    greedy = generate_tokens(llm, contexts(llm), SamplingParams(9))
    assert generate_tokens(llm, contexts(llm), SamplingParams(9, temperature)) == greedy


@pytest.mark.parametrize(("device", "stride"), [("cpu", 1), ("cuda", 8), ("mps", 8)])
def test_only_a_processor_looks_at_each_token(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, device: str, stride: int
) -> None:
    monkeypatch.setattr(llm, "device", torch.device(device))
    assert generating.look_every(llm) == stride


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_in_words_is_never_empty(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    """A model that would end, or draw, at once has its likeliest word asked for instead."""
    silent = torch.zeros(llm.config.vocab_size)
    silent[[*llm.eos_token_ids, llm.tokenizer.img_token_id]] = 1e4
    scores = LanguageModel.logits
    monkeypatch.setattr(LanguageModel, "logits", lambda *given: scores(*given) + silent)
    sampling = SamplingParams(max_new_tokens=5, temperature=temperature)
    assert generate(llm, contexts(llm), sampling) == ["", "", ""]
    assert all(generate(llm, contexts(llm), sampling, in_words=True))
