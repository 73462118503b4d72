"""A text file beside every picture of a folder; after a Cancel the next run goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..atomic_files import save_picture, write_atomically
from ..images import rgb_image
from ..language.generate import OnToken
from ..language.prompt import literal
from ..seeds import item_seed
from .chat import Chat
from .dialogue import ChatModel, ask_about_each

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
AT_ONCE = 8  # pictures answered together; so many are asked again after a Cancel


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder by name; folders in it are left alone.

    Raises: ValueError if two pictures would share a text file.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]
    files = sorted(file for file in files if file.is_file() and not file.name.startswith("."))
    owners: dict[Path, Path] = {}
    for file in files:
        other = owners.setdefault(sidecar(file), file)
        if other != file:
            raise ValueError(
                f"{other.name} and {file.name} would share {sidecar(file).name}, expected one "
                "picture per text file. Rename one of them."
            )
    return files


def sidecar(picture: Path) -> Path:
    """The text file beside a picture, as trainers expect it: cat.png has cat.txt."""
    return picture.with_suffix(".txt")


def caption_of(picture: Path) -> str:
    """What stands in its text file; nothing if there is none."""
    file = sidecar(picture)
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def add_pictures(folder: Path, pictures: Sequence[Tensor]) -> None:
    """Put pictures, (H, W, 1 to 4) each, into a folder; one that lies there already stays."""
    for picture in pictures:
        save_picture(torch.from_numpy(np.array(rgb_image(picture))), folder, "picture")


def caption_folder(
    chat_model: ChatModel, folder: Path, question: str, keep: bool
) -> list[tuple[str, str]]:
    """Ask about every picture of a folder, each by itself, and write the answers beside them.

    Args:
        chat_model: picture i of the folder, sorted by name, is answered with the seed + i, whatever
            lies there already; its `on_token` counts over all that are to be asked.
        keep: leave pictures that have a text already. An empty text file counts as none.

    Returns: (file name, text) of every picture, new and old.
    Raises: ValueError for a folder without pictures, an empty question, or a broken picture. What
        was written before an error or Cancel stays, and is kept by the next run.
    """
    files = pictures_of(folder)
    if not files:
        raise ValueError(
            f"{folder} holds no pictures, expected {', '.join(SUFFIXES)} files. Put some there, or "
            "name another folder."
        )
    if not question.strip():
        raise ValueError("the question is empty, expected what to ask about each picture.")
    missing = [index for index, file in enumerate(files) if not (keep and caption_of(file))]
    progress = _Progress(chat_model, len(missing))
    for part in runs(missing, AT_ONCE):
        pictures = [read_file(files[index]) for index in part]
        sampling = replace(chat_model.sampling, seed=item_seed(chat_model.sampling.seed, part[0]))
        asking = replace(chat_model, sampling=sampling, on_token=progress.on_token(len(part)))
        for index, (text, _) in zip(
            part, ask_about_each(asking, Chat(), literal(question), pictures), strict=True
        ):
            write_atomically(
                sidecar(files[index]), lambda file, text=text: file.write(f"{text}\n".encode())
            )
        progress.pictures_done += len(part)
    return [(file.name, caption_of(file)) for file in files]


def runs(numbers: Sequence[int], longest: int) -> list[list[int]]:
    """Rising numbers in pieces without gaps: [0, 1, 2, 5] by 2 is [[0, 1], [2], [5]]."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and len(pieces[-1]) < longest and number == pieces[-1][-1] + 1:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return pieces


def read_file(file: Path) -> Tensor:
    """A picture as a camera means it, upright: (H, W, 3 or 4) uint8.

    Raises: ValueError, naming the file, if it cannot be read.
    """
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would cut off
                image = Image.fromarray((np.array(image) // 256).astype(np.uint8))
            mode = "RGBA" if image.has_transparency_data else "RGB"
            return torch.from_numpy(np.array(image.convert(mode)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{file.name} cannot be read as a picture ({error}). Repair it or take it out of the "
            "folder, then run again: the texts written so far are kept."
        ) from error


@dataclass
class _Progress:
    """Counts tokens over all pictures, so that one bar shows the whole folder."""

    chat_model: ChatModel
    num_pictures: int
    pictures_done: int = 0

    def on_token(self, at_once: int) -> OnToken | None:
        """An `on_token` for the next `at_once` pictures."""
        shown = self.chat_model.on_token
        if shown is None:
            return None
        share = self.chat_model.sampling.max_new_tokens
        before, total = self.pictures_done * share, self.num_pictures * share

        def show(text: str, done: int, of: int) -> None:
            shown(text, before + at_once * share * done // of, total)

        return show
