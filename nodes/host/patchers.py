"""The host's own patcher around each of our networks, chosen in one place.

Newer hosts (0.16 on) may manage VRAM page by page: then every model is a dynamic patcher, and
weights are read from their files when a layer runs. Else a model is moved as a whole, and ours go
back to their files when they leave the device.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ...blip3u_core.weights.mapped import MappedWeights, cast_to
from .memory import free_bytes
from .placement import Placement

_ON_THE_FLY = (  # Host: what a layer has to do to its weights as it runs (0.3.75; all of 0.16)
    "weight_function",
    "bias_function",
    "weight_lowvram_function",
    "bias_lowvram_function",
)


def patcher_for(
    model: nn.Module,
    placement: Placement,
    mixin: type | None = None,
    disable_dynamic: bool = False,
) -> ModelPatcher:
    """Put a model that has its weights under the host's memory management.

    Args:
        mixin: overrides of the patcher's methods.
        disable_dynamic: as the host's loaders, when it needs a plain patcher for a while.
    """
    dynamic = None if disable_dynamic else _dynamic_patcher(placement.device)
    kind = _joined(mixin, dynamic or FilePatcher)
    mapped = MappedWeights(model)
    size = 0
    if placement.working is not None:
        if dynamic is None:
            size = mapped.num_bytes(placement.working)
        _note_working_dtype(model, placement.working)
    state: Any = model  # the host, too, keeps a model's state in attributes of the module
    state.mapped_weights, state.working_dtype = mapped, placement.working
    state.device = placement.offload_device
    return kind(
        model, load_device=placement.device, offload_device=placement.offload_device, size=size
    )


def weights_stay(patcher: ModelPatcher) -> bool:
    """Whether layers compute with their weights as they lie, until the host moves the model.

    Else it brings or patches weights while a layer runs: page by page, or where it found no room.
    """
    model: Any = patcher.model
    if getattr(patcher, "is_dynamic", bool)() or model.model_lowvram:
        return False
    return not any(getattr(layer, name, None) for layer in model.modules() for name in _ON_THE_FLY)


class FilePatcher(ModelPatcher):
    """The host's plain patcher, for weights that lie in files unless the model is loaded."""

    def load(self, device_to: torch.device | None = None, *args: Any, **kwargs: Any) -> Any:
        dtype = self.model.working_dtype
        if dtype is not None and _has_room(self.model.mapped_weights, dtype, self.load_device):
            self.model.mapped_weights.cast(dtype)
        return super().load(device_to, *args, **kwargs)

    def unpatch_model(
        self, device_to: torch.device | None = None, unpatch_weights: bool = True
    ) -> None:
        back = unpatch_weights and device_to is not None and device_to.type == "cpu"
        if back:
            # Host: from 0.3.68 on offloaded weights may be pinned; those are unpinned by address.
            getattr(self, "unpin_all_weights", _nothing)()
            self.model.mapped_weights.put_back(but=self.backup)
        super().unpatch_model(device_to, unpatch_weights)
        if back:
            self.model.mapped_weights.put_back()


def _dynamic_patcher(device: torch.device) -> type[ModelPatcher] | None:
    """The host's dynamic patcher, where it is on and works on the device."""
    core = getattr(comfy.model_patcher, "CoreModelPatcher", ModelPatcher)
    # Host: on a processor the dynamic patcher makes itself a plain one, whatever its subclass.
    return None if core is ModelPatcher or management.is_device_cpu(device) else core


@cache
def _joined(mixin: type | None, base: type[ModelPatcher]) -> type[ModelPatcher]:
    return base if mixin is None else type(f"{mixin.__name__}Patcher", (mixin, base), {})


def _has_room(mapped: MappedWeights, dtype: torch.dtype, device: torch.device) -> bool:
    """On a processor casts cost memory: weights stay in the file, and layers cast, if it is short.

    Once cast they should take less than half of what is free.
    """
    return not management.is_device_cpu(device) or mapped.num_bytes(dtype) < free_bytes(device) // 2


def _note_working_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Host: dynamic patchers bring weights to the device in the dtype noted beside them."""
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(layer, f"{name}_comfy_model_dtype", cast_to(parameter.detach(), dtype))


def _nothing() -> None:
    pass
