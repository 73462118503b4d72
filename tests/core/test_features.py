"""Features as grid, tokens, vector and picture."""

import pytest
import torch
from torch.testing import assert_close

from blip3u_core.features.grid import (
    features_to_tokens,
    pooled_features,
    preview_features,
    tokens_to_features,
)


def test_tokens_go_row_by_row():
    features = torch.arange(24.0).view(1, 2, 3, 4)
    tokens = features_to_tokens(features)
    assert torch.equal(tokens[0, 5], features[0, :, 1, 1])
    assert torch.equal(tokens_to_features(tokens, 3, 4), features)
    with pytest.raises(ValueError, match="12 tokens"):
        tokens_to_features(tokens, 3, 3)


def test_pooled_is_the_mean_of_the_tokens():
    features = torch.randn(2, 5, 3, 4)
    assert_close(pooled_features(features), features_to_tokens(features).mean(1))


def test_preview_shows_where_features_are_equal():
    features = torch.zeros(2, 6, 2, 2)
    features[0, :, 0, 0] = features[1, :, 1, 1] = torch.arange(6.0)
    pictures = preview_features(features, size=8)
    assert pictures.shape == (2, 8, 8, 3)
    assert pictures.min() == 0
    assert pictures.max() == 1
    assert_close(pictures[0, 0, 0], pictures[1, 7, 7])
    assert_close(pictures[0, 7, 7], pictures[1, 0, 0])
    assert not torch.allclose(pictures[0, 0, 0], pictures[0, 7, 7])


@pytest.mark.parametrize("grid", [(1, 1), (3, 5)])
def test_preview_of_any_grid(grid):
    pictures = preview_features(torch.randn(1, 4, *grid), size=30)
    assert max(pictures.shape[1:3]) == 30
    assert pictures.isfinite().all()


def test_preview_needs_numbers():
    with pytest.raises(ValueError, match="finite"):
        preview_features(torch.full((1, 4, 2, 2), float("nan")))
