"""Checkpoint folders to break: copies that share their unchanged files with the original."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from blip3u_core.convert import convert

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "models" / "blip3u-tiny"
HEADER_LENGTH = 8  # bytes

Break = Callable[[Path], object]


@dataclass(frozen=True)
class Broken:
    """One way to break a checkpoint folder."""

    name: str
    layout: str  # published, sharded, converted: what is copied first
    breaks: Break

    def make(self, bases: Path, target: Path) -> Path:
        """Copy the base of this layout to `target` and break it."""
        shutil.copytree(bases / self.layout, target, copy_function=os.link, symlinks=True)
        self.breaks(target)
        return target


def make_bases(folder: Path) -> Path:
    """The tiny checkpoint in its three layouts, to be copied from."""
    shutil.copytree(TINY, folder / "published")
    sharded = Path(shutil.copytree(TINY, folder / "sharded"))
    weights = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, sharded / file)
    weight_map = {key: file for file, keys in parts.items() for key in keys}
    index = {"metadata": {}, "weight_map": weight_map}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    convert(TINY, folder / "converted")
    return folder


def write_bytes(path: Path, content: bytes) -> None:
    """Put another file in the place of one that is shared."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json.dumps(value).encode("utf-8", "surrogatepass"))


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    content = path.read_bytes()
    end = HEADER_LENGTH + int.from_bytes(content[:HEADER_LENGTH], "little")
    return json.loads(content[HEADER_LENGTH:end]), content[end:]


def write_header(path: Path, header: bytes | dict[str, Any], data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    write_bytes(path, len(text).to_bytes(HEADER_LENGTH, "little") + text + data)


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change tensors by name, keeping the metadata."""
    metadata = read_safetensors(path)[0].get("__metadata__")
    weights = load_file(path)
    change(weights)
    path.unlink()
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path, metadata)
