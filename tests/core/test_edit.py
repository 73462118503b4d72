"""FlowEdit's own properties, with velocities that are known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.edit import edit_clip_features, edit_features, edit_sigmas
from blip3u_core.features.flow import integrate_guided_flow, linear_sigmas
from blip3u_core.features.nextdit import NextDiT
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE

SHAPE = (3, 5, 4, 4)


def gaussian_velocity(mean: float, spread: float):
    """The exact velocity of data N(mean, spread^2) under x = (1 - sigma) data + sigma noise."""

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        variance = ((1 - sigma) * spread) ** 2 + sigma**2
        centred = x - (1 - sigma) * mean
        clean = mean + (1 - sigma) * spread**2 / variance * centred
        noise = sigma / variance * centred
        return noise - clean

    return velocity


def pair_of(source, target):
    return lambda x_source, x_target, sigma: (source(x_source, sigma), target(x_target, sigma))


def random_features(seed: int = 0, shape=SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def wavy(shift: float):
    """A velocity that mixes places and channels and is not linear in x."""
    return lambda x, sigma: (
        torch.tanh(x.roll(1, 1) + shift) * (1 + sigma) + x.mean((2, 3), keepdim=True)
    )


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_source_equal_to_target_leaves_the_features(strength):
    features = random_features()
    edited = edit_features(
        pair_of(wavy(0.2), wavy(0.2)), features, edit_sigmas(12, strength), seed=3
    )
    assert_close(edited, features, atol=1e-5, rtol=0)


def test_strength_0_is_the_identity():
    features = random_features().to(torch.bfloat16)
    edited = edit_features(pair_of(wavy(0), wavy(2)), features, edit_sigmas(30, 0.0), seed=1)
    assert torch.equal(edited, features)
    assert edited.dtype == features.dtype


def test_a_constant_difference_is_integrated_exactly():
    """edited = f + sigma_max * (source velocity - target velocity), for any number of steps."""
    features = random_features()
    pair = pair_of(lambda x, _: torch.full_like(x, 2.0), lambda x, _: torch.full_like(x, -3.0))
    for steps, strength in [(1, 1.0), (7, 1.0), (30, 0.5)]:
        sigmas = edit_sigmas(steps, strength)
        edited = edit_features(pair, features, sigmas, seed=0)
        assert_close(edited, features + sigmas[0] * 5.0, atol=1e-5, rtol=0)


def test_strength_1_gives_the_statistics_of_the_target():
    source = random_features(shape=(4, 32, 16, 16)) * 0.5 - 1.0
    pair = pair_of(gaussian_velocity(-1.0, 0.5), gaussian_velocity(2.0, 0.5))
    edited = edit_features(pair, source, edit_sigmas(100, 1.0), seed=5)
    assert abs(edited.mean().item() - 2.0) < 0.05
    assert abs(edited.std().item() - 0.5) < 0.05


def test_strength_1_gives_what_sampling_with_the_same_guidance_gives():
    """Guided by 3 on both sides, edited samples of the source lie where the target's lie."""
    null, source, target = (gaussian_velocity(mean, 0.5) for mean in (0.0, -0.4, 0.6))

    def guided(velocity):
        return lambda x, sigma: null(x, sigma) + 3.0 * (velocity(x, sigma) - null(x, sigma))

    noise = random_features(shape=(4, 32, 16, 16))
    sides = {"source": source, "target": target}
    drawn = {
        name: integrate_guided_flow(
            lambda x, sigma, side=side: (side(x, sigma[0]), null(x, sigma[0])),
            noise,
            linear_sigmas(100),
            3.0,
        )
        for name, side in sides.items()
    }
    edited = edit_features(
        pair_of(guided(source), guided(target)), drawn["source"], edit_sigmas(100, 1.0), seed=5
    )
    assert abs(edited.mean() - drawn["target"].mean()) < 0.05
    assert abs(edited.std() - drawn["target"].std()) < 0.05
    assert abs(drawn["source"].mean() - drawn["target"].mean()) > 2


