"""Editing by flow, without inversion: FlowEdit (Kulikov et al. 2024, arXiv 2412.08629).

    x_src = (1 - sigma) f + sigma noise          the source features, noised afresh at every step
    x_tgt = edited + x_src - f                   the same noise on the edited features
    edited += d sigma * (v_tgt(x_tgt) - v_src(x_src))

The flow runs in the space of CLIP features. What source and target description have in common
cancels in the difference; only what the edit changes moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..euler import OnStep, euler, guide
from .flow import NUM_STEPS, check_sigmas, item_noise, linear_sigmas, timesteps_of

if TYPE_CHECKING:
    from .nextdit import NextDiT

# Chosen on blip3u-tiny by `benchmarks/meaning/edit_settings.py`; equal scales cancel best.
SOURCE_GUIDANCE = 2.0
TARGET_GUIDANCE = 2.0
STRENGTH = 0.9

VelocityPair = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


def edit_sigmas(steps: int, strength: float) -> Tensor:
    """The last round(strength * steps) steps of the sampling schedule, (n + 1,), falling to 0.

    Raises: ValueError if `steps` is below 1 or `strength` is outside 0..1.
    Source: FlowEdit Alg. 1, n_max = round(strength * steps), n_min = 0.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(
            f"strength is {strength}, expected 0 to 1. 0 leaves the features as they are, "
            "1 edits along the whole schedule."
        )
    sigmas = linear_sigmas(steps)
    return sigmas[steps - round(strength * steps) :]


def edit_features(
    velocities: VelocityPair,
    features: Tensor,
    sigmas: Tensor,
    seed: int,
    on_step: OnStep | None = None,
) -> Tensor:
    """Move `features` from the source description to the target description.

    Args:
        velocities: maps x_src, x_tgt (B, C, H, W) and sigma to the guided velocities of source
            and target.
        features: CLIP features of the source picture, (B, C, H, W).
        sigmas: (n + 1,), strictly falling to 0; of length 1 it leaves the features as they are.
        seed: item i draws its noise from a generator seeded `seed` + i, so it is edited the same
            alone.
        on_step: called with (done, total) after each step; what it raises stops the edit.

    Returns: edited features, same shape, dtype and device as `features`.
    Raises: ValueError if `sigmas` does not fall strictly to 0.
    Source: FlowEdit Alg. 1 with one noise draw a step (n_avg = 1).
    """
    total = len(sigmas) - 1
    if total == 0:
        return features
    check_sigmas(sigmas)
    noise = item_noise(seed, features.shape[0], (total, *features.shape[1:]))
    source = features.float()

    def difference(edited: Tensor, step: int) -> Tensor:
        sigma = float(sigmas[step])
        x_source = torch.lerp(source, noise[:, step].to(source), sigma)
        v_source, v_target = velocities(x_source, edited + (x_source - source), sigma)
        return v_target.float() - v_source.float()

    return euler(difference, source, sigmas, on_step).to(features.dtype)


@torch.inference_mode()
def edit_clip_features(
    dit: NextDiT,
    features: Tensor,
    source: Tensor,
    target: Tensor,
    seed: int = 0,
    steps: int = NUM_STEPS,
    source_guidance: float = SOURCE_GUIDANCE,
    target_guidance: float = TARGET_GUIDANCE,
    strength: float = STRENGTH,
    on_step: OnStep | None = None,
) -> Tensor:
    """`edit_features` with the velocities of a NextDiT, all four of a step in one batch.

    An item whose two descriptions are the same tokens asks for nothing and keeps its features.

    Args:
        features: (B, C, g, g).
        source, target: visual tokens of both descriptions, (B or 1, Q, D). A guidance scale of 1
            is the description alone; more extrapolates from the null condition.

    Raises: ValueError if a shape, `steps` or `strength` is wrong.
    """
    sigmas, batch = edit_sigmas(steps, strength), features.shape[0]
    tokens = [side.to(features.device, dit.dtype) for side in (source, target)]
    sides = [dit.prepare(side).expand(batch) for side in tokens]
    null = dit.prepare(torch.zeros_like(tokens[0][:1, :1])).expand(2 * batch)
    conditions = (*sides, null)
    pooled = torch.cat([condition.pooled for condition in conditions])  # (4B, time_dim)
    timesteps = timesteps_of(sigmas[:-1]).to(features.device)[:, None]  # (n, 1)
    steps_left = iter(dit.modulate(timesteps, pooled).steps())
    scales = features.new_tensor([source_guidance, target_guidance], dtype=torch.float32)
    scales = scales.repeat_interleave(batch)[:, None, None, None]  # (2B, 1, 1, 1)

    def velocities(x_source: Tensor, x_target: Tensor, _: float) -> tuple[Tensor, Tensor]:
        x = torch.cat([x_source, x_target] * 2).to(dit.dtype)  # (4B, C, g, g)
        cond, uncond = dit.velocity(x, next(steps_left), conditions).float().chunk(2)
        v_source, v_target = guide(cond, uncond, scales).chunk(2)
        return v_source, v_target

    edited = edit_features(velocities, features, sigmas, seed, on_step)
    if source.shape[1:] != target.shape[1:]:
        return edited
    nothing_asked = (tokens[0] == tokens[1]).flatten(1).all(1)  # (B or 1,)
    return torch.where(nothing_asked[:, None, None, None], features, edited)
