"""Rectified flow from noise to CLIP features: schedule, noise, guided velocities.

x(sigma) = (1 - sigma) clean + sigma noise        velocity = dx / dsigma = noise - clean
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..euler import OnStep, euler, guide
from ..seeds import item_seed

if TYPE_CHECKING:
    from .nextdit import NextDiT

NUM_STEPS = 30
GUIDANCE_SCALE = 3.0


def linear_sigmas(steps: int, denoise: float = 1.0) -> Tensor:
    """The reference's schedule, 1 falling evenly to 1 / steps, then 0.

    Args:
        denoise: part of the way to go, in (0, 1]: the last `steps` of steps / denoise steps.

    Returns: (steps + 1,) float32.
    Raises: ValueError if `steps` is below 1 or `denoise` outside (0, 1].
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more; 30 is the published default.")
    if not 0.0 < denoise <= 1.0:
        raise ValueError(
            f"denoise is {denoise}, expected a value above 0 and up to 1; 1 starts from pure noise."
        )
    total = int(steps / denoise)
    # Parity: computed in float64; in float32 half the timesteps would be cut one lower.
    sigmas = torch.linspace(1.0, 1.0 / total, total, dtype=torch.float64).float()
    return torch.cat((sigmas, sigmas.new_zeros(1)))[-(steps + 1) :]


def timesteps_of(sigmas: Tensor) -> Tensor:
    """Timesteps as the network embeds them: 1000 * sigma, cut to whole numbers."""
    return (sigmas * 1000).long()


def item_noise(seed: int, batch: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (batch, *shape), float32; item i depends on `seed` + i alone.

    Raises: ValueError if `batch` is below 1.
    """
    if batch < 1:
        raise ValueError(f"the batch size is {batch}, expected 1 or more pictures.")
    generators = (torch.Generator("cpu").manual_seed(item_seed(seed, i)) for i in range(batch))
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def integrate_guided_flow(
    velocity: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    noise: Tensor,
    sigmas: Tensor,
    guidance_scale: float,
    on_step: OnStep | None = None,
) -> Tensor:
    """Carry `noise` from the first sigma to 0 along the guided velocity.

    Args:
        velocity: maps x (B, C, H, W) and sigma (B,) to (conditional, null) velocities.
        noise: x at the first sigma, (B, C, H, W); standard normal if that is 1.
        sigmas: (S + 1,), strictly falling to 0, no unit.
        guidance_scale: 1 = conditional only, 0 = null only, above 1 extrapolates.
        on_step: called with (done, total) after each step; what it raises stops the flow.

    Returns: x at sigma = 0, same shape, dtype and device as `noise`.
    Raises: ValueError if `sigmas` does not fall strictly to 0.
    Source: rectified flow, Liu et al. 2022.
    """
    check_sigmas(sigmas)

    def guided(x: Tensor, step: int) -> Tensor:
        cond, uncond = velocity(x, sigmas[step].to(x).expand(len(x)))
        return guide(cond.float(), uncond.float(), guidance_scale)

    return euler(guided, noise.float(), sigmas, on_step).to(noise.dtype)


def check_sigmas(sigmas: Tensor) -> None:
    """Raises: ValueError unless `sigmas` (S + 1,) falls strictly to 0."""
    falls = sigmas.ndim == 1 and len(sigmas) > 1 and bool((sigmas.diff() < 0).all())
    if not falls or not math.isclose(float(sigmas[-1]), 0.0, abs_tol=1e-8):
        raise ValueError(
            f"sigmas are {sigmas.tolist()}, expected at least two values falling strictly to 0. "
            "Take them from linear_sigmas or the node CLIP Feature Sigmas."
        )


@torch.inference_mode()
def sample_clip_features(
    dit: NextDiT,
    visual_tokens: Tensor,
    noise: Tensor,
    steps: int = NUM_STEPS,
    guidance_scale: float = GUIDANCE_SCALE,
    on_step: OnStep | None = None,
    init: Tensor | None = None,
    denoise: float = 1.0,
) -> Tensor:
    """CLIP features of the pictures that the visual tokens describe.

    Args:
        visual_tokens: (B, Q, D), or (1, Q, D) for all rows of `noise`.
        noise: (B, C, g, g), standard normal: see `item_noise`.
        init: features (B, C, g, g) to begin from, noised to the first sigma; zeros if None.
        denoise: part of the way to go, in (0, 1], see `linear_sigmas`.

    Returns: features, (B, C, g, g), dtype and device of `noise`.
    Raises: ValueError if a shape or `steps` is wrong.
    """
    sigmas = linear_sigmas(steps, denoise)
    start = torch.lerp(torch.zeros_like(noise) if init is None else init, noise, float(sigmas[0]))
    timesteps = timesteps_of(sigmas[:-1]).to(noise.device)[:, None]  # (S, 1)
    tokens = visual_tokens.to(noise.device, dit.dtype)
    cond = dit.prepare(tokens)
    null = dit.prepare(torch.zeros_like(tokens[:1, :1]))  # its tokens are all the same: one will do
    conditions = (cond,) if guidance_scale == 1 else (null, cond)
    conditions = tuple(condition.expand(noise.shape[0]) for condition in conditions)
    pooled = torch.cat([condition.pooled for condition in conditions])
    steps_left = iter(dit.modulate(timesteps, pooled).steps())

    def velocity(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.cat([x] * len(conditions)).to(dit.dtype)
        parts = dit.velocity(rows, next(steps_left), conditions).chunk(len(conditions))
        return parts[-1], parts[0]

    return integrate_guided_flow(velocity, start, sigmas, guidance_scale, on_step)
