"""Files that appear whole: written under another name, then renamed."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows, where nobody can remove or rename what is open
    fcntl = None

PART_NAMES = ".blip3u-*.part"  # what is being written, or what a killed process left


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A stream to write `path` with; the file is there, whole, when the block ends well.

    Whoever writes holds a lock, which ends with the process: `remove_leftovers` goes by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, stream = _begin(path.parent)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if fcntl is not None:  # still locked; Windows cannot rename what is open
                part.replace(path)
        if fcntl is None:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that nobody ever finds half of it."""
    with new_file(path) as stream:
        write(stream)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; not what one is writing."""
    for part in folder.glob(PART_NAMES):
        # Windows refuses to remove what is open. Elsewhere the lock tells; where there are no
        # locks, as on some network disks, the file stays.
        with suppress(OSError):
            if fcntl is not None:
                with part.open("rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()
            else:
                part.unlink()


def _begin(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        part = folder / PART_NAMES.replace("*", secrets.token_hex(6))
        stream = part.open("xb")
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
        if part.exists():
            return part, stream
        stream.close()  # removed by another process between the two lines above


def save_picture(picture: Tensor, folder: Path, prefix: str) -> str:
    """Write (H, W, 3) uint8 as a PNG named by its content; the same picture twice is one file."""
    pixels = np.ascontiguousarray(picture.numpy())
    digest = hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).hexdigest()
    target = folder / f"{prefix}_{digest[:16]}.png"
    if not target.exists():
        write_atomically(target, lambda file: Image.fromarray(pixels).save(file, "PNG"))
    return target.name
