"""What a UNet has computed serves later steps: its inner features, its cross-attention.

DeepCache (Ma et al. 2023)
full evaluation    the features that enter the last `depth` output blocks are kept
reuse              the first and last `depth` blocks alone, on the kept features

T-GATE (Zhang et al. 2024), without its end of guidance
late evaluations   every cross-attention gives what it gave last before

The host's own forward pass runs each time, over a view of the UNet.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.model_patcher
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from .parts import present
from .unet_view import View, Views, outside_graphs

KEY = "blip3u_deep_cache"

RowKey = tuple[Any, ...]


@dataclass(frozen=True)
class DeepCacheSettings:
    """Every `interval`-th evaluation is a full one; so are all outside of the two percentages.

    Cross-attention is computed up to its own percentage.
    """

    interval: int
    depth: int  # blocks at either end that work in every evaluation
    start_percent: float
    end_percent: float
    cross_attention_end_percent: float = 1.0

    @property
    def spares_attention(self) -> bool:
        return self.cross_attention_end_percent < 1.0


def with_deep_cache(patcher: ModelPatcher, settings: DeepCacheSettings) -> ModelPatcher:
    """The MODEL with reuse of its UNet's inner features; in place of an earlier one's settings.

    Raises: ValueError if its network is no such UNet, or has not so many blocks.
    """
    network = present(patcher).model.diffusion_model
    if not isinstance(network, UNetModel):
        raise ValueError(
            f"the model's network is a {type(network).__name__}, expected a UNet as SD and SDXL "
            "have it. Connect the decoder of Load BLIP3-U; the DiT takes EasyCache."
        )
    blocks = len(network.output_blocks)
    if settings.depth >= blocks:
        raise ValueError(
            f"depth is {settings.depth}, expected 1 to {blocks - 1}: the UNet has {blocks} blocks "
            "at either end, and those that are left are what is reused. Lower depth."
        )
    patched = patcher.clone()
    evaluate = partial(_evaluate, Views(settings.depth, settings.spares_attention))
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, partial(_remember_one_sampling, settings)),
        (WrappersMP.DIFFUSION_MODEL, outside_graphs(evaluate, recursive=False)),
    ):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched


@dataclass
class Kept:
    """The inner features of one condition's pictures, and how often they served."""

    features: Tensor  # (B, C, h, w)
    shape: tuple[int, ...]  # of the pictures' latents, (B, L, H, W)
    served: int = 1


@dataclass
class Attended:
    """The results of all cross-attentions for one condition's pictures."""

    shape: tuple[int, ...]  # of the pictures' latents
    results: dict[int, Tensor] = field(default_factory=dict)  # by number; each (B, L, C)


