"""CLIP features through the host's samplers, each picture of a batch with a seed of its own."""

from __future__ import annotations

from typing import Any

import comfy.model_management as memory
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.features.flow import linear_sigmas
from .dit import feature_model, feature_shape
from .item_sampling import sample_items


def sample_features(
    patcher: ModelPatcher,
    positive: list,
    negative: list,
    seed: int,
    steps: int,
    guidance_scale: float,
    sampler_name: str,
    batch_size: int,
    denoise: float,
    init_features: dict[str, Any] | None,
) -> dict[str, Any]:
    """A LATENT of features; item i is what a run of one with `seed` + i gives.

    Raises: ValueError if the batch sizes differ, or the model is not the feature DiT.
    """
    shape = feature_shape(patcher)
    start = start_features(shape, batch_size, positive, init_features)
    sigmas = shifted(linear_sigmas(steps, denoise), patcher)
    mask = None if init_features is None else init_features.get("noise_mask")
    features = sample_items(
        patcher, start, sigmas, seed, sampler_name, guidance_scale, positive, negative, mask
    )
    out = {} if init_features is None else dict(init_features)
    return {**out, "samples": features}


def empty_features(patcher: ModelPatcher, batch_size: int) -> Tensor:
    """Zeros (B, C, g, g): where a sampler starts that takes its own noise."""
    return torch.zeros(batch_size, *feature_shape(patcher), device=memory.intermediate_device())


def start_features(
    shape: tuple[int, ...], batch_size: int, positive: list, init_features: dict[str, Any] | None
) -> Tensor:
    """Features to start from, as many as pictures are asked for, described or given."""
    num_positive = max((tokens.shape[0] for tokens, _ in positive), default=1)
    given = None if init_features is None else init_features["samples"]
    counts = {batch_size, num_positive, 1 if given is None else len(given)} - {1}
    if len(counts) > 1:
        raise ValueError(
            f"batch_size is {batch_size}, the positive conditioning describes {num_positive} "
            f"pictures and init_features holds {0 if given is None else len(given)}; expected one "
            "number for all, or 1 where one serves all. Leave batch_size at 1 to follow the inputs."
        )
    batch = counts.pop() if counts else 1
    if given is None:
        return torch.zeros(batch, *shape, device=memory.intermediate_device())
    if given.ndim != 4 or given.shape[1] != shape[0]:
        raise ValueError(
            f"init_features is a LATENT {tuple(given.shape)}, expected CLIP features (B, "
            f"{shape[0]}, {shape[1]}, {shape[2]}). Take it from a CLIP Feature Sampler or from "
            "Image to CLIP Features."
        )
    return given if len(given) == batch else given.expand(batch, -1, -1, -1)


def shifted(sigmas: Tensor, patcher: ModelPatcher) -> Tensor:
    """The schedule as a shift on the model (ModelSamplingSD3, AuraFlow, Flux) bends it."""
    feature_model(patcher)
    sampling: Any = patcher.get_model_object("model_sampling")
    return torch.tensor([sampling.percent_to_sigma(1 - sigma) for sigma in sigmas.tolist()])
