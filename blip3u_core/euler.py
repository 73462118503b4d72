"""Classifier-free guidance and Euler's method: the loop of the flow, of its edits, of the decoder.

guided   = uncond + scale (cond - uncond)          Ho & Salimans 2022, scale = 1 + w
x(next)  = x + velocity(x) (sigma_next - sigma)    velocity = dx / dsigma = (x - clean) / sigma
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, int], Tensor]  # (x, number of the step) -> dx / dsigma, shaped like x
OnStep = Callable[[int, int], None]  # (done, total); what it raises ends the sampling
# (velocity, x at the first sigma, sigmas (S + 1,), on_step) -> x at the last sigma
Integrate = Callable[[Velocity, Tensor, Tensor, OnStep | None], Tensor]


def guide(cond: Tensor, uncond: Tensor, scale: float | Tensor) -> Tensor:
    """Guided prediction; scale 1 = `cond` alone, 0 = `uncond` alone, above 1 extrapolates."""
    return torch.lerp(uncond, cond, scale)


def euler(velocity: Velocity, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Carry `x` (B, ...) from `sigmas[0]` to `sigmas[-1]`; sigmas are (S + 1,), without unit."""
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        x = torch.add(x, velocity(x, step), alpha=sigma_next - sigma)
        if on_step is not None:
            on_step(step + 1, len(sigmas) - 1)
    return x