@dataclass
class Sampling:
    """What is kept during one sampling, by condition."""

    settings: DeepCacheSettings
    start_sigma: float
    end_sigma: float
    attention_end_sigma: float
    kept: dict[RowKey, Kept] = field(default_factory=dict)
    attended: dict[RowKey, Attended] = field(default_factory=dict)
    evaluated: Tensor | None = None  # the host's sigmas of this evaluation, the object itself
    seen: Counter[Any] = field(default_factory=Counter)  # conditions since it began
    in_range: bool = True
    is_late: bool = False

    @outside_graphs
    def keys(self, options: dict[str, Any], rows: int) -> list[RowKey]:
        """One key for each condition of a call; one for all where its rows do not divide so.

        A condition that comes again within an evaluation, as for another tile, another part of a
        batch, another window of frames or perturbed guidance, is told apart by its number.
        """
        sigmas = options["sigmas"]
        if sigmas is not self.evaluated:
            self.evaluated = sigmas
            self.seen.clear()
            self._place(sigmas)
        conditions = options["uuids"]
        if rows % len(conditions):
            conditions = [tuple(conditions)]
        keys = []
        for condition in conditions:
            keys.append((condition, self.seen[condition]))
            self.seen[condition] += 1
        return keys

    @outside_graphs
    def recall(self, keys: list[RowKey], rows: Tensor) -> Tensor | None:
        """What is kept for these rows (B, L, H, W), or None if a full evaluation is due."""
        shape = _shape(keys, rows)
        found = [self.kept.get(key) for key in keys]
        ready = [
            kept
            for kept in found
            if kept is not None and kept.shape == shape and kept.served < self.settings.interval
        ]
        if not self.in_range or len(ready) < len(keys):
            return None
        for kept in ready:
            kept.served += 1
        return torch.cat([kept.features for kept in ready])

    @outside_graphs
    def recall_attention(self, keys: list[RowKey], rows: Tensor) -> list[Tensor] | None:
        """What cross-attentions give for these rows, or None if they are to be computed."""
        shape = _shape(keys, rows)
        ready = [one for key in keys if (one := self.attended.get(key)) and one.shape == shape]
        if not self.is_late or len(ready) < len(keys):
            return None
        numbers = sorted(ready[0].results)
        return [torch.cat([one.results[number] for one in ready]) for number in numbers]

    @outside_graphs
    def keep(self, keys: list[RowKey], rows: Tensor, view: View) -> None:
        """Take over what passed in an evaluation; CUDA graphs will overwrite it."""
        shape = _shape(keys, rows)
        if view.kept.passed is not None:
            for key, part in zip(keys, view.kept.passed.chunk(len(keys)), strict=True):
                self.kept[key] = Kept(part.clone(), shape)
        for number, kept in enumerate(view.kept_attention):
            if kept.passed is None:
                continue
            for key, part in zip(keys, kept.passed.chunk(len(keys)), strict=True):
                self._attended(key, shape).results[number] = part.clone()
            kept.passed = None

    def _attended(self, key: RowKey, shape: tuple[int, ...]) -> Attended:
        if key not in self.attended or self.attended[key].shape != shape:
            self.attended[key] = Attended(shape)
        return self.attended[key]

    def _place(self, sigmas: Tensor) -> None:
        """Where in the schedule this evaluation stands."""
        settings = self.settings
        whole = (settings.start_percent, settings.end_percent) == (0.0, 1.0)
        if not whole:
            self.in_range = self.end_sigma <= float(sigmas[0]) <= self.start_sigma
        if settings.spares_attention:
            self.is_late = float(sigmas[0]) < self.attention_end_sigma


def _shape(keys: list[RowKey], rows: Tensor) -> tuple[int, ...]:
    """Of the latents of one key among these rows."""
    return (len(rows) // len(keys), *rows.shape[1:])


def _remember_one_sampling(
    settings: DeepCacheSettings, executor: WrapperExecutor, *args: Any, **kwargs: Any
) -> Any:
    """Around a sampling: what it keeps is new with it and gone with it, however it ends."""
    guider: Any = executor.class_obj
    before = guider.model_options
    sampling = guider.model_patcher.get_model_object("model_sampling")
    start, end, attention_end = (
        float(sampling.percent_to_sigma(percent))
        for percent in (
            settings.start_percent,
            settings.end_percent,
            settings.cross_attention_end_percent,
        )
    )
    guider.model_options = comfy.model_patcher.create_model_options_clone(before)
    guider.model_options["transformer_options"][KEY] = Sampling(settings, start, end, attention_end)
    try:
        return executor(*args, **kwargs)
    finally:
        guider.model_options = before


def _evaluate(
    views: Views,
    executor: WrapperExecutor,
    x: Tensor,
    timesteps: Tensor | None = None,
    context: Tensor | None = None,
    y: Tensor | None = None,
    control: dict[str, list] | None = None,
    transformer_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Around the UNet: an evaluation that keeps, or one that reuses what was kept."""
    options = transformer_options or {}
    sampling: Sampling | None = options.get(KEY)
    if sampling is None or not options.get("uuids"):
        return executor(x, timesteps, context, y, control, options, **kwargs)
    view, keys = views.of(executor.class_obj), sampling.keys(options, len(x))
    features = sampling.recall(keys, x)
    attention = sampling.recall_attention(keys, x)
    unet = view.unet(features is not None, attention is not None)
    if features is not None:
        control = view.outer_control(control)
    if attention is not None:
        options = _without_replaced_attention(options)
    rest = WrapperExecutor.new_class_executor(
        unet._forward, unet, executor.wrappers, executor.idx + 1
    )
    view.give(features, attention)
    try:
        result: Tensor = rest.execute(x, timesteps, context, y, control, options, **kwargs)
        sampling.keep(keys, x, view)
    finally:
        view.clear()
    return result


def _without_replaced_attention(options: dict[str, Any]) -> dict[str, Any]:
    """What another node put in place of cross-attention is part of what is kept of it."""
    replaced = {**options.get("patches_replace", {}), "attn2": {}}
    return {**options, "patches_replace": replaced}
