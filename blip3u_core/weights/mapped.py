"""Weights that lie in their files until a network works, and go back there afterwards."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn


class MappedWeights:
    """Where each parameter of a network came from, so that memory can be given back for nothing.

    The file's pages belong to the system: it reads them when they are used and drops them when
    memory is short. A cast or moved copy lasts only as long as the network works.
    """

    def __init__(self, network: nn.Module) -> None:
        self._stored = {
            f"{prefix}.{name}".lstrip("."): (layer, name, parameter.detach())
            for prefix, layer in network.named_modules()
            for name, parameter in layer.named_parameters(recurse=False)
        }

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, weight) for name, (_, _, weight) in self._stored.items())

    def num_bytes(self, dtype: torch.dtype) -> int:
        """Size of the network after `cast`."""
        return sum(weight.numel() * cast_to(weight, dtype).itemsize for _, weight in self)

    def cast(self, dtype: torch.dtype) -> None:
        """Give the network copies in `dtype` of what is stored otherwise; 8 bits stay."""
        for layer, name, weight in self._stored.values():
            if cast_to(weight, dtype) != weight.dtype and getattr(layer, name).dtype != dtype:
                _set(layer, name, weight.to(dtype))

    def put_back(self, but: Collection[str] = ()) -> None:
        """Let go of copies, cast or on a device, in favour of the file's own weights.

        Args: but: names that are left as they are.
        """
        for name, (layer, last, weight) in self._stored.items():
            if name not in but:
                _set(layer, last, weight)


def cast_to(weight: Tensor, dtype: torch.dtype) -> torch.dtype:
    """What `MappedWeights.cast` makes of a weight; quantised ones are tensors of another type."""
    plain = type(weight) is Tensor and weight.is_floating_point() and weight.dtype.itemsize > 1
    return dtype if plain else weight.dtype


def _set(layer: nn.Module, name: str, weight: Tensor) -> None:
    layer.register_parameter(name, nn.Parameter(weight, requires_grad=False))
