"""Every reader of a checkpoint behind one call: the content of a file goes in.

Whatever the content, a reader gives something usable or raises an error that says what came, what
was expected and what to do; `read` lets only such errors pass, and asserts of all others.
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blip3u_core.decoder.noise_schedule import NoiseSchedule
from blip3u_core.decoder.unet_config import UNetConfig
from blip3u_core.decoder.vae import VaeConfig
from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.eva_clip import EvaClipConfig
from blip3u_core.language.config import (
    DrawingConfig,
    GenerationConfig,
    ImageConfig,
    TextConfig,
    VisionConfig,
    check_layers,
)
from blip3u_core.language.tokenizer import TextTokenizer
from blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint
from blip3u_core.weights.config import CheckpointConfig, read_config
from blip3u_core.weights.json_files import FileContent, parse_json
from blip3u_core.weights.reader import read_header, scan_weights
from fuzz.folders import TINY
from fuzz.judge import is_clear

Content = bytes
TEXTS = ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")


class Known:
    """What is right, for the parts that are not being broken."""

    def __init__(self) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(TINY)
        self.config = self.checkpoint.config
        self.vision = VisionConfig.from_dict(self.config)
        self.shapes = self.checkpoint.llm.shapes()
        self.dit_shapes = self.checkpoint.dit.shapes()
        tower = self.checkpoint.vision_tower
        assert tower is not None
        self.tower_shapes = tower.shapes()
        self.assets: Mapping[str, str] = {name: (TINY / name).read_text("utf-8") for name in TEXTS}


def readers(known: Known) -> dict[str, Callable[[Content], object]]:
    """By the file that is read."""

    def config_json(content: Content) -> None:
        config = parse_json(content, "config.json")
        read_config(CheckpointConfig, config, "config.json")
        vision = VisionConfig.from_dict(config)
        assert TextConfig.from_dict(config).head_dim > 0
        read_config(DrawingConfig, config, "config.json").side(vision, "config.json")
        read_config(GenerationConfig, config, "config.json")
        check_layers(config, known.shapes)
        NextDiTConfig.from_shapes(known.dit_shapes, config)
        assert EvaClipConfig.from_weights(config, known.tower_shapes).grid > 0

    def scheduler(content: Content) -> None:
        schedule = NoiseSchedule.from_json(parse_json(content, "scheduler_config.json"))
        sigmas = schedule.sigmas(1).tolist()
        assert all(map(math.isfinite, sigmas))
        assert sigmas[0] > sigmas[1] == 0

    def unet(content: Content) -> None:
        config = UNetConfig.from_json(parse_json(content, "unet/config.json"))
        assert len(config.heads) == len(config.widths)

    def vae(content: Content) -> None:
        assert VaeConfig.from_json(parse_json(content, "vae/config.json")).factor >= 1

    def generation(content: Content) -> None:
        values = parse_json(content, "generation_config.json")
        read_config(GenerationConfig, values, "generation_config.json")

    return {
        "config.json": config_json,
        "scheduler_config.json": scheduler,
        "unet_config.json": unet,
        "vae_config.json": vae,
        "generation_config.json": generation,
        **text_readers(known),
        "model.safetensors": _in_folder("model.safetensors", read_header),
        "model.safetensors.index.json": _in_folder("model.safetensors.index.json", _scan),
        "dit_shapes.json": lambda content: NextDiTConfig.from_shapes(
            _shapes(content), known.config
        ),
        "tower_shapes.json": lambda content: EvaClipConfig.from_weights(
            known.config, _shapes(content)
        ),
        "language_shapes.json": lambda content: check_layers(known.config, _shapes(content)),
    }


def text_readers(known: Known) -> dict[str, Callable[[Content], object]]:
    """Those of the files that travel as texts."""

    def preprocessor(content: Content) -> None:
        assets = {"preprocessor_config.json": as_text(content)}
        assert ImageConfig.from_assets(assets, known.vision).min_pixels > 0

    def tokenizer(content: Content) -> None:
        assert TextTokenizer({"tokenizer.json": as_text(content)}).num_ids > 0

    def older_tokenizer(name: str) -> Callable[[Content], object]:
        def read(content: Content) -> None:
            assert TextTokenizer({**known.assets, name: as_text(content)}).num_ids > 0

        return read

    return {
        "preprocessor_config.json": preprocessor,
        "tokenizer.json": tokenizer,
        **{name: older_tokenizer(name) for name in TEXTS},
    }


def originals() -> dict[str, Content]:
    """What each reader reads rightly, to begin the breaking from."""
    known, decoder = Known(), TINY / "diffusion-decoder"
    files = {
        "scheduler_config.json": decoder / "scheduler" / "scheduler_config.json",
        "unet_config.json": decoder / "unet" / "config.json",
        "vae_config.json": decoder / "vae" / "config.json",
    }
    shapes = {
        "dit_shapes.json": known.dit_shapes,
        "tower_shapes.json": known.tower_shapes,
        "language_shapes.json": known.shapes,
    }
    found: dict[str, Content] = {name: json.dumps(value).encode() for name, value in shapes.items()}
    index = {"weight_map": {"a": "model-1.safetensors"}}
    header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    found["model.safetensors"] = len(text).to_bytes(8, "little") + text + bytes(4)
    found["model.safetensors.index.json"] = json.dumps(index).encode()
    for name in readers(known):
        if name not in found:
            found[name] = files.get(name, TINY / name).read_bytes()
    return found


def read(reader: Callable[[Content], object], content: Content) -> str | None:
    """The error's text, or None where something was read; another error is the reader's fault."""
    try:
        reader(content)
    except (ValueError, OSError) as error:
        if not is_clear(error):
            raise AssertionError(f"unclear: {type(error).__name__}: {error}") from error
        return str(error)
    return None


def as_text(content: Content) -> str:
    """As `read_text` gives it: what is no UTF-8 is refused there."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("a .json file is not UTF-8 text, expected it") from error


def _in_folder(name: str, use: Callable[[Path], object]) -> Callable[[Content], object]:
    def read(content: Content) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes(content)
            use(Path(folder) / name)

    return read


def _scan(path: Path) -> None:
    scan_weights(path.parent, "model")


def _shapes(content: Content) -> dict[str, tuple[int, ...]]:
    """Shapes as a header may give them: whole numbers, none negative."""
    values: dict[str, Any] = parse_json(content, "shapes.json")
    shapes = {}
    for name, shape in values.items():
        fits = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        shapes[name] = tuple(shape) if fits else ()
    return FileContent(shapes, "model.safetensors")
