"""A checkpoint on disk and its stages: LLM, DiT, decoder UNet, VAE, vision tower.

Two layouts are read through the same class: the published folder, and the converted one, where
each stage is one safetensors file with its JSON in the metadata (`convert.py` writes it).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from .config import STRICT, CheckpointConfig, feature_grid, read_config, read_value
from .json_files import FileContent, parse_json, read_json, read_text, source_of
from .reader import TensorInfo, has_weights, scan_weights
from .sizes import shape_of
from .stage import Stage

STAGES = ("llm", "dit", "unet", "vae", "vision_tower")
DECODER_FOLDER = "diffusion-decoder"
TOWER_FOLDERS = ("vision_tower", "eva_clip_vision_tower")
TOWER_KEYS = ("vision_cfg", "gen_vision_tower", "gen_pooling")  # what tells of a tower in a config
ASSETS = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)

# Published names -> (stage, name in the stage); the first prefix that fits counts.
PUBLISHED_NAMES = (
    ("model.dit.model.", "dit", ""),
    ("model.gen_vision_tower.vision_tower.model.", "vision_tower", ""),
    ("model.gen_vision_tower.vision_tower.", "vision_tower", ""),
    ("model.gen_vision_tower.", "vision_tower", ""),
    ("model.latent_queries", "llm", "latent_queries"),
    ("model.language_model.", "llm", "model."),  # as saved by transformers from 4.52 on
    ("model.visual.", "llm", "visual."),
)
# Left over from training and used by nothing that the published pipeline does.
UNUSED_NAMES = (
    "model.dit.vae.",
    "model.down_projector.",
    "model.mm_projector.",
    "model.gen_projector.",
    "model.image_newline",
)


_TEXTS = TypeAdapter(dict[str, str], config=STRICT)


class Checkpoint:
    """A folder of weights; made by `open_checkpoint`. A stage is looked up when first asked for.

    `llm`, `dit`, `unet`, `vae` raise FileNotFoundError if the folder lacks that part and
    ValueError if the part is broken; `vision_tower` is None where there is none.
    """

    def __init__(self, path: Path):
        self.path = path
        self.name = path.name

    @cached_property
    def converted(self) -> bool:
        """Whether the stages lie in one file each, instead of in the published layout."""
        stage_files = any(has_weights(self.path, name) for name in STAGES)
        return stage_files and not has_weights(self.path, "model")

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json, of the language model and of the whole."""
        if not self.converted:
            return read_json(self.path / "config.json")
        first = next(name for name in STAGES if has_weights(self.path, name))
        return _metadata_json(self._converted_stage(first), "config")

    @cached_property
    def declared(self) -> CheckpointConfig:
        """What config.json says of the whole checkpoint; raises ValueError for a bad value."""
        return read_config(CheckpointConfig, self.config, f"config.json of {self.path}")

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """generation_config.json, empty if there is none."""
        if self.converted:
            return _metadata_json(self.llm, "generation_config")
        path = self.path / "generation_config.json"
        return read_json(path) if _is_there(path) else {}

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """scheduler_config.json of the decoder."""
        if self.converted:
            return _metadata_json(self.unet, "scheduler_config")
        return read_json(self.path / DECODER_FOLDER / "scheduler" / "scheduler_config.json")

    @cached_property
    def assets(self) -> Mapping[str, str]:
        """Texts of the tokenizer and of the image processor, by file name."""
        if self.converted:
            assets = _metadata_json(self.llm, "assets")
            return FileContent(read_value(_TEXTS, dict(assets), assets.source), assets.source)
        return _TextFiles(self.path)

    @property
    def num_queries(self) -> int:
        """Q, the number of latent queries."""
        return self.llm.shapes()["latent_queries"][1]

    @property
    def feature_grid(self) -> int:
        """Side g of the grid of CLIP features; g * g = Q."""
        return feature_grid(self.config)

    @cached_property
    def llm(self) -> Stage:
        """Language model with vision encoder and latent queries."""
        stage = self._stage("llm")
        if "latent_queries" not in stage.tensors:
            raise ValueError(
                f"{stage.source} has no model.latent_queries: it is a plain vision-language "
                "model. Use a BLIP3-U checkpoint, which also holds the queries."
            )
        self._check_queries(stage)
        return stage

    @cached_property
    def dit(self) -> Stage:
        """The diffusion transformer from visual tokens to CLIP features."""
        stage = self._stage("dit")
        beside = None if self.converted else self._model_stages.get("llm")
        if beside is not None and "latent_queries" in beside.tensors:
            self._check_queries(beside)
        return stage

    def _check_queries(self, llm: Stage) -> None:
        """The grid that the DiT draws on is that of the queries which it was trained with."""
        found = shape_of(llm.shapes(), "latent_queries", 3, "BLIP3-U language model")[1]
        said = self.declared.num_queries
        if said not in (None, found):
            raise ValueError(
                f"{source_of(self.config, 'config.json')} says n_query {said}, but the weights "
                f"beside it have {found} latent queries. Config and weights must come from the "
                "same checkpoint: download both again."
            )

    @cached_property
    def unet(self) -> Stage:
        """The decoder's UNet."""
        return self._stage("unet")

    @cached_property
    def vae(self) -> Stage:
        """The decoder's VAE."""
        return self._stage("vae")

    @cached_property
    def vision_tower(self) -> Stage | None:
        """EVA-CLIP, or None if the checkpoint holds none."""
        if self.converted:
            there = has_weights(self.path, "vision_tower")
            return self._converted_stage("vision_tower") if there else None
        for folder in TOWER_FOLDERS:
            if has_weights(self.path / folder, "model"):
                return open_vision_tower(self.path / folder)
        return self._model_stages.get("vision_tower")

    def _stage(self, name: str) -> Stage:
        if self.converted:
            stage = self._converted_stage(name)
        elif name in ("unet", "vae"):
            stage = self._decoder_stage(name)
        elif name in self._model_stages:
            stage = self._model_stages[name]
        else:
            raise FileNotFoundError(
                f"The weights in {self.path} hold no {name}. Use an unchanged BLIP3-U checkpoint."
            )
        return stage

    @cached_property
    def _model_stages(self) -> dict[str, Stage]:
        tensors, metadata = scan_weights(self.path, "model")
        parts: dict[str, dict[str, TensorInfo]] = {}
        for key, info in tensors.items():
            if not key.startswith(UNUSED_NAMES):
                stage, name = published_name(key)
                parts.setdefault(stage, {})[name] = info
        return {
            name: Stage(name, self.config, part, self.path, metadata)
            for name, part in parts.items()
        }

    def _decoder_stage(self, name: str) -> Stage:
        folder = self.path / DECODER_FOLDER / name
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{self.path} has no {DECODER_FOLDER}/{name}: this checkpoint can write and make "
                f"CLIP features, but not pictures. Download the folder {DECODER_FOLDER} into it."
            )
        tensors, metadata = scan_weights(folder, "diffusion_pytorch_model")
        return Stage(name, read_json(folder / "config.json"), tensors, folder, metadata)

    def _converted_stage(self, name: str) -> Stage:
        if not has_weights(self.path, name):
            raise FileNotFoundError(
                f"{self.path} has no {name}.safetensors. Convert that stage of the published "
                "checkpoint too, or choose another checkpoint."
            )
        return _file_stage(self.path, name, name)


