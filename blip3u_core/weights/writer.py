"""Write a safetensors file tensor by tensor: weights larger than the memory pass through it.

8 bytes: length of the header | header (JSON, padded to 8) | the tensors, one after the other
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..atomic_files import new_file
from .reader import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
SPARE_BYTES = 64 * 1024**2  # left free on the disk

OnBytes = Callable[[int], object]
Entry = tuple[torch.dtype, tuple[int, ...]]


class Change(Protocol):
    """What is written of each tensor: one or more, whose dtypes and shapes are known before."""

    def entries(self, name: str, tensor: Tensor, /) -> Mapping[str, Entry]:
        """Name, dtype and shape of everything that is written of one tensor."""
        ...

    def make(self, name: str, tensor: Tensor, /) -> Mapping[str, Tensor]:
        """Those tensors themselves, by the same names."""
        ...


class _Unchanged:
    def entries(self, name: str, tensor: Tensor) -> Mapping[str, Entry]:
        return {name: (tensor.dtype, tuple(tensor.shape))}

    def make(self, name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        return {name: tensor}


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    change: Change | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """Write a file that either is there whole or not at all.

    Args:
        tensors: may be memory-mapped; one at a time is brought into memory.
        change: makes what is written of each tensor, such as one of 8 bits.
        on_bytes: called with the size of every tensor, as it came.

    Raises: OSError if the disk has no room for it, before anything is written.
    """
    change = change or _Unchanged()
    entries: dict[str, Entry] = {}
    for name, tensor in tensors.items():
        entries.update(change.entries(name, tensor))
    # Widest numbers first, so that each begins at a multiple of its size.
    order = sorted(entries, key=lambda name: -entries[name][0].itemsize)
    header, starts, end = _header({name: entries[name] for name in order}, metadata)
    _check_room(path, end)
    with new_file(path) as stream:
        stream.write(header)
        for name, tensor in tensors.items():
            for made_name, made in change.make(name, tensor).items():
                assert (made.dtype, tuple(made.shape)) == entries[made_name], made_name
                stream.seek(starts[made_name])
                stream.write(made.contiguous().flatten().view(torch.uint8).numpy().data)
            if on_bytes is not None:
                on_bytes(tensor.nbytes)


def _header(
    entries: Mapping[str, Entry], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int], int]:
    """The file's first bytes, where in the file each tensor begins, and where the file ends."""
    described: dict[str, object] = {"__metadata__": dict(metadata)}
    starts, start = {}, 0
    for name, (dtype, shape) in entries.items():
        end = start + torch.Size(shape).numel() * dtype.itemsize
        described[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
        starts[name], start = start, end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + at for name, at in starts.items()}, len(header) + start


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed + SPARE_BYTES:
        raise OSError(
            f"{path.parent} has {free / 1e9:.1f} GB free, {path.name} needs {needed / 1e9:.1f} GB. "
            "Make room, or convert to another disk."
        )
