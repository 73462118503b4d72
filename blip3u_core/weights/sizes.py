"""Shapes of weights: counted, and proven to be what a network needs before it is built."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .json_files import source_of

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(shapes: Shapes, name: str, axes: int, network: str) -> tuple[int, ...]:
    """The shape of a weight that must be there, with so many axes, none of them empty.

    Raises: ValueError that names the weight and the network that it belongs to.
    """
    shape = shapes.get(name)
    if shape is None:
        raise ValueError(
            f"{source_of(shapes, 'the file')} holds {len(shapes)} weights, but is no {network}: "
            f"{name} is missing among {sorted(shapes)[:3]}. Use an unchanged BLIP3-U checkpoint."
        )
    if len(shape) != axes or min(shape) < 1:
        raise ValueError(
            f"{source_of(shapes, 'the file')}: the {network}'s {name} has shape {tuple(shape)}, "
            f"expected {axes} sizes of 1 or more. The file is damaged: download it again."
        )
    return tuple(shape)


def count_layers(shapes: Shapes, name: str) -> int:
    """How many numbered children `name` has, 0 for none.

    Raises: ValueError if they are not numbered one by one from 0: so many are built.
    """
    pattern = re.compile(rf"{re.escape(name)}\.(\d+)\.", re.ASCII)
    found = {match[1] for match in map(pattern.match, shapes) if match}
    expected = {str(number) for number in range(len(found))}
    if found != expected:
        raise ValueError(
            f"{source_of(shapes, 'the file')} holds {len(found)} {name}, but "
            f"{name}.{min(expected - found)} is missing and {name}.{min(found - expected)[:20]} is "
            "there; expected numbers from 0 on. The file is damaged: download it again."
        )
    return len(found)


# How a layer says that its integers are multiplied by a scale: the host's layouts, and torch's.
QUANTISED = (".comfy_quant", ".weight_scale", ".scale_weight")


def check_dtypes(dtypes: Mapping[str, torch.dtype], where: str) -> None:
    """Refuse integers where a network has numbers: they would be taken as they stand.

    Raises: ValueError naming the first weight of integers that no scale belongs to.
    """
    for name, dtype in dtypes.items():
        layer = name.rpartition(".")[0]
        scaled = any(layer + ending in dtypes for ending in QUANTISED)
        if not dtype.is_floating_point and not scaled:
            raise ValueError(
                f"{where}: {name} is stored as {str(dtype).removeprefix('torch.')}, expected "
                "floating point numbers, or integers with a scale beside them. The file is "
                "damaged: download it again."
            )


def check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Refuse norms and biases that are no numbers. Raises ValueError naming the first."""
    for name, weight in weights.items():
        few = weight.ndim == 1 and weight.dtype.itemsize > 1 and weight.is_floating_point()
        if few and not torch.isfinite(weight).all():
            raise ValueError(
                f"{where}: {name} holds NaN or infinite numbers, expected finite ones. The file is "
                "damaged: download it again."
            )
