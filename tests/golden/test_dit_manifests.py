"""The published sizes: every key taken with its shape, on the meta device."""

import json
from pathlib import Path

import pytest
import torch

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.nextdit import NextDiT
from blip3u_core.weights.reader import match_keys

MANIFESTS = Path(__file__).parent / "oracle" / "manifests"
PREFIX = "model.dit.model."


@pytest.mark.parametrize(
    ("name", "condition_dim", "billions"), [("8b", 3584, 1.365), ("4b", 2048, 1.362)]
)
def test_every_key_fits(name, condition_dim, billions):
    manifest = json.loads((MANIFESTS / f"manifest_{name}.json").read_text())
    shapes = {
        key.removeprefix(PREFIX): tuple(shape)
        for key, (shape, _) in manifest["keys"].items()
        if key.startswith(PREFIX)
    }
    config = NextDiTConfig.from_shapes(shapes, manifest["config"])
    assert (config.condition_dim, config.ffn_dim, config.input_size) == (condition_dim, 4864, 8)
    dit = NextDiT(config, dtype=torch.bfloat16, device=torch.device("meta"))
    match_keys({key: p.shape for key, p in dit.state_dict().items()}, shapes, name)
    assert round(sum(p.numel() for p in dit.parameters()) / 1e9, 3) == billions
