"""Seeds that wrap, and NaN that one reduction finds."""

import pytest
import torch

from blip3u_core.features.flow import item_noise
from blip3u_core.finite import all_finite
from blip3u_core.seeds import LARGEST_SEED, item_seed

BAD = [float("nan"), float("inf"), -float("inf")]


def test_the_seed_after_the_largest_is_zero() -> None:
    assert item_seed(LARGEST_SEED, 1) == 0
    assert item_seed(LARGEST_SEED - 1, 1) == LARGEST_SEED
    noise = item_noise(LARGEST_SEED, 2, (3,))
    assert torch.equal(noise[1:], item_noise(0, 1, (3,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", BAD)
def test_one_bad_value_is_found(dtype: torch.dtype, bad: float) -> None:
    values = torch.randn(3, 5).to(dtype)
    assert all_finite(values)
    values[1, 2] = bad
    assert not all_finite(values)
    values[0, 0] = -bad
    assert not all_finite(values)


def test_large_values_are_finite() -> None:
    assert all_finite(torch.full((4,), 3e38))
    assert all_finite(torch.full((4,), 448.0).to(torch.float8_e4m3fn))
    assert all_finite(torch.full((40,), 60000.0, dtype=torch.float16))
