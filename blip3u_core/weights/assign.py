"""Put a stage's memory-mapped weights into a network that was built on the meta device."""

import torch
from torch import Tensor, nn

from .checkpoint import Stage
from .reader import match_keys


def assign_weights(network: nn.Module, stage: Stage, dtype: torch.dtype | None = None) -> None:
    """Give every parameter its weight, in place.

    Args:
        network: its parameter names are those of the stage.
        dtype: what floating point weights become; None keeps them as stored, memory-mapped.

    Raises: ValueError with counts and first names if names or shapes differ.
    """
    expected = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    match_keys(expected, stage.shapes(), str(stage.source))
    weights = {name: stored_as(weight, dtype) for name, weight in stage.state_dict().items()}
    network.load_state_dict(weights, strict=True, assign=True)
    network.requires_grad_(False).train(False)


def stored_as(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The weight in another dtype; the same, memory-mapped one if it has that already.

    8 bits are for matrices alone: norms, biases and convolutions are small and would lose most.
    """
    if dtype is None or (dtype.itemsize == 1 and weight.ndim != 2):
        return weight
    return weight.to(dtype)
