"""A batch through the host's samplers, each item as if it came alone with a seed of its own."""

from __future__ import annotations

import inspect
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.features.flow import item_noise
from ...blip3u_core.seeds import LARGEST_SEED, item_seed

SAMPLERS: list[str] = list(comfy.samplers.SAMPLER_NAMES)


def sample_items(
    patcher: ModelPatcher,
    start: Tensor,
    sigmas: Tensor,
    seed: int,
    sampler_name: str,
    guidance_scale: float,
    positive: list,
    negative: list,
    mask: Tensor | None = None,
) -> Tensor:
    """Latents (B, ...) from `start`; item i is what a batch of one with `seed` + i gives."""
    noise = item_noise(seed, len(start), tuple(start.shape[1:]))
    groups = [slice(None)]
    if mixes_items(sampler_name):
        groups = [slice(i, i + 1) for i in range(len(start))]
    callback = _batch_callback(patcher, len(sigmas) - 1, len(groups))
    samples = [
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
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            # Host: newer ones add 1 for the noise of ancestral samplers (0.8.0).
            seed=min(item_seed(seed, i), LARGEST_SEED - 1),
        )
        for i, group in enumerate(groups)
    ]
    return torch.cat(samples)


def mixes_items(sampler_name: str) -> bool:
    """Whether an item's result depends on its batch: fresh noise, or a step size for all."""
    function = getattr(comfy.samplers.sampler_object(sampler_name), "sampler_function", None)
    if function is None or sampler_name == "dpm_adaptive":
        return sampler_name == "dpm_adaptive"
    return "noise_sampler" in inspect.signature(function).parameters


def _rows(conditioning: list, group: slice) -> list:
    """The conditioning of one group of a batch; what describes all pictures stays whole."""
    return [
        [tokens if len(tokens) == 1 else tokens[group], _options(options, len(tokens), group)]
        for tokens, options in conditioning
    ]


def _options(options: dict[str, Any], batch: int, group: slice) -> dict[str, Any]:
    pooled = options.get("pooled_output")
    if pooled is None or batch == 1:
        return dict(options)
    return {**options, "pooled_output": pooled[group]}


def _batch_callback(patcher: ModelPatcher, steps: int, groups: int) -> Any:
    """One progress bar with previews over all groups of a batch."""
    show = latent_preview.prepare_callback(patcher, steps * groups)
    done = -1

    def callback(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        nonlocal done
        done += 1
        show(done, denoised, x, total * groups)

    return callback
