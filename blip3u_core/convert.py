"""Convert a published checkpoint to one safetensors file a stage, with its config inside.

    python -m blip3u_core.convert SOURCE TARGET [--weight-dtype int8]

SOURCE is a published checkpoint folder, or the folder of an EVA-CLIP tower (whose weights may
still be the published `pytorch_model.bin`). TARGET becomes a folder with llm.safetensors,
dit.safetensors, unet.safetensors, vae.safetensors and vision_tower.safetensors, as many as SOURCE
has; put it into models/blip3u. For a tower, TARGET may be a .safetensors file in
models/clip_vision.

fp8_e4m3fn, fp8_scaled and int8 halve the matrices of attention and feed-forward layers (see
`weights/precision.py`), nvfp4 takes about a quarter. The last three are ComfyUI's own layouts
(docs/quantization.md) and make the language model's vision encoder, output layer and token table
small, too. Everything else stays as it is.
"""

import argparse
import json
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .atomic_files import remove_leftovers
from .decoder.unet_config import UNetConfig
from .decoder.vae import VaeConfig
from .features.config import NextDiTConfig
from .features.eva_clip import EvaClipConfig
from .language.config import TextConfig, check_layers
from .weights.checkpoint import (
    STAGES,
    TOWER_KEYS,
    Checkpoint,
    open_checkpoint,
    open_vision_tower,
)
from .weights.json_files import read_json
from .weights.precision import Cast
from .weights.quantized import FORMATS, MARK, Quantizer
from .weights.reader import has_weights
from .weights.stage import Stage
from .weights.writer import Change, OnBytes, write_safetensors

TOWER_BIN = "pytorch_model.bin"
FP8 = torch.float8_e4m3fn
KEEP = "keep"
WEIGHT_DTYPES = (KEEP, "fp8_e4m3fn", *FORMATS)


@dataclass(frozen=True)
class Part:
    """One file to be written."""

    name: str
    weights: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def num_bytes(self) -> int:
        """Size of the weights in the file."""
        return sum(weight.nbytes for weight in self.weights.values())


def convert(
    source: Path,
    target: Path,
    weight_dtype: str = KEEP,
    on_bytes: OnBytes | None = None,
) -> list[Path]:
    """Write every stage of `source` as one file; the files that `open_checkpoint` reads.

    Args:
        source: a published checkpoint folder, or a tower's folder.
        target: the folder to make; for a tower it may be a file that ends in .safetensors.
        weight_dtype: one of WEIGHT_DTYPES; "keep" keeps the weights, the others are for the large
            matrices.
        on_bytes: called with the size of every tensor, as it came.

    Returns: the files written; each is there whole or not at all.
    Raises: FileNotFoundError or ValueError if `source` is no checkpoint or tower, is quantised or
        the same folder as `target`; OSError if the disk is too small.
    """
    if weight_dtype not in WEIGHT_DTYPES:
        raise ValueError(
            f"weight_dtype is {weight_dtype!r}, expected one of {', '.join(WEIGHT_DTYPES)}. The "
            "loader casts to the other kinds."
        )
    parts = parts_of(source)
    is_file = target.suffix == ".safetensors"
    if is_file and [part.name for part in parts] != ["vision_tower"]:
        raise ValueError(
            f"{target} is one file, but {source} is a checkpoint of {len(parts)} stages: expected "
            "a folder. Only a vision tower can be one file."
        )
    folder = target.parent if is_file else target
    if folder.resolve() == source.resolve():
        raise ValueError(f"{target} is the source itself. Give another folder as target.")
    _refuse_quantised(parts, weight_dtype)
    changes = [_change(part, weight_dtype) for part in parts]
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    written = []
    for part, change in zip(parts, changes, strict=True):
        path = target if is_file else folder / f"{part.name}.safetensors"
        write_safetensors(path, part.weights, part.metadata, change, on_bytes)
        written.append(path)
    return written


