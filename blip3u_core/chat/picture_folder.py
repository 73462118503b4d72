"""A folder of pictures with a text file beside each, as trainers expect it; read as it comes."""

import mimetypes
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, __version__
from torch import Tensor

from ..atomic_files import save_picture
from ..images import rgb_image
from .chat import has_half_characters

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# What Pillow's readers raise for damaged files.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def pictures_of(folder: Path) -> list[Path]:
    """What is named as a picture in a folder, by name; what lies in folders there is left alone."""
    files = (file for file in folder.iterdir() if not file.name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in FORMATS)


def find_unfit(folder: Path, pictures: Sequence[Path]) -> dict[str, str]:
    """Why some of a folder's files cannot have a caption, by file name; no file is opened."""
    unfit: dict[str, str] = {}
    owners: dict[Path, list[str]] = {}
    for file in pictures:
        owners.setdefault(sidecar(file), []).append(file.name)
        if not _is_file(file):
            unfit[file.name] = "it is no file that can be read, but a folder, a pipe or a dead link"
        elif _is_there(sidecar(file)) and not _is_file(sidecar(file)):
            unfit[file.name] = (
                f"{sidecar(file).name} is a folder, a pipe or a dead link, expected a text file or "
                "nothing. Move it away"
            )
        elif has_half_characters(file.name):
            unfit[file.name] = "its name is not text. Rename it"
    for text, names in owners.items():
        if len(names) > 1:
            for name in names:
                others = " and ".join(other for other in names if other != name)
                unfit[name] = f"{others} would share {text.name} with it. Rename one of them"
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in FORMATS and _is_picture(file.name) and _is_file(file):
            unfit[file.name] = f"expected one of {', '.join(FORMATS)}. Save it as one of these"
    return unfit


def folder_state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files: another one when a picture or a text changes."""
    if not folder.is_dir():
        return []
    found = []
    for file in sorted(folder.iterdir()):
        if not file.name.startswith(".") and _is_file(file):
            about = file.stat()
            found.append((file.name, about.st_size, about.st_mtime_ns))
    return found


def sidecar(picture: Path) -> Path:
    """The text file beside a picture, as trainers expect it: cat.png has cat.txt."""
    return picture.with_suffix(".txt")


def caption_of(picture: Path) -> str:
    """What stands in its text file; nothing if there is none.

    UTF-8 is read, with a byte-order mark or without, and UTF-16 with its mark. All else could
    only be guessed. `find_unfit` tells of what is no file.

    Raises: ValueError, naming the file, if it is another encoding or cannot be read.
    """
    file = sidecar(picture)
    if not _is_there(file):
        return ""
    try:
        data = file.read_bytes()
        text = data.decode("utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig")
    except OSError as error:
        raise ValueError(f"{file.name} cannot be read ({error.strerror}). It stays") from error
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(file, f"{error.reason} at byte {error.start}")) from error
    if "\0" in text:
        raise ValueError(_not_utf8(file, "it holds the byte 0"))
    return text.strip()


def _not_utf8(file: Path, why: str) -> str:
    return (
        f"{file.name} is not UTF-8 text ({why}), and stays as it is. Save it as UTF-8 with the "
        "editor that wrote it, or remove it"
    )


def read_picture(file: Path) -> Tensor:
    """A picture as a camera means it, upright: (H, W, 3 or 4) uint8; of an animation the first.

    Raises: ValueError if it cannot be read.
    """
    try:
        with Image.open(file, formats=_formats()) as opened:
            image = _in_eight_bits(ImageOps.exif_transpose(opened))
            mode = "RGBA" if image.has_transparency_data else "RGB"
            return torch.from_numpy(np.array(image.convert(mode)))
    except DAMAGE as error:
        if FORMATS.get(file.suffix.lower()) not in _formats():
            why = f"Pillow {__version__} reads none here. Install a newer one, or save it as PNG"
        else:
            why = f"{type(error).__name__}: {error}"[:200] + ". Repair it or take it out"
        raise ValueError(f"it cannot be read as a picture ({why})") from error


def _formats() -> list[str]:
    """Those of the formats that this Pillow reads; nothing else hides behind a suffix."""
    Image.init()
    return sorted({name for name in FORMATS.values() if name in Image.OPEN})


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey, which `convert` would cut off, as 8."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    pixels = np.array(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its pixels have 32 bits, expected 8 or 16")
    return Image.fromarray((pixels // 256).astype(np.uint8))


def add_pictures(folder: Path, pictures: Sequence[Tensor]) -> None:
    """Put pictures, (H, W, 1 to 4) each, into a folder; one that lies there already stays."""
    for picture in pictures:
        save_picture(torch.from_numpy(np.array(rgb_image(picture))), folder, "picture")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name or a link that the system refuses
        return False


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _is_picture(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")
