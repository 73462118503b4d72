"""Where weights lie: checkpoints in `models/blip3u`, vision towers in `models/clip_vision`."""

import logging
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ...blip3u_core.weights.discovery import (
    Found,
    find_checkpoints,
    find_inner_towers,
    find_vision_towers,
    fingerprint,
)

BUILT_IN = "blip3u-tiny (built-in)"
BUILT_IN_FOLDER = Path(__file__).resolve().parents[2] / "models" / "blip3u-tiny"

CHECKPOINT_FOLDERS = "blip3u"  # the host's name for them, also the key in extra_model_paths.yaml
TOWER_FOLDERS = "clip_vision"
IN_CHECKPOINT = " (in checkpoint)"


@dataclass(frozen=True)
class VisionTowerPlace:
    """A tower is a folder or file of its own, or a part of a checkpoint folder."""

    path: Path
    inside_checkpoint: bool


def register_model_folders() -> None:
    """Tell the host of `models/blip3u`; folders of extra_model_paths.yaml stay in front.

    What lies there and cannot be listed is said in the log.
    """
    folder_paths.add_model_folder_path(
        CHECKPOINT_FOLDERS, str(Path(folder_paths.models_dir) / CHECKPOINT_FOLDERS)
    )
    checkpoints = _checkpoints()
    for found in (checkpoints, find_inner_towers(checkpoints), _own_towers()):
        for reason in found.passed_over.values():
            logging.warning("BLIP3-U passes over what it cannot list: %s", reason)


def checkpoint_names() -> list[str]:
    """The built-in model, then the checkpoints under the searched folders."""
    return [BUILT_IN, *_checkpoints().places]


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint. Raises FileNotFoundError that says where was looked."""
    if name == BUILT_IN:
        if BUILT_IN_FOLDER.is_dir():
            return BUILT_IN_FOLDER
        raise FileNotFoundError(
            f"the built-in model is missing: {BUILT_IN_FOLDER} does not exist. Install this node "
            "pack again, or choose another checkpoint."
        )
    found = _checkpoints()
    if name not in found.places:
        raise FileNotFoundError(
            f"there is no checkpoint {name!r}. Searched: {_searched(CHECKPOINT_FOLDERS)}. Put the "
            "published folder there, unchanged (config.json, model*.safetensors, tokenizer files, "
            f"diffusion-decoder/), and press R to refresh. Found so far: {checkpoint_names()}."
            f"{_reason(found, CHECKPOINT_FOLDERS, name)}"
        )
    return found.places[name]


def checkpoint_fingerprint(name: str) -> tuple:
    """Changes when a file of the checkpoint does, or comes or goes."""
    place = BUILT_IN_FOLDER if name == BUILT_IN else _checkpoints().places.get(name)
    return () if place is None else fingerprint(place)


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
            f"{_reason(_own_towers(), TOWER_FOLDERS, name)}"
        )
    return towers[name]


def vision_tower_fingerprint(name: str) -> tuple:
    """Changes when a file of the tower does, or comes or goes."""
    place = _vision_towers().get(name)
    return () if place is None else fingerprint(place.path)


def _checkpoints() -> Found:
    return find_checkpoints(_existing(CHECKPOINT_FOLDERS))


def _own_towers() -> Found:
    return find_vision_towers(_existing(TOWER_FOLDERS))


def _vision_towers() -> dict[str, VisionTowerPlace]:
    towers = {BUILT_IN: VisionTowerPlace(BUILT_IN_FOLDER, inside_checkpoint=True)}
    for name, folder in find_inner_towers(_checkpoints()).places.items():
        towers[name + IN_CHECKPOINT] = VisionTowerPlace(folder, inside_checkpoint=True)
    for name, place in _own_towers().places.items():
        towers.setdefault(name, VisionTowerPlace(place, inside_checkpoint=False))
    return towers


def _reason(found: Found, kind: str, name: str) -> str:
    """Why something of this name, which lies there, is not listed."""
    reasons = [found.passed_over.get(root / name) for root in _existing(kind)]
    return "".join(f" {reason}" for reason in reasons if reason)


def _existing(kind: str) -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(kind) if Path(root).is_dir()]


def _searched(kind: str) -> str:
    return ", ".join(folder_paths.get_folder_paths(kind))
