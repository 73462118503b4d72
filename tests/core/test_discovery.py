"""What is found in the folders of models, whatever else lies there."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blip3u_core.weights import discovery
from blip3u_core.weights.checkpoint import open_checkpoint, open_vision_tower
from blip3u_core.weights.discovery import (
    Found,
    find_checkpoints,
    find_inner_towers,
    find_vision_towers,
    fingerprint,
)

ORACLE = Path(__file__).parents[1] / "golden" / "oracle"
NO_TEXT = "bad\udcff"  # a name with a byte that is no UTF-8
TOWER = ORACLE / "eva_clip_vision_tower"


def checkpoint(folder: Path) -> Path:
    """Names are all that discovery looks at."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    save_file({"lm_head.weight": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "diffusion-decoder" / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "diffusion-decoder" / "unet" / "config.json").write_text("{}")
    return folder


def tower(folder: Path) -> Path:
    return Path(shutil.copytree(TOWER, folder))


def names(root: Path) -> list[str]:
    return list(find_checkpoints([root]).places)


def reasons(found: Found) -> str:
    return "\n".join(found.passed_over.values())


def test_checkpoints_lie_as_people_keep_them(tmp_path: Path) -> None:
    root = tmp_path / "blip3u"
    checkpoint(root / "plain")
    checkpoint(root / "BLIP3o" / "BLIP3o-Model-4B")
    (root / "BLIP3o" / "README.md").write_text("mine")
    cache = root / "models--BLIP3o--BLIP3o-Model-8B"
    for revision in ("0123abc", "9999fff"):
        checkpoint(cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("9999fff")
    (cache / "blobs").mkdir()
    (cache / "blobs" / "0a0a").write_bytes(b"weights")
    checkpoint(root / "cache" / "models--org--one" / "snapshots" / "5")
    (root / "linked").symlink_to(root / "plain", target_is_directory=True)
    (root / ".locks").mkdir()
    (root / "empty").mkdir()
    found = find_checkpoints([root])
    assert found.places == {
        "BLIP3o/BLIP3o-Model-4B": root / "BLIP3o" / "BLIP3o-Model-4B",
        "BLIP3o/BLIP3o-Model-8B": cache / "snapshots" / "9999fff",
        "BLIP3o/BLIP3o-Model-8B@0123abc": cache / "snapshots" / "0123abc",
        "cache/org/one": root / "cache" / "models--org--one" / "snapshots" / "5",
        "linked": root / "linked",
        "plain": root / "plain",
    }
    assert found.passed_over == {}
    checkpoint(root)
    assert find_checkpoints([root]).places["blip3u"] == root
    assert len(names(root)) == 7  # and its diffusion-decoder is not one


def test_what_is_not_listed_is_told(tmp_path: Path) -> None:
    root = tmp_path / "blip3u"
    root.mkdir()
    (root / "gone").symlink_to(tmp_path / "not-mounted")
    (root / "loop").symlink_to(root / "loop")
    (root / "lonely.gguf").write_bytes(b"")
    (root / "notes").mkdir()
    (root / "notes" / "read me.txt").write_text("nothing here")
    checkpoint(root / NO_TEXT)
    (root / f"{NO_TEXT} gone").symlink_to("nothing")
    found = find_checkpoints([root])
    assert found.places == {}
    assert {path.name for path in found.passed_over} == {
        "gone",
        "loop",
        "blip3u",  # lonely.gguf
        "notes",
        NO_TEXT,
        f"{NO_TEXT} gone",
    }
    assert reasons(found).encode()  # it can be written into a log
    deep = checkpoint(root / "1" / "2" / "3" / "4" / "5").parent
    assert "was not looked into" in find_checkpoints([root]).passed_over[deep]
    checkpoint(tmp_path / "second" / "mine")
    checkpoint(root / "mine")
    found = find_checkpoints([root, tmp_path / "second"])
    assert found.places == {"mine": root / "mine"}
    assert "has the same name as" in found.passed_over[tmp_path / "second" / "mine"]


def test_what_cannot_be_read_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "locked", "half-locked"):
        checkpoint(tmp_path / name)

    def refusing(function: Callable, name: str) -> Callable:
        def refuse(self: Path, *args: object, **options: object) -> object:
            if name in self.parts:
                raise PermissionError(13, "Permission denied", str(self))
            return function(self, *args, **options)

        return refuse

    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir, "locked"))
    monkeypatch.setattr(Path, "stat", refusing(Path.stat, "half-locked"))
    found = find_checkpoints([tmp_path])
    assert "good" in found.places
    assert "Permission denied" in found.passed_over[tmp_path / "locked"]
    assert "Permission denied" in found.passed_over[tmp_path / "half-locked"]


