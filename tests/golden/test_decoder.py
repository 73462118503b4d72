"""The decoder without a host against the reference: UNet, VAE, Euler tables, whole chains.

Limits: measured 2e-6 for the UNet, 5e-7 for the VAE, 4e-5 for latents that reach 60, 2e-6 for
pictures; the golden set suggests 1e-3 for latents and 1e-4 for pictures.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from blip3u_core.decoder.decoder import Decoder, UNetCondition, integrate_guided_diffusion
from blip3u_core.decoder.vae import Vae, VaeConfig
from blip3u_core.weights.checkpoint import open_checkpoint

ORACLE = Path(__file__).parent / "oracle"
SIZE = (32, 32)
LATENT_LIMIT = {"atol": 1e-4, "rtol": 0}
PICTURE_LIMIT = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def decoder():
    return Decoder.from_checkpoint(open_checkpoint(ORACLE / "checkpoint"), "cpu", torch.float32)


@pytest.fixture(scope="module")
def chain():
    return load_file(ORACLE / "goldens" / "chain.safetensors")


def condition(tokens):
    grid = round(tokens.shape[1] ** 0.5)
    return UNetCondition.of_features(tokens.transpose(1, 2).unflatten(2, (grid, grid)), SIZE)


@torch.no_grad()
def test_unet_equals_the_reference(decoder, chain):
    ids = chain["unet.time_ids"].view(2, 6)
    tokens = chain["unet.encoder_hidden_states"]
    added = {"text_embeds": tokens.mean(dim=1), "time_ids": ids}
    out = decoder.unet(chain["unet.sample"], 801.0, tokens, added_cond_kwargs=added).sample
    assert_close(out, chain["unet.out_t801"], atol=1e-5, rtol=0)


def test_vae_equals_the_reference(decoder, chain):
    picture = decoder.to_pictures(chain["vae.latents"])
    assert_close(picture, chain["vae.image"], **PICTURE_LIMIT)


@pytest.mark.parametrize("steps", [10, 50])
def test_euler_tables_are_exact(decoder, chain, steps):
    """To one unit in the last place, by which powers differ between builds of torch."""
    sigmas = decoder.schedule.sigmas(steps)
    assert_close(sigmas, chain[f"euler{steps}.sigmas"], atol=0, rtol=2e-7)
    assert torch.equal(decoder.schedule.timesteps(steps), chain[f"euler{steps}.timesteps"])
    scale = decoder.schedule.start_scale(float(sigmas[0]))
    assert scale == pytest.approx(float(chain[f"euler{steps}.init_noise_sigma"]), rel=1e-7)


@pytest.mark.parametrize(("case", "steps"), [("c10", 10), ("c10_second", 10), ("c50", 50)])
def test_chain_equals_the_reference(decoder, chain, case, steps):
    tokens = chain[f"{case}.prompt_embeds"]
    positive, negative = condition(tokens[:1]), condition(tokens[1:])
    assert_close(torch.cat([positive.pooled, negative.pooled]), chain[f"{case}.text_embeds"])
    assert (positive + negative).time_ids.flatten().tolist() == chain[f"{case}.time_ids"].tolist()
    latents = decoder.sample(positive, negative, chain[f"{case}.latent_noise"], steps)
    assert_close(latents, chain[f"{case}.latents"], **LATENT_LIMIT)
    picture = decoder.to_pictures(latents)
    assert_close(picture, chain[f"{case}.image"], **PICTURE_LIMIT)
    assert torch.equal((picture[0] * 255).round().to(torch.uint8), chain[f"{case}.image_uint8"])


@torch.no_grad()
def test_every_step_equals_the_reference(decoder, chain):
    tokens, noise = chain["c10.prompt_embeds"], chain["c10.latent_noise"]
    sigmas, timesteps = decoder.schedule.sigmas(10), decoder.schedule.timesteps(10)
    predict = decoder.predictor(condition(tokens[:1]), condition(tokens[1:]), sigmas, timesteps)
    x = noise * decoder.schedule.start_scale(float(sigmas[0]))
    for step in range(10):
        x = integrate_guided_diffusion(
            lambda x, _, step=step: predict(x, step), noise, x, sigmas[step : step + 2], 3.0
        )
        assert_close(x, chain["c10.steps"][step], **LATENT_LIMIT)


def test_reconstruction_equals_the_reference(decoder):
    golden = load_file(ORACLE / "goldens" / "reconstruct.safetensors")
    tokens = golden["prompt_embeds"]
    positive, negative = condition(tokens[:1]), condition(tokens[1:])
    latents = decoder.sample(positive, negative, golden["latent_noise"], 10)
    assert_close(latents, golden["latents"], **LATENT_LIMIT)
    assert_close(decoder.to_pictures(latents), golden["image"], **PICTURE_LIMIT)


def test_vae_of_the_published_size_takes_every_key():
    manifest = json.loads((ORACLE / "manifests" / "manifest_decoder_vae.json").read_text())
    expected = {name: tuple(shape) for name, (shape, _) in manifest["keys"].items()}
    vae = Vae(VaeConfig.from_json(manifest["config"]), device="meta")
    assert {name: tuple(w.shape) for name, w in vae.state_dict().items()} == expected


def test_unet_of_the_published_size_takes_every_key():
    import diffusers

    manifest = json.loads((ORACLE / "manifests" / "manifest_decoder_unet.json").read_text())
    expected = {name: tuple(shape) for name, (shape, _) in manifest["keys"].items()}
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(manifest["config"])
    assert {name: tuple(w.shape) for name, w in unet.state_dict().items()} == expected
