"""Where a stage's weights lie and in which dtype it computes: one choice for all stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import comfy.model_management as management
import torch

from ...blip3u_core.weights.checkpoint import Stage


class Placement(NamedTuple):
    """`kept` is asked for by the user, `working` is what the device is best at."""

    device: torch.device
    offload_device: torch.device
    stored: torch.dtype  # of most bytes, as they are kept
    kept: torch.dtype | None  # what weights are turned into at once; None: they stay in the file
    working: torch.dtype | None  # what they are turned into while the network works; None: nothing
    computing: torch.dtype  # of activations

    @property
    def manual_cast(self) -> torch.dtype | None:
        """The host's word for computing in another dtype than that of the weights."""
        return None if self.computing == self.stored else self.computing


def place_stage(
    stage: Stage, weight_dtype: torch.dtype | None, supported: Sequence[torch.dtype]
) -> Placement:
    """Choose as the host does for its own diffusion models.

    Args:
        weight_dtype: how the user wants weights to be kept; None leaves it to host and checkpoint.
        supported: dtypes that the network may compute in, the best first.
    """
    device, offload_device = management.get_torch_device(), management.unet_offload_device()
    in_file = main_dtype(stage)
    working = None
    if weight_dtype is None and in_file.itemsize > 1:
        working = management.unet_dtype(
            model_params=stage.num_bytes // in_file.itemsize,
            supported_dtypes=list(supported),
            weight_dtype=in_file,
        )
    stored = weight_dtype or in_file
    best = working or stored
    computing = management.unet_manual_cast(best, device, list(supported)) or best
    return Placement(device, offload_device, stored, weight_dtype, working, computing)


def main_dtype(stage: Stage) -> torch.dtype:
    """The dtype that most of a stage's bytes have."""
    sizes: Counter[torch.dtype] = Counter()
    for info in stage.tensors.values():
        sizes[info.dtype] += info.num_bytes
    return sizes.most_common(1)[0][0]