def test_what_both_share_is_kept():
    """Half of the channels have the same distribution on both sides: they stay as they were."""
    source = random_features(shape=(2, 8, 4, 4))
    kept, moved = gaussian_velocity(0.0, 1.0), gaussian_velocity(1.5, 1.0)

    def target(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([kept(x[:, :4], sigma), moved(x[:, 4:], sigma)], dim=1)

    edited = edit_features(pair_of(kept, target), source, edit_sigmas(60, 1.0), seed=2)
    assert_close(edited[:, :4], source[:, :4], atol=1e-5, rtol=0)
    assert abs((edited - source)[:, 4:].mean().item() - 1.5) < 0.05


def test_equals_a_plain_loop():
    features, steps, strength, seed = random_features(), 9, 0.66, 11
    sigmas = linear_sigmas(steps).double().tolist()
    first = steps - round(strength * steps)
    generators = [torch.Generator().manual_seed(seed + item) for item in range(len(features))]
    draws = torch.stack(
        [torch.randn((steps - first, *SHAPE[1:]), generator=generator) for generator in generators]
    ).double()
    expected = features.double().clone()
    for index in range(first, steps):
        sigma = torch.tensor(sigmas[index], dtype=torch.float64)
        noisy = (1 - sigma) * features + sigma * draws[:, index - first]
        shifted = expected + noisy - features
        difference = wavy(0.9)(shifted, sigma) - wavy(0.1)(noisy, sigma)
        expected = expected + (sigmas[index + 1] - sigmas[index]) * difference
    edited = edit_features(
        pair_of(wavy(0.1), wavy(0.9)), features, edit_sigmas(steps, strength), seed
    )
    assert_close(edited.double(), expected, atol=1e-6, rtol=1e-6)


def test_an_item_of_a_batch_equals_its_single_edit():
    features = random_features()
    pair = pair_of(wavy(0.1), wavy(0.9))
    batch = edit_features(pair, features, edit_sigmas(8, 0.8), seed=20)
    for item in range(len(features)):
        alone = edit_features(pair, features[item : item + 1], edit_sigmas(8, 0.8), seed=20 + item)
        assert_close(batch[item : item + 1], alone, atol=1e-6, rtol=0)


def test_cancel_stops_within_the_step():
    seen = []

    def cancel(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        edit_features(pair_of(wavy(0), wavy(1)), random_features(), edit_sigmas(10, 1.0), 0, cancel)
    assert seen == [(1, 10), (2, 10)]


@pytest.fixture(scope="module")
def dit() -> NextDiT:
    """The golden set's random network."""
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    config = NextDiTConfig.from_shapes(checkpoint.dit.shapes(), checkpoint.config)
    network = NextDiT(config)
    network.load_state_dict({k: v.float() for k, v in checkpoint.dit.state_dict().items()})
    return network


def tokens_of(dit: NextDiT, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, dit.config.condition_dim, generator=generator)


def test_the_network_is_guided_on_each_side_by_its_own_scale(dit):
    """Against `edit_features` with plain forward passes."""
    shape = (2, dit.config.in_channels, dit.config.input_size, dit.config.input_size)
    features, source, target = random_features(shape=shape), tokens_of(dit, 1), tokens_of(dit, 2)

    def guided(x, sigma, tokens, scale):
        timesteps = torch.full((len(x),), int(sigma * 1000))
        null = dit(x, timesteps, torch.zeros_like(tokens))
        return null + scale * (dit(x, timesteps, tokens) - null)

    with torch.no_grad():
        expected = edit_features(
            lambda a, b, sigma: (guided(a, sigma, source, 1.5), guided(b, sigma, target, 4.0)),
            features,
            edit_sigmas(6, 0.5),
            seed=4,
        )
    edited = edit_clip_features(dit, features, source, target, 4, 6, 1.5, 4.0, 0.5)
    assert_close(edited, expected, atol=1e-5, rtol=1e-5)


def test_an_item_of_a_batch_equals_its_single_edit_by_the_network(dit):
    shape = (2, dit.config.in_channels, dit.config.input_size, dit.config.input_size)
    features, source, target = random_features(shape=shape), tokens_of(dit, 1), tokens_of(dit, 2)
    batch = edit_clip_features(dit, features, source, target, seed=8, steps=5)
    for item in range(2):
        one = slice(item, item + 1)
        alone = edit_clip_features(
            dit, features[one], source[one], target[one], seed=8 + item, steps=5
        )
        assert_close(batch[one], alone, atol=1e-5, rtol=1e-5)


def test_the_same_description_twice_keeps_an_items_features(dit):
    shape = (2, dit.config.in_channels, dit.config.input_size, dit.config.input_size)
    features, source, target = random_features(shape=shape), tokens_of(dit, 1), tokens_of(dit, 2)
    target = torch.cat([source[:1], target[1:]])
    edited = edit_clip_features(dit, features, source, target, 4, 6, 1.5, 4.0)
    assert torch.equal(edited[0], features[0])
    assert not torch.allclose(edited[1], features[1], atol=1e-2)
    longer = torch.cat([source, source[:, :1]], 1)
    assert edit_clip_features(dit, features, source, longer, 4, 2).shape == features.shape


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strength_outside_0_to_1_is_refused(strength):
    with pytest.raises(ValueError, match=r"strength is .* expected 0 to 1"):
        edit_sigmas(10, strength)


@pytest.mark.parametrize("sigmas", [[1.0, 0.5], [0.5, 0.7, 0.0], [1.0, 1.0, 0.0]])
def test_sigmas_that_do_not_fall_to_0_are_refused(sigmas):
    with pytest.raises(ValueError, match="falling strictly to 0"):
        edit_features(pair_of(wavy(0), wavy(1)), random_features(), torch.tensor(sigmas), 0)
