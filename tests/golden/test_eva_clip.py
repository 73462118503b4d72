"""EVA-CLIP against the reference: preprocessing, patch features, pooled features.

Limits: the pixels are equal; features measured 5e-6 off,
limit 1e-5 (the golden set suggests 2e-5).
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from blip3u_core.features.eva_clip import EvaClip, EvaClipConfig, crop_pictures, stretch_pictures

ORACLE = Path(__file__).parent / "oracle"
TOWER = ORACLE / "eva_clip_vision_tower"


@pytest.fixture(scope="module")
def tower():
    weights = load_file(TOWER / "model.safetensors")
    config = json.loads((TOWER / "eva-clip-tiny-A.json").read_text())
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    model = EvaClip(EvaClipConfig.from_weights(config, shapes), device="meta")
    model.load_state_dict({name: w.float() for name, w in weights.items()}, assign=True)
    return model.eval()


@pytest.fixture(scope="module")
def golden():
    return load_file(ORACLE / "goldens" / "eva.safetensors")


@pytest.fixture(scope="module")
def reconstruct():
    return load_file(ORACLE / "goldens" / "reconstruct.safetensors")


def test_crop_equals_the_reference_preprocessing(golden):
    pixels = crop_pictures(golden["img0.uint8"][None] / 255, 112)
    assert_close(pixels, golden["img0.pixels"], atol=1e-6, rtol=0)


def test_squash_equals_the_reconstruction_preprocessing(reconstruct):
    pixels = stretch_pictures(reconstruct["uint8"][None] / 255, 112)
    assert_close(pixels[..., ::7, ::7], reconstruct["pixels_every7th"], atol=1e-6, rtol=0)


@torch.no_grad()
def test_features_equal_the_reference(tower, golden):
    patches = tower(golden["img0.pixels"])
    assert_close(patches, golden["img0.features"], atol=1e-5, rtol=0)
    assert_close(tower.pool(patches), golden["img0.pooled"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_picture_and_its_negative_equal_the_reference(tower, reconstruct):
    pixels = stretch_pictures(reconstruct["uint8"][None] / 255, tower.config.image_size)
    features = tower.clip_features(torch.cat([pixels, tower.null_pixels(pixels)]))
    tokens = features.flatten(2).transpose(1, 2)
    assert_close(tokens, reconstruct["prompt_embeds"], atol=1e-5, rtol=0)


def test_published_size_takes_every_key():
    manifest = json.loads((ORACLE / "manifests" / "manifest_eva_clip_e_plus.json").read_text())
    expected = {name: tuple(shape) for name, (shape, _) in manifest["keys"].items()}
    config = EvaClipConfig.from_weights(manifest["config"], expected)
    model = EvaClip(config, device="meta")
    assert {name: tuple(w.shape) for name, w in model.state_dict().items()} == expected
    assert sum(w.numel() for w in model.parameters()) == manifest["total_parameters"]
    assert (config.num_patches, config.grid, config.num_heads) == (32, 8, 16)
