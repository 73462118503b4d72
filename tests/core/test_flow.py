"""Schedule, noise and Euler's loop: properties."""

import pytest
import torch
from torch.testing import assert_close

from blip3u_core.features.flow import integrate_guided_flow, item_noise, linear_sigmas, timesteps_of


def constant(conditional: float, null: float):
    def velocity(x, sigma):
        assert sigma.shape == x.shape[:1]
        return torch.full_like(x, conditional), torch.full_like(x, null)

    return velocity


@pytest.mark.parametrize("steps", [1, 2, 7, 30, 100])
def test_constant_velocity_is_integrated_exactly(steps):
    zeros = torch.zeros(2, 3, 4, 4)
    out = integrate_guided_flow(constant(-2, -5), zeros, linear_sigmas(steps), 3.0)
    assert_close(out, torch.full_like(zeros, -4.0))  # -(-5 + 3 * (-2 + 5)) = -4


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 2.0), (0.0, 5.0), (0.5, 3.5)])
def test_guidance_scale(scale, expected):
    out = integrate_guided_flow(constant(-2, -5), torch.zeros(1, 1, 1, 1), linear_sigmas(3), scale)
    assert_close(out, torch.full_like(out, expected))


def test_straight_paths_end_at_the_clean_features():
    clean, noise = torch.randn(2, 1, 3, 2, 2)

    def velocity(x, sigma):
        to_clean = (x - clean) / sigma[:, None, None, None]
        return to_clean, to_clean

    assert_close(integrate_guided_flow(velocity, noise, linear_sigmas(4), 3.0), clean)


def test_steps_are_counted_and_can_be_stopped():
    seen = []
    zeros, sigmas = torch.zeros(1, 1, 1, 1), linear_sigmas(4)
    integrate_guided_flow(constant(1, 1), zeros, sigmas, 1.0, lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        integrate_guided_flow(constant(1, 1), zeros, sigmas, 1.0, stop)


def test_dtype_is_kept_and_the_sum_is_float32():
    out = integrate_guided_flow(
        constant(-1, -1), torch.zeros(1, 1, 1, 1).bfloat16(), linear_sigmas(1000), 1.0
    )
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), torch.ones(1, 1, 1, 1))


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 0.5], [0.5, 1.0, 0.0], [1.0, 1.0, 0.0]])
def test_sigmas_must_fall_to_zero(sigmas):
    with pytest.raises(ValueError, match="falling strictly to 0"):
        integrate_guided_flow(constant(1, 1), torch.zeros(1), torch.tensor(sigmas), 1.0)


@pytest.mark.parametrize("steps", range(1, 101))
def test_schedule_falls_evenly(steps):
    sigmas = linear_sigmas(steps)
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert_close(sigmas.diff(), torch.full((steps,), -1 / steps))
    whole = [1000 * (steps - i) // steps for i in range(steps)]
    assert all(
        abs(a - b) <= 1 for a, b in zip(timesteps_of(sigmas[:-1]).tolist(), whole, strict=True)
    )


def test_denoise_is_the_end_of_a_longer_schedule():
    assert_close(linear_sigmas(3, denoise=0.5), linear_sigmas(6)[-4:])


@pytest.mark.parametrize(("steps", "denoise"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, 1.5)])
def test_impossible_schedules(steps, denoise):
    with pytest.raises(ValueError, match="expected"):
        linear_sigmas(steps, denoise)


def test_noise_of_an_item_does_not_depend_on_its_batch():
    batch = item_noise(40, 3, (2, 4, 4))
    for i in range(3):
        assert torch.equal(item_noise(40 + i, 1, (2, 4, 4)), batch[i : i + 1])
    assert not torch.equal(batch[0], batch[1])
    assert item_noise(2**64 - 1, 2, (1,)).shape == (2, 1)  # the last seed has a successor: 0


def test_an_empty_batch_has_no_noise():
    with pytest.raises(ValueError, match="batch size is 0"):
        item_noise(0, 0, (1,))
