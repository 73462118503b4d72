"""Write a safetensors file tensor by tensor: weights larger than the memory pass through it.

8 bytes: length of the header | header (JSON, padded to 8) | the tensors, one after the other
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..atomic_files import new_file
from .reader import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
SPARE_BYTES = 64 * 1024**2  # left free on the disk

OnBytes = Callable[[int], object]


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    change: Callable[[str, Tensor], Tensor] | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """Write a file that either is there whole or not at all.

    Args:
        tensors: may be memory-mapped; one at a time is brought into memory.
        change: makes what is written of each tensor, such as one of 8 bits; it keeps the shape.
        on_bytes: called with the size of every tensor, as it came.

    Raises: OSError if the disk has no room for it, before anything is written.
    """
    change = change or _unchanged
    dtypes = {name: change(name, _sample(tensor)).dtype for name, tensor in tensors.items()}
    # Widest numbers first, so that each begins at a multiple of its size.
    order = sorted(tensors, key=lambda name: -dtypes[name].itemsize)
    header = _header({name: (dtypes[name], tuple(tensors[name].shape)) for name in order}, metadata)
    _check_room(path, len(header) + sum(tensors[n].numel() * dtypes[n].itemsize for n in order))
    with new_file(path) as stream:
        stream.write(header)
        for name in order:
            data = change(name, tensors[name]).contiguous().flatten().view(torch.uint8).numpy()
            stream.write(data.data)
            if on_bytes is not None:
                on_bytes(tensors[name].nbytes)


def _sample(tensor: Tensor) -> Tensor:
    """An empty tensor of the same kind: same dtype, same number of axes."""
    return tensor[:0] if tensor.ndim else tensor


def _unchanged(_name: str, tensor: Tensor) -> Tensor:
    return tensor


def _header(
    entries: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    described: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, (dtype, shape) in entries.items():
        end = start + torch.Size(shape).numel() * dtype.itemsize
        described[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed + SPARE_BYTES:
        raise OSError(
            f"{path.parent} has {free / 1e9:.1f} GB free, {path.name} needs {needed / 1e9:.1f} GB. "
            "Make room, or convert to another disk."
        )
