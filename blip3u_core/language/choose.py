"""The next token of every answer: repetition penalty, then greedy or nucleus sampling.

All of it happens where the scores lie. What is drawn is decided by random numbers of the host, from
one generator an answer, that are on their way before they are needed: so a seed gives the same
answer alone and in a batch, and nobody waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..seeds import item_seed
from .context import Context
from .model import LanguageModel


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen.

    temperature 0 takes the likeliest; above, one is drawn from those that together hold `top_p`
    of the probability, answer i of a batch with seed + i. `repetition_penalty` None is the
    checkpoint's own.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        checks = [
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more"),
            ("temperature", self.temperature, 0 <= self.temperature < 1e6, "0 or more"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
        ]
        for name, value, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {value}, expected {expected}.")


class TokenChooser:
    """Chooses tokens from scores, and keeps them on the device until `look`.

    All that `choose` changes is changed in place.

    Args:
        stride: the most tokens between two looks.
    """

    def __init__(
        self,
        llm: LanguageModel,
        contexts: Sequence[Context],
        sampling: SamplingParams,
        stride: int,
    ) -> None:
        given, batch, vocabulary = sampling.repetition_penalty, len(contexts), llm.config.vocab_size
        self.penalty = llm.repetition_penalty if given is None else given
        self.top_p = sampling.top_p
        seen = torch.zeros(batch, vocabulary, dtype=torch.bool)
        for index, context in enumerate(contexts):
            seen[index, torch.tensor(context.ids)] = True
        self.seen = seen.to(llm.device)
        self.finite = torch.ones((), dtype=torch.bool, device=llm.device)
        self.chosen = torch.zeros(stride, batch, dtype=torch.long, device=llm.device)
        self.place = torch.zeros(1, dtype=torch.long, device=llm.device)  # of the next in `chosen`
        self.noise = None
        if sampling.temperature > 0:
            seeds = [item_seed(sampling.seed, index) for index in range(batch)]
            self.noise = _Noise(seeds, stride, vocabulary, llm.device)
            # A tensor: a GPU multiplies by the inverse of a number, which may be infinite.
            least = max(sampling.temperature, torch.finfo(torch.float32).tiny)
            self.temperature = torch.tensor(least, device=llm.device)

    def draw_ahead(self, count: int) -> None:
        """Send what decides the first `count` tokens after the next `look`, or after the start.

        To be called when all tokens before that look are on their way.
        """
        if self.noise is not None:
            self.noise.draw(count)

    def choose(self, logits: Tensor) -> Tensor:
        """One token per row of (B, vocabulary), (B,), where the logits lie."""
        penalty = self.penalty
        if penalty != 1.0:
            # Parity: words of the prompt are penalised too, and negative scores multiplied.
            # Source: CTRL, Keskar et al. 2019, and transformers' RepetitionPenaltyLogitsProcessor.
            punished = torch.where(logits < 0, logits * penalty, logits / penalty)
            logits = torch.where(self.seen, punished, logits)
        self.finite &= torch.isfinite(logits).all()
        tokens = self._pick(logits)
        self.seen.scatter_(1, tokens[:, None], True)
        self.chosen.index_copy_(0, self.place, tokens[None])
        self.place += 1
        return tokens

    def look(self, count: int) -> list[list[int]]:
        """The `count` tokens of every answer that were chosen since the last look, step by step.

        Here, and nowhere else, the host waits for the device.

        Raises: ValueError if the scores of a token were no numbers.
        """
        if not self.finite:
            raise ValueError(
                "the language model computed NaN or infinite scores, expected numbers. Load it "
                "with weight_dtype bf16 or fp32 (fp16 can overflow)."
            )
        self.place.zero_()
        return self.chosen[:count].tolist()

    def _pick(self, logits: Tensor) -> Tensor:
        if self.noise is None:
            return logits.argmax(dim=-1)
        # The likeliest at 0: so the smallest temperature overflows nothing but the unlikely.
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / self.temperature
        return draw(logits, self.top_p, self.noise.drawn.index_select(0, self.place)[0])


def draw(logits: Tensor, top_p: float, noise: Tensor) -> Tensor:
    """One token per row, (B,), by nucleus sampling. Source: Holtzman et al. 2020.

    Token i is the first of several independent events with rate p_i with probability p_i: so the
    largest p_i / noise_i is drawn. `torch.multinomial` draws the same of the same generator.

    Args:
        logits: (B, vocabulary).
        noise: (B, vocabulary), exponentially distributed, of the likeliest token first.
    """
    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    outside = ordered.cumsum(dim=-1) - ordered >= top_p
    picks = (ordered.masked_fill(outside, 0.0) / noise).argmax(dim=-1, keepdim=True)
    return order.gather(1, picks).squeeze(1)


class _Noise:
    """Exponential random numbers of the host's generators, on the device."""

    def __init__(
        self, seeds: Sequence[int], stride: int, vocabulary: int, device: torch.device
    ) -> None:
        self.generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self.drawn = torch.ones(stride, len(seeds), vocabulary, device=device)
        on_host, pinned = device.type == "cpu", device.type == "cuda"
        # One buffer will do: the look between two draws waits for the copy of the first.
        self.waiting = self.drawn if on_host else torch.ones(self.drawn.shape, pin_memory=pinned)

    def draw(self, count: int) -> None:
        """Numbers for `count` tokens; the device gets them when it has used the last ones."""
        for step in self.waiting[:count]:
            for row, generator in zip(step, self.generators, strict=True):
                row.exponential_(generator=generator)
        if self.waiting is not self.drawn:
            self.drawn[:count].copy_(self.waiting[:count], non_blocking=True)
