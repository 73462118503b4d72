"""The decoder's other solvers: on a flow whose solution is known, and by the host's formulas."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blip3u_core.decoder.noise_schedule import NoiseSchedule
from blip3u_core.decoder.solvers import SAMPLER_ORDERS, SCHEDULER_OPTIONS, choose_solver
from blip3u_core.euler import euler

SCHEDULE = NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon", "leading", 1)
WIDTH = 0.5  # of the normal distribution that the flow leads to


def distance(sampler_name: str, scheduler: str, steps: int, denoise: float = 1.0) -> float:
    """How far from the true end: x / sqrt(width^2 + sigma^2) stays the same along this flow."""
    integrate, sigmas, _ = choose_solver(SCHEDULE, sampler_name, scheduler, steps, denoise)

    def velocity(x: Tensor, step: int) -> Tensor:
        clean = x * WIDTH**2 / (WIDTH**2 + sigmas[step] ** 2)
        return (x - clean) / sigmas[step]

    start = torch.ones(1, 1, 1, 1) * float(sigmas[0])
    end = integrate(velocity, start, sigmas, None)
    true = start * WIDTH / float(WIDTH**2 + sigmas[0] ** 2) ** 0.5
    return float((end - true).abs() / true)


def test_the_reference_is_solved_by_its_own_loop():
    integrate, sigmas, timesteps = choose_solver(SCHEDULE, "euler", "checkpoint", 50, 1.0)
    assert integrate is euler
    assert torch.equal(sigmas, SCHEDULE.sigmas(50))
    assert torch.equal(timesteps, SCHEDULE.timesteps(50))


@pytest.mark.parametrize("scheduler", SCHEDULER_OPTIONS)
@pytest.mark.parametrize("denoise", [1.0, 0.4])
def test_order_one_is_eulers_method(scheduler: str, denoise: float):
    integrate, sigmas, timesteps = choose_solver(SCHEDULE, "euler", scheduler, 6, denoise)
    assert len(sigmas) == 7
    assert sigmas[-1] == 0
    assert_close(SCHEDULE.train_sigmas[timesteps.int()], sigmas[:-1], atol=0, rtol=0.25)
    seen: list[tuple[int, int]] = []
    done: list[tuple[int, int]] = []
    start = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def velocity(x: Tensor, step: int) -> Tensor:
        return torch.tanh(x) * (1 + step)

    ours = integrate(velocity, start, sigmas, lambda *step: seen.append(step))
    plain = euler(velocity, start, sigmas, lambda *step: done.append(step))
    assert_close(ours, plain, atol=1e-4, rtol=1e-5)
    assert seen == done


def test_karras_has_the_hosts_levels():
    _, sigmas, _ = choose_solver(SCHEDULE, "dpmpp_2m", "karras", 14, 1.0)
    ends = (float(SCHEDULE.train_sigmas[i]) ** (1 / 7) for i in (-1, 0))
    assert_close(sigmas[:-1], torch.linspace(*ends, 14) ** 7, atol=0, rtol=1e-5)


def test_a_better_way_needs_fewer_steps():
    reference = distance("euler", "checkpoint", 50)
    assert distance("dpmpp_2m", "exponential", 20) < reference
    assert distance("dpmpp_2m", "karras", 20) < distance("euler", "karras", 20) / 3
    assert distance("dpmpp_2m", "exponential", 40) < 0.3 * distance("dpmpp_2m", "exponential", 20)
    assert distance("dpmpp_2m", "karras", 20, denoise=0.5) < 0.02


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("heun", "karras"), "sampler_name is 'heun', expected one of euler, dpmpp_2m"),
        (("euler", "beta"), "scheduler is 'beta', expected one of checkpoint, karras"),
    ],
)
def test_an_unknown_name_is_refused(names: tuple[str, str], text: str):
    with pytest.raises(ValueError, match=text):
        choose_solver(SCHEDULE, *names, 10, 1.0)


@pytest.mark.parametrize("scheduler", SCHEDULER_OPTIONS)
@pytest.mark.parametrize("sampler_name", SAMPLER_ORDERS)
def test_denoise_zero_and_wrong_steps(sampler_name: str, scheduler: str):
    assert not len(choose_solver(SCHEDULE, sampler_name, scheduler, 10, 0.0)[1])
    with pytest.raises(ValueError, match="decoder steps with denoise"):
        choose_solver(SCHEDULE, sampler_name, scheduler, 1001, 1.0)
