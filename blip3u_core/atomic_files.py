"""Files that appear whole: written under another name, then renamed."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name first, so that nobody ever finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    try:
        with os.fdopen(number, "wb") as file:
            write(file)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def save_picture(picture: Tensor, folder: Path, prefix: str) -> str:
    """Write (H, W, 3) uint8 as a PNG named by its content; the same picture twice is one file."""
    pixels = np.ascontiguousarray(picture.numpy())
    digest = hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).hexdigest()
    target = folder / f"{prefix}_{digest[:16]}.png"
    if not target.exists():
        write_atomically(target, lambda file: Image.fromarray(pixels).save(file, "PNG"))
    return target.name
