"""The mask of what changed between two grids of features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blip3u_core.features.difference_mask import difference_mask, feature_difference


def grid(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn(batch, 24, 4, 4, generator=torch.Generator().manual_seed(seed))


def changed_at(features: Tensor, row: int, column: int) -> Tensor:
    changed = features.clone()
    changed[:, :, row, column] = grid(seed=9, batch=len(features))[:, :, row, column]
    return changed


def test_equal_features_give_an_empty_mask():
    assert difference_mask(grid(), grid(), 64, 48, 0.5, 0.5).abs().max() == 0


def test_unrelated_features_give_a_full_mask():
    mask = difference_mask(grid(0), grid(1), 64, 48, 0.5, 0.5)
    assert mask.shape == (2, 48, 64)
    assert_close(mask, torch.ones(2, 48, 64))


def test_only_the_changed_token_is_marked():
    mask = difference_mask(grid(), changed_at(grid(), row=1, column=2), 64, 64, 0.5, 0.0)
    assert mask[:, 16:32, 32:48].min() == 1
    assert mask.sum() == 2 * 16 * 16


def test_the_soft_edge_lies_around_the_changed_token():
    mask = difference_mask(grid(), changed_at(grid(), row=1, column=2), 64, 64, 0.5, 0.15)
    assert mask[:, 16:32, 32:48].min() > 0.85
    assert mask[:, 16:32, 24:32].diff(dim=2).min() > 0
    assert mask[:, :, :20].max() == 0
    assert mask.min() >= 0
    assert mask.max() <= 1


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_scale_of_the_features_does_not_matter(scale):
    expected = feature_difference(grid(), grid(1))
    assert_close(feature_difference(grid() * scale, grid(1) * scale), expected)


def test_one_outlying_token_does_not_hide_the_others():
    source, edited = grid(), changed_at(grid(), 0, 0)
    source[:, :, 3, 3] *= 100
    edited[:, :, 3, 3] *= 100
    assert feature_difference(source, edited)[:, 0, 0].min() > 0.8


def test_blur_softens_the_edge():
    source, edited = grid(), changed_at(grid(), 1, 1)
    sharp = difference_mask(source, edited, 64, 64, 0.5, 0.0)
    soft = difference_mask(source, edited, 64, 64, 0.5, 0.5)
    assert soft.diff(dim=2).abs().max() < 0.2 < sharp.diff(dim=2).abs().max()


def test_one_source_goes_with_every_edit():
    pair = difference_mask(grid()[:1], grid(), 16, 16, 0.5, 0.0)
    assert pair.shape == (2, 16, 16)
    assert pair[0].max() == 0
    assert pair[1].max() > 0


def test_grids_of_two_checkpoints_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 24, 4, 4\).*expected two grids of one shape"):
        difference_mask(grid(), torch.zeros(2, 24, 8, 8), 64, 64, 0.5, 0.5)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        difference_mask(grid(), grid() * float("nan"), 64, 64, 0.5, 0.5)


@pytest.mark.parametrize(
    ("width", "threshold", "blur"), [(0, 0.5, 0.5), (8, -1, 0.5), (8, 0.5, -1)]
)
def test_absurd_values_are_refused(width, threshold, blur):
    with pytest.raises(ValueError, match="expected"):
        difference_mask(grid(), grid(), width, 8, threshold, blur)


def spread_by_windows(mask: Tensor, size: int, blur: float, dim: int) -> Tensor:
    """Growing and blurring as their definitions say, pixel by pixel: slow for large masks."""
    sigma = blur * size / 4
    radius, reach = round(1.5 * sigma), int(3 * sigma + 0.5)
    mask = mask.transpose(dim, 3)
    mask = -F.pad(-mask, (radius, radius))
    mask = F.max_pool2d(mask, (1, 2 * radius + 1), stride=1)
    if reach:
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        kernel = (kernel / kernel.sum())[None, None, None]
        mask = F.conv2d(F.pad(mask, (reach, reach, 0, 0), mode="replicate"), kernel)
    return mask.transpose(dim, 3)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (7, 90), (3, 1)])
@pytest.mark.parametrize("blur", [0.0, 0.1, 0.7, 4.0])
def test_the_mask_is_that_of_moving_windows(width: int, height: int, blur: float):
    a, b = grid(), grid(seed=1)
    b = torch.where(torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(5)) > 0.5, a, b)
    mask = (feature_difference(a, b) > 0.5).float()[:, None]
    mask = F.interpolate(mask, (height, width), mode="nearest-exact")
    mask = spread_by_windows(spread_by_windows(mask, height, blur, 2), width, blur, 3)
    assert_close(difference_mask(a, b, width, height, 0.5, blur), mask[:, 0], atol=1e-5, rtol=0)


def test_the_largest_blur_of_a_large_mask_takes_no_longer():
    mask = difference_mask(grid(), changed_at(grid(), 1, 1), 4096, 16, 0.5, 4.0)
    assert mask.shape == (2, 16, 4096)