def parts_of(source: Path) -> list[Part]:
    """The stages that `source` has, memory-mapped. Raises FileNotFoundError or ValueError."""
    if (source / TOWER_BIN).is_file() and not has_weights(source, "model"):
        return [_published_tower(source)]
    if not (source / "config.json").is_file() and has_weights(source, "model"):
        stage = open_vision_tower(source)
        return [
            Part("vision_tower", stage.state_dict(), {"config": json.dumps(dict(stage.config))})
        ]
    checkpoint = open_checkpoint(source)
    stages = (_stage_or_none(checkpoint, name) for name in STAGES)
    found = [stage for stage in stages if stage is not None]
    for stage in found:
        _check_config(stage, checkpoint.config)
    return [Part(stage.name, stage.state_dict(), _metadata(checkpoint, stage)) for stage in found]


def _check_config(stage: Stage, config: Mapping[str, Any]) -> None:
    """Refuse now what would not load afterwards. Raises ValueError."""
    shapes = stage.shapes()
    if stage.name == "llm":
        check_layers(stage.config, shapes)
    elif stage.name == "dit":
        NextDiTConfig.from_shapes(shapes, config)
    elif stage.name == "unet":
        UNetConfig.from_json(stage.config)
    elif stage.name == "vae":
        VaeConfig.from_json(stage.config)
    else:
        EvaClipConfig.from_weights(stage.joined_with(config), shapes)


def _stage_or_none(checkpoint: Checkpoint, name: str) -> Stage | None:
    try:
        return getattr(checkpoint, name)
    except FileNotFoundError:
        return None  # a part that the source does not have; the loader says so when needed


def _metadata(checkpoint: Checkpoint, stage: Stage) -> dict[str, str]:
    values: dict[str, Any] = {"config": dict(stage.config)}
    if stage.name == "llm":
        values["generation_config"] = checkpoint.generation_config
        values["assets"] = dict(checkpoint.assets)
    elif stage.name == "unet":
        values["scheduler_config"] = checkpoint.scheduler_config
    elif stage.name == "vision_tower":
        both = stage.joined_with(checkpoint.config)
        values["config"] = {key: both[key] for key in TOWER_KEYS if key in both}
    return {key: json.dumps(value) for key, value in values.items()}


def _published_tower(folder: Path) -> Part:
    """The tower as it is published: a pickle, of which only tensors are taken.

    Raises: ValueError if the file holds anything else, or no tower.
    """
    path = folder / TOWER_BIN
    try:
        weights = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} holds more than tensors, or is damaged ({error}). It was not loaded, for it "
            "could run code. Download the published file again."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(f"{path} is no list of named weights. Download the published file again.")
    configs = [read_json(file) for file in sorted(folder.glob("*.json"))]
    config = next((config for config in configs if "vision_cfg" in config), {})
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    EvaClipConfig.from_weights(config, shapes)
    return Part("vision_tower", weights, {"config": json.dumps(config)})


def _refuse_quantised(parts: list[Part], weight_dtype: str) -> None:
    """Quantised numbers are not rounded again. Raises ValueError if a part holds some."""
    for part in parts:
        if weight_dtype != KEEP and any(name.endswith(MARK) for name in part.weights):
            raise ValueError(
                f"the weights of {part.name} are quantised already, expected the original ones. "
                f"Convert the original checkpoint to {weight_dtype}."
            )


def _change(part: Part, weight_dtype: str) -> Change | None:
    """What becomes of the weights of a part."""
    if weight_dtype == KEEP:
        return None
    if weight_dtype in FORMATS:
        config = json.loads(part.metadata["config"])
        tied = part.name == "llm" and TextConfig.from_dict(config).tied_head
        return Quantizer(part.name, weight_dtype, tied)
    return Cast(part.name, FP8)


def main(arguments: list[str]) -> None:
    """The command line; an error ends it with a message and status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m blip3u_core.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="a published checkpoint or tower folder")
    parser.add_argument("target", type=Path, help="the folder to make")
    parser.add_argument("--weight-dtype", choices=WEIGHT_DTYPES, default=KEEP)
    options = parser.parse_args(arguments)
    total = sum(part.num_bytes for part in parts_of(options.source))
    with tqdm(total=total, unit="B", unit_scale=True, desc="read") as bar:
        written = convert(options.source, options.target, options.weight_dtype, bar.update)
    for path in written:
        tqdm.write(f"{path} {path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1:])
