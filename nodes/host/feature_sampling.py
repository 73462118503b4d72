"""CLIP features through the host's samplers, each picture of a batch with a seed of its own."""

from __future__ import annotations

import inspect
from typing import Any

import comfy.model_management as memory
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.features.flow import item_noise, linear_sigmas
from ...blip3u_core.seeds import item_seed
from .dit import feature_model, feature_shape

SAMPLERS: list[str] = list(comfy.samplers.SAMPLER_NAMES)


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
    noise = item_noise(seed, len(start), tuple(start.shape[1:]))
    mask = None if init_features is None else init_features.get("noise_mask")
    groups = [slice(None)]
    if mixes_items(sampler_name):
        groups = [slice(i, i + 1) for i in range(len(start))]
    callback = _batch_callback(patcher, steps, len(groups))
    features = [
        comfy.sample.sample_custom(
            patcher,
            noise[group],
            guidance_scale,
            comfy.samplers.sampler_object(sampler_name),
            sigmas,
            _rows(positive, group),
            _rows(negative, group),
            start[group],
            noise_mask=mask if mask is None or len(mask) == 1 else mask[group],
            callback=callback,
            seed=item_seed(seed, i),
        )
        for i, group in enumerate(groups)
    ]
    out = {} if init_features is None else dict(init_features)
    return {**out, "samples": torch.cat(features)}


def empty_features(patcher: ModelPatcher, batch_size: int) -> Tensor:
    """Zeros (B, C, g, g): where a sampler starts that takes its own noise."""
    return torch.zeros(batch_size, *feature_shape(patcher), device=memory.intermediate_device())


def start_features(
    shape: tuple[int, ...], batch_size: int, positive: list, init_features: dict[str, Any] | None
) -> Tensor:
    """Features to start from, as many as pictures are asked for, described or given."""
    described = max((tokens.shape[0] for tokens, _ in positive), default=1)
    given = None if init_features is None else init_features["samples"]
    counts = {batch_size, described, 1 if given is None else len(given)} - {1}
    if len(counts) > 1:
        raise ValueError(
            f"batch_size is {batch_size}, the positive conditioning describes {described} pictures "
            f"and init_features holds {0 if given is None else len(given)}; expected one number "
            "for all, or 1 where one serves all. Leave batch_size at 1 to follow the inputs."
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
    sampling = patcher.get_model_object("model_sampling")
    return torch.tensor([sampling.percent_to_sigma(1 - sigma) for sigma in sigmas.tolist()])


def mixes_items(sampler_name: str) -> bool:
    """Whether an item's result depends on its batch: fresh noise, or a step size for all."""
    function = getattr(comfy.samplers.sampler_object(sampler_name), "sampler_function", None)
    if function is None or sampler_name == "dpm_adaptive":
        return sampler_name == "dpm_adaptive"
    return "noise_sampler" in inspect.signature(function).parameters


def _rows(conditioning: list, group: slice) -> list:
    """The conditioning of one group of a batch; what describes all pictures stays whole."""
    return [
        [tokens if len(tokens) == 1 else tokens[group], dict(options)]
        for tokens, options in conditioning
    ]


def _batch_callback(patcher: ModelPatcher, steps: int, groups: int) -> Any:
    """One progress bar with previews over all groups of a batch."""
    show = latent_preview.prepare_callback(patcher, steps * groups)
    done = -1

    def callback(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        nonlocal done
        done += 1
        show(done, denoised, x, total * groups)

    return callback