def test_a_broken_checkpoint_is_listed_and_explained_when_opened(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").symlink_to(tmp_path / "gone.safetensors")
    assert names(tmp_path) == ["mine"]
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing from"):
        open_checkpoint(tmp_path / "mine")


def test_a_whole_disk_behind_a_link_is_not_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MAX_FOLDERS", 20)
    for index in range(30):
        (tmp_path / "disk" / f"{index:02}").mkdir(parents=True)
    root = checkpoint(tmp_path / "blip3u" / "a").parent
    (root / "b").symlink_to(tmp_path / "disk")
    found = find_checkpoints([root])
    assert list(found.places) == ["a"]
    assert "more than 20 folders" in found.passed_over[root]
    (root / "up").symlink_to(root)
    assert not [name for name in names(root) if name.startswith("up/")]


@pytest.mark.parametrize("inside", ["vision_tower", "eva_clip_vision_tower"])
def test_a_tower_inside_a_checkpoint_is_listed(tmp_path: Path, inside: str) -> None:
    """The reader and the list go by one rule."""
    folder = Path(shutil.copytree(ORACLE / "checkpoint", tmp_path / "mine"))
    checkpoints = find_checkpoints([tmp_path])
    assert find_inner_towers(checkpoints).places == {}
    assert open_checkpoint(folder).vision_tower is None
    tower(folder / inside)
    assert find_inner_towers(checkpoints).places == {"mine": folder}
    assert len(open_checkpoint(folder).vision_tower.tensors) == 40


def test_towers_are_told_from_what_others_keep_there(tmp_path: Path) -> None:
    root = tmp_path / "clip_vision"
    tower(root / "eva")
    tower(root / "BLIP3o" / "eva_clip_vision_tower")
    config = json.dumps({"vision_cfg": {"width": 48}})
    save_file({"a": torch.zeros(1)}, root / "converted.safetensors", {"config": config})
    other = json.dumps({"hidden_size": 1280})
    save_file({"a": torch.zeros(1)}, root / "CLIP-ViT-H.safetensors", {"config": other})
    save_file({"a": torch.zeros(1)}, root / "model.safetensors")
    (root / "CLIP").mkdir()
    save_file({"a": torch.zeros(1)}, root / "CLIP" / "model.safetensors")
    (root / "CLIP" / "config.json").write_text(other)
    found = find_vision_towers([root])
    assert list(found.places) == ["converted.safetensors", "BLIP3o/eva_clip_vision_tower", "eva"]
    assert found.passed_over == {}
    for name in ("eva", "BLIP3o/eva_clip_vision_tower"):
        assert open_vision_tower(found.places[name])
    (root / "gone.safetensors").symlink_to(tmp_path / "not-mounted.safetensors")
    (root / "empty.safetensors").write_bytes(b"")
    (root / "pipe.safetensors").symlink_to("/dev/null")
    (root / "published").mkdir()
    shutil.copy(TOWER / "eva-clip-tiny-A.json", root / "published" / "eva.json")
    (root / "published" / "pytorch_model.bin").write_bytes(b"PK")
    (root / "torn").mkdir()
    save_file({"a": torch.zeros(1)}, root / "torn" / "model.safetensors")
    (root / "torn" / "eva.json").write_text("{")
    again = find_vision_towers([root])
    assert again.places == found.places
    told = {"gone.safetensors", "empty.safetensors", "pipe.safetensors", "published", "torn"}
    assert {path.name for path in again.passed_over} == told
    assert "python -m blip3u_core.convert" in again.passed_over[root / "published"]


def test_the_fingerprint_changes_with_every_file(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "blip3u" / "mine")
    seen = [fingerprint(folder)]
    (folder / "vae.json").symlink_to(tmp_path / "later.json")
    assert fingerprint(folder) == seen[0]  # nothing is there yet
    for path in (
        tmp_path / "later.json",
        folder / "tokenizer.json",
        folder / "diffusion-decoder" / "unet" / "diffusion_pytorch_model.safetensors",
    ):
        path.write_text("1")
        seen.append(fingerprint(folder))
    os.utime(folder / "config.json", ns=(1, 1))
    seen.append(fingerprint(folder))
    (folder / "tokenizer.json").unlink()
    seen.append(fingerprint(folder))
    assert len(set(seen)) == len(seen)
    assert fingerprint(folder) == seen[-1]
    assert fingerprint(tmp_path / "nowhere") == ()


KINDS = ("model", "shards", "pickle", "other", "empty", "gone", "loop", "up", "pipe", "weird")


def grow(folder: Path, chance: random.Random, depth: int) -> None:
    """Something odd in a folder of models."""
    for number in range(chance.randint(1, 4)):
        place, kind = folder / f"{number}{chance.choice('aB .é字')}x", chance.choice(KINDS)
        if depth and chance.random() < 0.4:
            place.mkdir()
            grow(place, chance, depth - 1)
        elif kind == "model":
            checkpoint(place)
        elif kind == "shards":
            place.mkdir()
            (place / "model.safetensors.index.json").write_text(chance.choice(["", "{}", "[]"]))
        elif kind in ("gone", "loop", "up"):
            target = {"gone": folder / "nothing", "loop": place, "up": folder}[kind]
            place.symlink_to(target)
        elif kind == "pipe" and hasattr(os, "mkfifo"):
            os.mkfifo(place.with_suffix(".safetensors"))
        elif kind == "weird":
            place.mkdir()
            (place / "model.safetensors").mkdir()
        else:
            place.mkdir()
            name = {"pickle": "pytorch_model.bin", "other": "notes.md"}.get(kind)
            if name:
                (place / name).write_bytes(b"PK")


@pytest.mark.parametrize("seed", range(25))
def test_odd_trees_keep_what_is_good_and_tell_the_rest(tmp_path: Path, seed: int) -> None:
    grow(tmp_path, random.Random(seed), 3)
    good = checkpoint(tmp_path / "good")
    found = find_checkpoints([tmp_path])
    assert found.places["good"] == good
    whole = {str(path.parent) for path in tmp_path.rglob("config.json") if is_free(path.parent)}
    assert whole <= {str(path) for path in found.places.values()}
    for link in tmp_path.iterdir():
        if link.is_symlink() and not link.exists():
            assert link in found.passed_over
    towers = find_inner_towers(found)
    assert towers.places == {}
    for path in found.places.values():
        if path not in towers.passed_over:
            assert open_checkpoint(path)
    find_vision_towers([tmp_path])


def is_free(folder: Path) -> bool:
    """Whether no part of the path belongs to a checkpoint above it."""
    return "diffusion-decoder" not in folder.parts