class _TextFiles(Mapping[str, str]):
    """The text files of a folder, read when asked for; raises ValueError for an unreadable one."""

    def __init__(self, folder: Path):
        self.source = str(folder)
        self._files = {name: folder / name for name in ASSETS if _is_there(folder / name)}

    def __getitem__(self, name: str) -> str:
        return read_text(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _is_there(path: Path) -> bool:
    """Whether a folder holds something of this name, be it a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint folder; costs a directory listing and one JSON file.

    Raises: FileNotFoundError if the folder or its weights are missing, ValueError if config.json
        is broken.
    """
    path = Path(path)
    checkpoint = Checkpoint(path)
    if not checkpoint.converted:
        if not has_weights(path, "model"):
            scan_weights(path, "model")  # says what is missing, or that there are only pickles
        _ = checkpoint.declared
    return checkpoint


def open_vision_tower(path: Path) -> Stage:
    """Open an EVA-CLIP tower: a folder with `model.safetensors` and its JSON config, or one file.

    Raises: FileNotFoundError if weights or config are missing, ValueError if they are broken.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _file_stage(path.parent, path.name.removesuffix(".safetensors"), "vision_tower")
    if not has_weights(path, "model"):
        scan_weights(path, "model")
    tensors, metadata = scan_weights(path, "model")
    config = tower_config(path)
    if config is None:
        raise FileNotFoundError(
            f"{path} has no JSON file with a vision_cfg. Put the tower's config (such as "
            "eva-clip-E-14-plus.json) beside its weights."
        )
    return Stage("vision_tower", config, tensors, path, metadata)


def tower_config(folder: Path) -> FileContent | None:
    """The JSON file of a folder that describes a tower. Raises ValueError for a broken one."""
    files = [file for file in sorted(folder.glob("*.json")) if "index" not in file.name]
    return next((config for config in map(read_json, files) if "vision_cfg" in config), None)


def published_name(key: str) -> tuple[str, str]:
    """The stage that a weight of the published layout belongs to, and its name there."""
    for prefix, stage, start in PUBLISHED_NAMES:
        if key.startswith(prefix):
            return stage, start + key.removeprefix(prefix)
    return "llm", key


def _file_stage(folder: Path, base: str, name: str) -> Stage:
    tensors, metadata = scan_weights(folder, base)
    stage = Stage(name, {}, tensors, folder / f"{base}.safetensors", metadata)
    return replace(stage, config=_metadata_json(stage, "config"))


def _metadata_json(stage: Stage, key: str) -> FileContent:
    text = stage.metadata.get(key)
    if text is None:
        raise ValueError(
            f"{stage.source} has no {key!r} in its metadata. Make it with `python -m "
            "blip3u_core.convert`, or use the published folder."
        )
    return parse_json(text, f"{stage.source}, {key} in its metadata,")
