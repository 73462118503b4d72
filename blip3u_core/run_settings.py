"""What the commands that draw or answer in bulk share: the model, its settings, their record."""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .atomic_files import write_atomically
from .decoder.solvers import SAMPLER_ORDERS, SCHEDULER_OPTIONS
from .features.flow import item_noise
from .language.context import Context
from .pipeline import Pipeline
from .seeds import item_seed
from .weights.json_files import read_json

BUILT_IN = Path(__file__).parents[1] / "models" / "blip3u-tiny"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHUNK = 1 << 20
DRAW_OPTIONS = (
    "feature_steps",
    "feature_guidance",
    "decoder_steps",
    "decoder_guidance",
    "sampler_name",
    "scheduler",
    "size",
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which checkpoint runs where."""
    parser.add_argument("--checkpoint", type=Path, default=BUILT_IN, help="default: blip3u-tiny")
    parser.add_argument("--vision-tower", type=Path, help="EVA-CLIP, if the checkpoint has none")
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if gpu else "cpu", help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16" if gpu else "fp32")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows that the model takes at once"
    )


def add_draw_options(parser: argparse.ArgumentParser) -> None:
    """How pictures are drawn; what is not given is the checkpoint's own."""
    parser.add_argument("--feature-steps", type=int)
    parser.add_argument("--feature-guidance", type=float)
    parser.add_argument("--decoder-steps", type=int)
    parser.add_argument("--decoder-guidance", type=float)
    parser.add_argument("--sampler-name", choices=SAMPLER_ORDERS, help="of the decoder")
    parser.add_argument("--scheduler", choices=SCHEDULER_OPTIONS, help="of the decoder")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))


def draw_options(options: argparse.Namespace) -> dict[str, Any]:
    """Settings for `Pipeline`, of what was given."""
    given = {name: getattr(options, name) for name in DRAW_OPTIONS}
    if given["size"] is not None:
        given["size"] = tuple(given["size"])
    return {name: value for name, value in given.items() if value is not None}


def model_options(options: argparse.Namespace) -> dict[str, Any]:
    """All that `open_pipeline` wants, as plain values that fit into JSON."""
    tower = options.vision_tower
    return {
        "checkpoint": str(options.checkpoint.resolve()),
        "vision_tower": None if tower is None else str(tower.resolve()),
        "device": options.device,
        "dtype": options.dtype,
    }


def open_pipeline(model: Mapping[str, Any]) -> Pipeline:
    """The pipeline that `model_options` tells of."""
    return Pipeline.from_checkpoint(
        model["checkpoint"], model["device"], DTYPES[model["dtype"]], model["vision_tower"]
    )


def digest_of(*paths: Path) -> str:
    """SHA-256 over names and content of files and folders; hidden files do not count."""
    digest = hashlib.sha256()
    for path in paths:
        folder = path if path.is_dir() else path.parent
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(folder)
            if not file.is_file() or any(part.startswith(".") for part in name.parts):
                continue
            digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as opened:
                while chunk := opened.read(CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def keep_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run, or check that those of the run it goes on with are the same.

    Raises: ValueError, naming what differs.
    """
    wanted = json.loads(json.dumps(settings))
    if not file.exists():
        text = json.dumps(wanted, indent=2, ensure_ascii=False)
        write_atomically(file, lambda opened: opened.write(f"{text}\n".encode()))
        return
    known = read_json(file)
    apart = [
        f"{key} was {known.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted({*known, *wanted})
        if known.get(key) != wanted.get(key)
    ]
    if apart:
        raise ValueError(
            f"{file} is of another run: {'; '.join(apart)}. Expected the same settings to go on. "
            "Give those, or another output folder."
        )


def draw_rows(
    pipeline: Pipeline,
    contexts: Sequence[Context],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
) -> Tensor:
    """Pictures (B, H, W, 3), each drawn with a seed of its own as if alone."""
    options = pipeline.settings(**settings)
    noise = noise_of(seeds, pipeline.feature_shape)
    features = pipeline.features_of(contexts, noise, **settings)
    size = options.size or pipeline.decoder.picture_size
    noise = noise_of(seeds, pipeline.decoder.latent_shape(size))
    return pipeline.decode(features, noise=noise, **settings)


def noise_of(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Noise (B, *shape), item i of seed i."""
    return torch.cat([item_noise(item_seed(seed, 0), 1, shape) for seed in seeds])
