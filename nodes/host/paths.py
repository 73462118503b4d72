"""Where weights lie: checkpoints in `models/blip3u`, vision towers in `models/clip_vision`."""

import json
from dataclasses import dataclass
from pathlib import Path

import folder_paths

BUILT_IN = "blip3u-tiny (built-in)"
BUILT_IN_FOLDER = Path(__file__).resolve().parents[2] / "models" / "blip3u-tiny"

CHECKPOINT_FOLDERS = "blip3u"  # the host's name for them, also the key in extra_model_paths.yaml
TOWER_FOLDERS = "clip_vision"
IN_CHECKPOINT = " (in checkpoint)"

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True)
class VisionTowerPlace:
    """A tower is a folder or file of its own, or a part of a checkpoint folder."""

    path: Path
    inside_checkpoint: bool


def register_model_folders() -> None:
    """Tell the host of `models/blip3u`; folders of extra_model_paths.yaml stay in front."""
    folder_paths.add_model_folder_path(
        CHECKPOINT_FOLDERS, str(Path(folder_paths.models_dir) / CHECKPOINT_FOLDERS)
    )


def checkpoint_names() -> list[str]:
    """The built-in model, then every folder with files in it under the searched folders."""
    return [BUILT_IN, *_checkpoint_folders()]


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint. Raises FileNotFoundError that says where was looked."""
    if name == BUILT_IN:
        if BUILT_IN_FOLDER.is_dir():
            return BUILT_IN_FOLDER
        raise FileNotFoundError(
            f"the built-in model is missing: {BUILT_IN_FOLDER} does not exist. Install this node "
            "pack again, or choose another checkpoint."
        )
    found = _checkpoint_folders().get(name)
    if found is None:
        raise FileNotFoundError(
            f"there is no checkpoint {name!r}. Searched: {_searched(CHECKPOINT_FOLDERS)}. Put the "
            "published folder there, unchanged (config.json, model*.safetensors, tokenizer files, "
            f"diffusion-decoder/), and press R to refresh. Found so far: {checkpoint_names()}."
        )
    return found


def vision_tower_names() -> list[str]:
    """Towers inside checkpoints (the built-in one first), then those in `models/clip_vision`."""
    return list(_vision_towers())


def find_vision_tower(name: str) -> VisionTowerPlace:
    """The place of a tower. Raises FileNotFoundError that says where was looked."""
    towers = _vision_towers()
    if name not in towers:
        raise FileNotFoundError(
            f"there is no vision tower {name!r}. Searched: {_searched(TOWER_FOLDERS)} and the "
            f"checkpoints in {_searched(CHECKPOINT_FOLDERS)}. Put there a folder with "
            "model.safetensors and its JSON config, or one converted .safetensors file (python -m "
            f"blip3u_core.convert), and press R to refresh. Found so far: {list(towers)}."
        )
    return towers[name]


def _checkpoint_folders() -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for folder in _subfolders(CHECKPOINT_FOLDERS):
        if any(entry.is_file() for entry in folder.iterdir()):
            folders.setdefault(folder.name, folder)
    return folders


def _vision_towers() -> dict[str, VisionTowerPlace]:
    towers = {BUILT_IN: VisionTowerPlace(BUILT_IN_FOLDER, inside_checkpoint=True)}
    for name, folder in _checkpoint_folders().items():
        if _holds_vision_tower(folder):
            towers[name + IN_CHECKPOINT] = VisionTowerPlace(folder, inside_checkpoint=True)
    for folder in _subfolders(TOWER_FOLDERS):
        if any(folder.glob("*.safetensors")) and any(folder.glob("*.json")):
            towers.setdefault(folder.name, VisionTowerPlace(folder, inside_checkpoint=False))
    for root in _existing(TOWER_FOLDERS):
        for file in sorted(root.glob("*.safetensors")):
            if "config" in _header(file).get("__metadata__", {}):
                towers.setdefault(file.name, VisionTowerPlace(file, inside_checkpoint=False))
    return towers


def _holds_vision_tower(folder: Path) -> bool:
    """Whether a checkpoint has a tower, read from an index or headers alone."""
    if (folder / "vision_tower.safetensors").is_file():
        return True
    indices = list(folder.glob("*.safetensors.index.json"))
    if indices:
        return any("gen_vision_tower." in index.read_text("utf-8", "replace") for index in indices)
    files = folder.glob("model*.safetensors")
    return any("gen_vision_tower." in key for file in files for key in _header(file))


def _header(file: Path) -> dict:
    """The header of a safetensors file; {} for a broken one, which says so when it is loaded."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > MAX_HEADER_BYTES:
            return {}
        try:
            header = json.loads(stream.read(size))
        except ValueError:
            return {}
    return header if isinstance(header, dict) else {}


def _existing(kind: str) -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(kind) if Path(root).is_dir()]


def _subfolders(kind: str) -> list[Path]:
    folders = [folder for root in _existing(kind) for folder in sorted(root.iterdir())]
    return [folder for folder in folders if folder.is_dir() and not folder.name.startswith(".")]


def _searched(kind: str) -> str:
    return ", ".join(folder_paths.get_folder_paths(kind))
