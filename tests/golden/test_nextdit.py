"""NextDiT and its sampling against the reference.

Limits are the golden set's suggestions; measured 1.6e-5 (velocity; the last bit of the host's
exponential decides), 3e-5 (sampled features), 6e-5 (guidance 5.5).
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.embeddings import grid_rotations, timestep_sinusoid
from blip3u_core.features.flow import (
    integrate_guided_flow,
    linear_sigmas,
    sample_clip_features,
    timesteps_of,
)
from blip3u_core.features.nextdit import NextDiT, one_token_if_identical
from blip3u_core.weights.checkpoint import open_checkpoint

ORACLE = Path(__file__).parent / "oracle"
VELOCITY = {"atol": 2e-5, "rtol": 0}
FEATURES = {"atol": 1e-4, "rtol": 0}


def load_dit(dtype: torch.dtype) -> NextDiT:
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    config = NextDiTConfig.from_shapes(checkpoint.dit.shapes(), checkpoint.config)
    dit = NextDiT(config, dtype=dtype, device=torch.device("meta"))
    weights = {name: w.to(dtype) for name, w in checkpoint.dit.state_dict().items()}
    dit.load_state_dict(weights, assign=True)
    return dit.requires_grad_(False)


@pytest.fixture(scope="module")
def dit():
    return load_dit(torch.float32)


@pytest.fixture(scope="module")
def golden():
    return load_file(ORACLE / "goldens" / "dit.safetensors")


@pytest.fixture(scope="module")
def sampling():
    return load_file(ORACLE / "goldens" / "sampling.safetensors")


@pytest.mark.parametrize(("head_dim", "name"), [(12, "freqs"), (64, "head64")])
def test_rotations(golden, head_dim, name):
    table = grid_rotations(8, 8, head_dim, 10_000.0, torch.device("cpu")).view(8, 8, -1, 2)
    for part, end in enumerate(("real", "imag")):
        key = f"rope.freqs_{end}" if name == "freqs" else f"rope.{name}_{end}"
        assert_close(table[..., part], golden[key], atol=1e-6, rtol=0)


def test_sinusoid(golden):
    found = timestep_sinusoid(golden["time.timesteps"], 256)
    assert_close(found, golden["time.sinusoid"], atol=1e-4, rtol=0)
    early = golden["time.timesteps"] < 100
    assert_close(found[early], golden["time.sinusoid"][early], atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["v.t1000", "v.t966", "v.t933", "v.t500", "v.t33", "v.t1", "v_null.t1000", "v_null.t500"],
)
def test_velocity(dit, golden, name):
    timesteps = torch.full((2,), int(name.split(".t")[1]))
    context = golden["z_latents"] * ("null" not in name)
    assert_close(dit(golden["x"], timesteps, context), golden[name], **VELOCITY)
    shortened = one_token_if_identical(context)
    assert shortened.shape[1] == (1 if "null" in name else 64)
    assert_close(dit(golden["x"], timesteps, shortened), golden[name], **VELOCITY)


def test_velocity_of_mixed_timesteps(dit, golden):
    found = dit(golden["x"], torch.tensor([900, 100]), golden["z_latents"])
    assert_close(found, golden["v.mixed"], **VELOCITY)


def test_velocity_at_an_uncut_timestep(dit, golden):
    found = dit(golden["x"], torch.full((2,), 933.3333), golden["z_latents"])
    assert_close(found, golden["v.float_t"], **VELOCITY)


def test_velocity_of_another_grid(dit, golden):
    found = dit(golden["rect.x"], torch.tensor([700]), golden["rect.z_latents"])
    assert_close(found, golden["rect.v.t700"], **VELOCITY)


def test_inner_steps(dit, golden):
    """The named places of v.t500, so that a wrong one is found at once."""
    seen = {}

    def watch(name, module):
        module.register_forward_hook(lambda _, args, out: seen.update({name: out}))

    watch("patch_embed", dit.patch_embedder.proj)
    watch("caption_projection", dit.caption_projection.linear_2)
    watch("norm_out", dit.norm_out.linear_2)
    for i, layer in enumerate(dit.layers):
        watch(f"block{i}", layer)
    dit(golden["x"], torch.full((2,), 500), golden["z_latents"])
    for name, value in seen.items():
        assert_close(value, golden[f"inter.t500.{name}"], **VELOCITY)


def test_inner_attentions(dit, golden):
    x, timesteps = golden["x"], torch.full((2,), 500)
    condition = dit.prepare(golden["z_latents"])
    modulation = dit.modulate(timesteps, condition.pooled)
    layer, rotations = dit.layers[0], grid_rotations(8, 8, 12, 10_000.0, x.device)
    n = layer.norm1.norm(dit.patch_embedder.proj(x.flatten(2).transpose(1, 2)))
    n = n * modulation.layers[:, 0, 0, None]
    attn1 = layer.self_attention(n, rotations)
    attn2 = layer.cross_attention(n, (condition,), 0, rotations)
    attn2 = attn2.unflatten(-1, (4, 12)) / layer.gate.tanh()[:, None]  # the gate is in the values
    assert_close(attn1.unflatten(-1, (4, 12)), golden["inter.t500.block0_attn1"], **VELOCITY)
    assert_close(attn2, golden["inter.t500.block0_attn2"], **VELOCITY)


def test_velocity_in_bfloat16(golden):
    dit = load_dit(torch.bfloat16)
    found = dit(
        golden["x"].bfloat16(), torch.full((2,), 500), golden["z_latents"].bfloat16()
    ).float()
    difference = (found - golden["v.t500"]).norm() / golden["v.t500"].norm()
    assert difference < 0.015  # the reference itself: 0.0118


def test_schedule():
    schedules = json.loads((ORACLE / "goldens" / "flow_schedule.json").read_text())
    for steps, schedule in schedules.items():
        sigmas = linear_sigmas(int(steps))
        assert sigmas.tolist() == schedule["sigmas"]
        assert timesteps_of(sigmas[:-1]).tolist() == schedule["timesteps_long"]


@pytest.mark.parametrize(
    ("name", "steps", "guidance_scale"),
    [
        ("s30", 30, 3.0),
        ("s10", 10, 3.0),
        ("s10_g1", 10, 1.0),
        ("s10_g5p5", 10, 5.5),
        ("s10_b2", 10, 3.0),
        ("s1", 1, 3.0),
    ],
)
def test_sampling(dit, sampling, name, steps, guidance_scale):
    noise = sampling["noise_b2" if name == "s10_b2" else "noise"]
    found = sample_clip_features(dit, sampling["cond"], noise, steps, guidance_scale)
    assert_close(found, sampling[f"{name}.latents"], **FEATURES)


def test_every_step(dit, sampling):
    """The first k steps of ten, each against the reference's features after it."""
    seen = []

    def velocity(x, sigma):
        seen.append(x)
        t = timesteps_of(sigma)
        return dit(x, t, sampling["cond"]), dit(x, t, 0 * sampling["cond"])

    last = integrate_guided_flow(velocity, sampling["noise"], linear_sigmas(10), 3.0)
    for found, expected in zip([*seen[1:], last], sampling["s10.steps"], strict=True):
        assert_close(found, expected, **FEATURES)
