"""Where a stage's weights lie and in which dtype it computes: one choice for all stages."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import comfy.model_management as management
import comfy.ops
import torch

from ...blip3u_core.weights.stage import Stage


class Placement(NamedTuple):
    """`kept` is asked for by the user, `working` is what the device is best at."""

    device: torch.device
    offload_device: torch.device
    stored: torch.dtype  # of the matrices, as they are kept
    kept: torch.dtype | None  # what weights are turned into at once; None: they stay in the file
    working: torch.dtype | None  # what they are turned into while the network works; None: nothing
    computing: torch.dtype  # of activations
    quantized: frozenset[str] = frozenset()  # formats that layers multiply by the host's kernels

    @property
    def network_dtype(self) -> torch.dtype:
        """The host's word for the dtype that a network is built in."""
        return self.computing if self.quantized else self.stored

    @property
    def manual_cast(self) -> torch.dtype | None:
        """The host's word for computing in another dtype than that of the weights."""
        return None if self.computing == self.network_dtype else self.computing


def place_stage(
    stage: Stage, weight_dtype: torch.dtype | None, supported: Sequence[torch.dtype]
) -> Placement:
    """Choose as the host does for its own diffusion models.

    Args:
        weight_dtype: how the user wants weights to be kept; None leaves it to host and checkpoint.
        supported: dtypes that the network may compute in, the best first.
    """
    device, offload_device = management.get_torch_device(), management.unet_offload_device()
    kept, quantized = keep(stage, weight_dtype)
    stored = kept or main_dtype(stage)
    working = None
    if weight_dtype is None and stored.itemsize > 1:
        working = management.unet_dtype(
            model_params=stage.num_bytes // stored.itemsize,
            supported_dtypes=list(supported),
            weight_dtype=stored,
        )
    best = working or stored
    computing = management.unet_manual_cast(best, device, list(supported)) or best
    return Placement(device, offload_device, stored, kept, working, computing, quantized)


def keep(
    stage: Stage, weight_dtype: torch.dtype | None
) -> tuple[torch.dtype | None, frozenset[str]]:
    """`kept` and `quantized` of a stage's placement.

    Layers stay quantised where the host has their layouts; the others become bf16.
    """
    if not stage.quantized or (weight_dtype is not None and weight_dtype.itemsize > 1):
        return weight_dtype, frozenset()
    formats = frozenset(stage.quantized.values())
    known = formats & quantized_formats()
    if known != formats:
        logging.warning(
            "BLIP3-U: %s has layers quantised as %s, which this ComfyUI has none for (or it lacks "
            "comfy-kitchen): they are kept in bf16, in twice the memory or more. Update ComfyUI.",
            stage.source,
            ", ".join(sorted(formats - known)),
        )
    return (None, known) if known else (torch.bfloat16, known)


def quantized_formats() -> frozenset[str]:
    """Quantised formats that this host's layers load, move and multiply.

    Host: by comfy-kitchen, with the format beside each layer (`comfy_quant`), from 0.8 on. Layers
    also cast what is not quantised where casts know of quantised weights (0.16, not 0.8).
    """
    casts = inspect.signature(comfy.ops.cast_bias_weight).parameters
    if not hasattr(comfy.ops, "mixed_precision_ops") or "want_requant" not in casts:
        return frozenset()
    has_kernels = hasattr(getattr(comfy.ops, "QuantizedTensor", None), "from_float")
    return frozenset(getattr(comfy.ops, "QUANT_ALGOS", ()) if has_kernels else ())


def main_dtype(stage: Stage) -> torch.dtype:
    """The dtype of most bytes, among the matrices of 8 bits or less if there are any."""
    sizes: Counter[torch.dtype] = Counter()
    for name in stage.shapes():
        info = stage.tensors[name]
        sizes[info.dtype] += info.num_bytes
    small = Counter({dtype: size for dtype, size in sizes.items() if dtype.itemsize == 1})
    return (small or sizes).most_common(1)[0][0]
