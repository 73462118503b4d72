"""DeepCache (Ma et al. 2023): a UNet's inner features serve several steps, its outer blocks all.

full evaluation    the features that enter the last `depth` output blocks are kept
reuse              the first and last `depth` blocks alone, on the kept features

The host's own forward pass runs both times, over a copy of the UNet's list of blocks.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_patcher
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor, nn

from .parts import present

KEY = "blip3u_deep_cache"

# Bookkeeping stays out of graphs: torch.compile would compile it anew with every sampling.
outside_graphs = torch.compiler.disable

RowKey = tuple[Any, ...]


@dataclass(frozen=True)
class DeepCacheSettings:
    """Every `interval`-th evaluation is a full one; so are all outside of the two percentages."""

    interval: int
    depth: int  # blocks at either end that work in every evaluation
    start_percent: float
    end_percent: float


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
    evaluate = partial(_evaluate, Views(settings.depth))
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
class Sampling:
    """What is kept during one sampling, by condition."""

    settings: DeepCacheSettings
    start_sigma: float
    end_sigma: float
    kept: dict[RowKey, Kept] = field(default_factory=dict)
    evaluated: Tensor | None = None  # the host's sigmas of this evaluation, the object itself
    seen: Counter[Any] = field(default_factory=Counter)  # conditions since it began
    in_range: bool = True

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
            whole = (self.settings.start_percent, self.settings.end_percent) == (0.0, 1.0)
            self.in_range = whole or self.end_sigma <= float(sigmas[0]) <= self.start_sigma
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
        shape = (len(rows) // len(keys), *rows.shape[1:])
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
    def keep(self, keys: list[RowKey], rows: Tensor, features: Tensor) -> None:
        shape = (len(rows) // len(keys), *rows.shape[1:])
        for key, part in zip(keys, features.chunk(len(keys)), strict=True):
            self.kept[key] = Kept(part.clone(), shape)  # CUDA graphs overwrite their outputs


def _remember_one_sampling(
    settings: DeepCacheSettings, executor: WrapperExecutor, *args: Any, **kwargs: Any
) -> Any:
    """Around a sampling: what it keeps is new with it and gone with it, however it ends."""
    guider: Any = executor.class_obj
    before = guider.model_options
    sampling = guider.model_patcher.get_model_object("model_sampling")
    ends = (settings.start_percent, settings.end_percent)
    start, end = (float(sampling.percent_to_sigma(percent)) for percent in ends)
    guider.model_options = comfy.model_patcher.create_model_options_clone(before)
    guider.model_options["transformer_options"][KEY] = Sampling(settings, start, end)
    try:
        return executor(*args, **kwargs)
    finally:
        guider.model_options = before


def _evaluate(
    views: "Views",
    executor: WrapperExecutor,
    x: Tensor,
    timesteps: Tensor | None = None,
    context: Tensor | None = None,
    y: Tensor | None = None,
    control: dict[str, list] | None = None,
    transformer_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Tensor:
    """Around the UNet: a full evaluation that keeps, or a reuse of what was kept."""
    options = transformer_options or {}
    sampling: Sampling | None = options.get(KEY)
    if sampling is None or not options.get("uuids"):
        return executor(x, timesteps, context, y, control, options, **kwargs)
    view, keys = views.of(executor.class_obj), sampling.keys(options, len(x))
    features = sampling.recall(keys, x)
    unet = view.full if features is None else view.outer
    if features is not None:
        control = view.outer_control(control)
    rest = WrapperExecutor.new_class_executor(
        unet._forward, unet, executor.wrappers, executor.idx + 1
    )
    view.given.features = features
    try:
        result: Tensor = rest.execute(x, timesteps, context, y, control, options, **kwargs)
        if view.kept.features is not None:
            sampling.keep(keys, x, view.kept.features)
    finally:
        view.given.features = view.kept.features = None
    return result


class _Keep(nn.Module):
    """Passes on what enters, and keeps a copy: patches change what follows in place."""

    features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.features = x.clone()
        return x


class _Give(nn.Module):
    """Gives features in place of what enters."""

    features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.features is None else self.features.to(x)


class _Idle(nn.Module):
    """Stands where a block does not work: one channel, as little as the host can carry along."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]


class View:
    """A UNet as it is, with what enters its last `depth` blocks kept; and without its inner blocks.

    Without them, `given` enters the last ones. Every block keeps its number, which patches and
    controls go by.
    """

    def __init__(self, unet: Any, depth: int) -> None:
        self.kept, self.given, idle = _Keep(), _Give(), nn.Sequential(_Idle())
        first, last = list(unet.input_blocks), list(unet.output_blocks)
        self.depth, self.inner = depth, len(last) - depth
        before = nn.Sequential(*last[self.inner - 1], self.kept)
        self.full = _with_blocks(
            unet,
            output_blocks=nn.ModuleList([*last[: self.inner - 1], before, *last[self.inner :]]),
        )
        self.outer = _with_blocks(
            unet,
            input_blocks=nn.ModuleList([*first[:depth], *[idle] * (len(first) - depth)]),
            middle_block=idle,
            output_blocks=nn.ModuleList(
                [*[idle] * (self.inner - 1), nn.Sequential(self.given), *last[self.inner :]]
            ),
        )

    @outside_graphs
    def outer_control(self, control: dict[str, list] | None) -> dict[str, list] | None:
        """A control's residuals, without those of idle blocks; the host pops them from the end."""
        if control is None:
            return None
        idle = {
            "input": lambda block: block >= self.depth,
            "middle": lambda _: True,
            "output": lambda block: block < self.inner,
        }
        return {
            name: [
                None if name in idle and idle[name](len(values) - 1 - i) else value
                for i, value in enumerate(values)
            ]
            for name, values in control.items()
        }


class Views:
    """One view of every UNet that comes: the same objects in every evaluation, compiled once."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.known: WeakKeyDictionary[nn.Module, View] = WeakKeyDictionary()

    @outside_graphs
    def of(self, unet: Any) -> View:
        if unet not in self.known:
            self.known[unet] = View(unet, self.depth)
        return self.known[unet]


def _with_blocks(unet: Any, **blocks: nn.Module) -> Any:
    view = copy.copy(unet)
    view._modules = {**unet._modules, **blocks}
    return view
