"""Answers of a language model whose matrices in 4 or 8 bits are read where they lie.

The kernel of blip3u_core/weights/few_rows.py multiplies every token after the first; the question
and the picture, which are many rows, are read as without it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from blip3u_core.weights.precision import role_of

from .cost import BANDWIDTH_REACHED, GPUS, SHORTEST_KERNEL, Gpu, StageCost, duration
from .sizes import Shapes
from .stages import ANSWER_TOKENS

FEW_ROWS_REACHED = 0.7  # of a card's bandwidth, by the kernel
GOALS: Mapping[str, float] = {"RTX 4070 12 GB": 1.5, "RTX 4060 8 GB": 3.0}  # seconds of the 8B

_BYTES = {"int8": 1.0, "nvfp4": 0.5625}  # of a number with its share of the scales


def few_rows_matrices(shapes: Shapes, form: str) -> tuple[tuple[int, float], ...]:
    """Numbers of each matrix that a token is multiplied by, and bytes of a number."""
    tied = "lm_head.weight" not in shapes
    roles = {name: role_of("llm", name, len(shape), tied) for name, shape in shapes.items()}
    return tuple(
        (math.prod(shapes[name]), _BYTES[form if role == "matrix" else "int8"])
        for name, role in roles.items()
        if role == "matrix" or (role == "beside" and name == "lm_head.weight")
    )


@dataclass(frozen=True)
class FewRowsAnswer(StageCost):
    """`cast_bytes` are moved once, by the prefill; later tokens read `matrices` by the kernel."""

    matrices: tuple[tuple[int, float], ...] = ()

    def gpu_seconds(self, card: Gpu) -> float:
        plain = card.bandwidth * BANDWIDTH_REACHED
        kernel = card.bandwidth * FEW_ROWS_REACHED
        token = sum(
            max(number * size / kernel, SHORTEST_KERNEL) - max(2 * number / plain, SHORTEST_KERNEL)
            for number, size in self.matrices
        )
        kernels = self.kernel_seconds(card)  # with every matrix in bf16
        return kernels + self.cast_bytes / plain + (ANSWER_TOKENS - 1) * token


def goal_lines(answers: Mapping[str, StageCost]) -> Iterator[str]:
    """For each card with a goal the way that answers soonest. `answers`: by way, of the 8B."""
    for card in GPUS:
        if card.name in GOALS:
            times = {way: stage.seconds(card) for way, stage in answers.items()}
            way = min(times, key=lambda name: times[name])
            goal = GOALS[card.name]
            said = "reached" if times[way] <= goal else "MISSED"
            yield f"- {card.name}: goal {goal} s, {said}: {duration(times[way])} by {way}"
