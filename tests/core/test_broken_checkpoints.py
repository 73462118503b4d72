"""Broken checkpoint folders, used by every stage: a clear error, or nothing that differs.

A sample of tests/fuzz/broken.py, which `python tests/fuzz/broken_checkpoints.py` runs whole.
"""

import json
import shutil
from pathlib import Path

import pytest

from blip3u_core.features.eva_clip import EvaClipConfig
from blip3u_core.weights.checkpoint import open_checkpoint, open_vision_tower
from blip3u_core.weights.reader import read_header
from fuzz.broken import all_broken, sample
from fuzz.folders import Broken, make_bases
from fuzz.judge import Outcome, judge, outcomes

TOWER = Path(__file__).parents[1] / "golden" / "oracle" / "eva_clip_vision_tower"
STEP = 79  # one in so many of about 1600; a prime meets all kinds


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module")
def expected(bases: Path) -> dict[str, Outcome]:
    found = {layout.name: outcomes(layout) for layout in bases.iterdir()}
    assert not [error for _, errors in found.values() for error in errors]
    return {name: results for name, (results, _) in found.items()}


def test_all_are_named_apart() -> None:
    names = [broken.name for broken in all_broken()]
    assert len(names) > 1500
    assert len(names) == len(set(names))


@pytest.mark.parametrize("broken", sample(all_broken(), STEP), ids=lambda broken: broken.name)
def test_it_is_told(
    broken: Broken, bases: Path, expected: dict[str, Outcome], tmp_path: Path
) -> None:
    verdict = judge(broken.make(bases, tmp_path / "broken"), expected[broken.layout])
    assert verdict.verdict in ("clear", "same"), verdict


def test_whoever_may_not_read_is_told(monkeypatch: pytest.MonkeyPatch, bases: Path) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    checkpoint = open_checkpoint(bases / "published")
    monkeypatch.setattr(Path, "open", refuse)
    for read in (lambda: checkpoint.dit, lambda: checkpoint.assets["tokenizer.json"]):
        with pytest.raises(
            ValueError, match=r"cannot be read \(Permission denied\).* Let the user"
        ):
            read()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match="cannot be read"):
        open_checkpoint(bases / "published")


def tower_config(path: Path) -> EvaClipConfig:
    tower = open_vision_tower(path)
    return EvaClipConfig.from_weights(tower.config, tower.shapes())


@pytest.mark.parametrize("text", ['{"vision_cfg": null}', "null", "[]", '{"vision_cfg": 5}'])
def test_a_tower_with_an_odd_config_is_told(text: str, tmp_path: Path) -> None:
    shutil.copy(TOWER / "model.safetensors", tmp_path)
    (tmp_path / "tower.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=r"head_width|vision_cfg|JSON object"):
        tower_config(tmp_path)


def test_headers_are_those_of_the_library(bases: Path) -> None:
    from safetensors import safe_open

    path = bases / "converted" / "llm.safetensors"
    infos, metadata = read_header(path)
    with safe_open(path, "pt") as file:
        assert set(infos) == set(file.keys())
        assert metadata == file.metadata()
        assert json.loads(metadata["config"])["n_query"] == 9
