"""The mask of what changed between two grids of features."""

from __future__ import annotations

import pytest
import torch
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
