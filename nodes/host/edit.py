"""FlowEdit through the host's own sampling: patches, hooks, memory, progress and Cancel."""

from __future__ import annotations

import comfy.model_management
import comfy.samplers
import latent_preview
import torch
from torch import Tensor

from ...blip3u_core.features.edit import edit_features, edit_sigmas
from .feature_sampling import shifted

Conds = list[dict]

PLAIN_COND = {"model_conds", "uuid", "cross_attn"}  # more means areas, masks, times or hooks

# These must see each side as an ordinary sampling of its own.
PATCHES_PER_SIDE = {"sampler_calc_cond_batch_function", "sampler_pre_cfg_function"}


def edit_clip_features(
    model,
    latent: dict,
    source: list,
    target: list,
    negative: list,
    seed: int,
    steps: int,
    scales: tuple[float, float],
    strength: float,
) -> Tensor:
    """Features (B, C, g, g) of a LATENT, moved from the `source` conditioning to the `target` one.

    A noise mask of the latent limits the edit to its tokens. An item whose two descriptions are
    the same tokens asks for nothing and keeps its features. `scales` are the guidance scales of
    source and target.
    """
    features = latent["samples"]
    features = features.expand(common_batch(features, source, target), -1, -1, -1)
    sigmas = shifted(edit_sigmas(steps, strength), model)
    if len(sigmas) == 1:
        return features
    guider = FeatureEditGuider(model)
    guider.set_descriptions(source, target, negative)
    guider.set_scales(*scales)
    both = torch.cat([features, features])  # (2B, C, H, W)
    callback = latent_preview.prepare_callback(model, len(sigmas) - 1)
    sampler = FeatureEditSampler(seed)
    mask = latent.get("noise_mask")
    edited = guider.sample(torch.zeros_like(both), both, sampler, sigmas, mask, callback, seed=seed)
    edited = edited.to(comfy.model_management.intermediate_device())
    nothing_asked = same_descriptions(source, target).to(edited.device)  # (B or 1,)
    return torch.where(nothing_asked[:, None, None, None], features.to(edited), edited)


def one_batch(descriptions: list[list]) -> list:
    """Single descriptions as one conditioning whose rows they are.

    Raises: ValueError if one is more than a description (areas, combinations).
    """
    if any(len(conditioning) != 1 for conditioning in descriptions):
        raise ValueError(
            f"a list of {len(descriptions)} descriptions came with combined or masked ones among "
            "them, expected a plain one for each picture. Take them from Visual Tokens."
        )
    tokens = torch.cat([conditioning[0][0] for conditioning in descriptions])
    return [[tokens, dict(descriptions[0][0][1])]]


def common_batch(features: Tensor, source: list, target: list) -> int:
    sizes = [len(features), *(len(tokens) for tokens, _ in (*source, *target))]
    if len(set(sizes) - {1}) > 1:
        raise ValueError(
            f"features are a batch of {sizes[0]}, source and target descriptions of {sizes[1:]}; "
            "expected one batch size, or 1 for what all share. Describe each picture once."
        )
    return max(sizes)


def same_descriptions(source: list, target: list) -> Tensor:
    """Which items have the very same visual tokens on both sides, bool (B,) or (1,)."""
    plain = len(source) == len(target) == 1 and not source[0][1] and not target[0][1]
    if not plain or source[0][0].shape[1:] != target[0][0].shape[1:]:
        return torch.zeros(1, dtype=torch.bool)
    return (source[0][0] == target[0][0]).flatten(1).all(1)


class FeatureEditSampler(comfy.samplers.Sampler):
    """The loop of `edit_features` as a sampler of the host; latents come as two equal halves."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def sample(
        self,
        model_wrap,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image,
        denoise_mask=None,
        disable_pbar=False,
    ) -> Tensor:
        features = latent_image.chunk(2)[0]
        denoised = features

        def velocities(x_source: Tensor, x_target: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
            nonlocal denoised
            x = torch.cat([x_source, x_target])  # (2B, C, H, W)
            clean = model_wrap(x, x.new_full((len(x),), sigma), **extra_args)
            denoised = clean.chunk(2)[1]
            v_source, v_target = ((x - clean) / sigma).chunk(2)
            if denoise_mask is not None:
                v_target = torch.lerp(v_source, v_target, denoise_mask.chunk(2)[1].to(x))
            return v_source, v_target

        def on_step(done: int, total: int) -> None:
            if callback is not None:
                callback(done - 1, denoised, denoised, total)

        return edit_features(velocities, features, sigmas, self.seed, on_step)


class FeatureEditGuider(comfy.samplers.CFGGuider):
    """Guides the first half of a batch by the source description and the second by the target's."""

    def set_descriptions(self, source: list, target: list, negative: list) -> None:
        self.inner_set_conds({"positive": target, "source": source, "negative": negative})

    def set_scales(self, source: float, target: float) -> None:
        self.scales = source, target
        self.set_cfg(target)

    def predict_noise(self, x, timestep, model_options=None, seed=None) -> Tensor:
        """Denoised (2B, C, H, W) of x (2B, C, H, W), in one batch of the network where possible."""
        options = model_options or {}
        sides = self.conds["source"], self.conds["positive"]
        null = self.conds["negative"]
        merged = None
        if not PATCHES_PER_SIDE & options.keys():
            merged = merge_sides(*sides, null, len(x) // 2)
        if merged is None:
            guided = [
                comfy.samplers.sampling_function(
                    self.inner_model, half, time, null, side, scale, options, seed
                )
                for half, time, side, scale in zip(
                    x.chunk(2), timestep.chunk(2), sides, self.scales, strict=True
                )
            ]
            return torch.cat(guided)
        predicted = comfy.samplers.calc_cond_batch(self.inner_model, merged, x, timestep, options)
        cond, uncond = (part.chunk(2) for part in predicted)
        guided = [
            comfy.samplers.cfg_function(
                self.inner_model,
                cond[i],
                uncond[i],
                self.scales[i],
                x.chunk(2)[i],
                timestep.chunk(2)[i],
                options,
                sides[i],
                null,
            )
            for i in range(2)
        ]
        return torch.cat(guided)


def merge_sides(source: Conds, target: Conds, negative: Conds, batch: int) -> list[Conds] | None:
    """Conds of a doubled batch, [cond, null]; None if the two sides cannot share one pass."""
    if any(len(conds) != 1 for conds in (source, target, negative)):
        return None
    first, second, null = source[0], target[0], negative[0]
    if any(cond.keys() - PLAIN_COND for cond in (first, second, null)):
        return None
    cond = join_conds(first, second, batch)
    doubled = join_conds(null, null, batch)
    return None if cond is None or doubled is None else [[cond], [doubled]]


def join_conds(first: dict, second: dict, batch: int) -> dict | None:
    """One cond for 2 * `batch` items: `first` for the former half, `second` for the latter."""
    sides = [
        {k: v.process_cond(batch_size=batch, area=None) for k, v in cond["model_conds"].items()}
        for cond in (first, second)
    ]
    if not comfy.samplers.cond_equal_size(*sides):
        return None
    joined = {key: a._copy_with(a.concat([sides[1][key]])) for key, a in sides[0].items()}
    return {**first, "model_conds": joined}
