"""DeepCache (Ma et al. 2023): a UNet's inner features serve several steps, its outer blocks all.

full evaluation    the features that enter the last `depth` output blocks are kept
reuse              the first and last `depth` blocks alone, on the kept features

The host's own forward pass runs both times, over a copy of the UNet's list of blocks.
"""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.model_patcher
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor, nn

from .parts import present

KEY = "blip3u_deep_cache"

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
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, partial(_remember_one_sampling, settings)),
        (WrappersMP.DIFFUSION_MODEL, _evaluate),
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

    def keys(self, options: dict[str, Any]) -> list[RowKey]:
        """One key for each condition of a call.

        A condition that comes again within an evaluation, as for another tile, another window of
        frames or perturbed guidance, is told apart by its number.
        """
        sigmas = options["sigmas"]
        if sigmas is not self.evaluated:
            self.evaluated = sigmas
            self.seen.clear()
            whole = (self.settings.start_percent, self.settings.end_percent) == (0.0, 1.0)
            self.in_range = whole or self.end_sigma <= float(sigmas[0]) <= self.start_sigma
        keys = []
        for condition in options["uuids"]:
            keys.append((condition, self.seen[condition]))
            self.seen[condition] += 1
        return keys

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

    def keep(self, keys: list[RowKey], rows: Tensor, features: Tensor) -> None:
        shape = (len(rows) // len(keys), *rows.shape[1:])
        for key, part in zip(keys, features.chunk(len(keys)), strict=True):
            self.kept[key] = Kept(part.clone(), shape)  # patches change what follows in place


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
    unet: Any = executor.class_obj
    depth, keys = sampling.settings.depth, sampling.keys(options)
    features = sampling.recall(keys, x)
    if features is None:
        view = keeping_view(unet, depth, lambda kept: sampling.keep(keys, x, kept))
    else:
        view, control = outer_view(unet, depth, features), _outer_control(unet, depth, control)
    rest = WrapperExecutor.new_class_executor(
        view._forward, view, executor.wrappers, executor.idx + 1
    )
    result: Tensor = rest.execute(x, timesteps, context, y, control, options, **kwargs)
    return result


class _Keep(nn.Module):
    """Passes on what enters, and shows it."""

    def __init__(self, show: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.show = show

    def forward(self, x: Tensor) -> Tensor:
        self.show(x)
        return x


class _Give(nn.Module):
    """Gives features in place of what enters."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.features.to(x)


class _Idle(nn.Module):
    """Stands where a block does not work: one channel, as little as the host can carry along."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]


def keeping_view(unet: Any, depth: int, show: Callable[[Tensor], None]) -> Any:
    """The UNet as it is, but for one more layer that shows what enters the last `depth` blocks."""
    blocks = list(unet.output_blocks)
    last = len(blocks) - depth - 1
    blocks[last] = nn.Sequential(*blocks[last], _Keep(show))
    return _with_blocks(unet, output_blocks=nn.ModuleList(blocks))


def outer_view(unet: Any, depth: int, features: Tensor) -> Any:
    """The UNet's first and last `depth` blocks, with `features` entering the last ones.

    Every block keeps its number, which patches and controls go by.
    """
    idle = nn.Sequential(_Idle())
    first, last = list(unet.input_blocks), list(unet.output_blocks)
    inner = len(last) - depth
    return _with_blocks(
        unet,
        input_blocks=nn.ModuleList([*first[:depth], *[idle] * (len(first) - depth)]),
        middle_block=idle,
        output_blocks=nn.ModuleList(
            [*[idle] * (inner - 1), nn.Sequential(_Give(features)), *last[inner:]]
        ),
    )


def _with_blocks(unet: Any, **blocks: nn.Module) -> Any:
    view = copy.copy(unet)
    view._modules = {**unet._modules, **blocks}
    return view


def _outer_control(
    unet: Any, depth: int, control: dict[str, list] | None
) -> dict[str, list] | None:
    """A control's residuals, without those of idle blocks; the host pops them from the end."""
    if control is None:
        return None
    idle = {
        "input": lambda block: block >= depth,
        "middle": lambda _: True,
        "output": lambda block: block < len(unet.output_blocks) - depth,
    }
    return {
        name: [
            None if name in idle and idle[name](len(values) - 1 - i) else value
            for i, value in enumerate(values)
        ]
        for name, values in control.items()
    }
