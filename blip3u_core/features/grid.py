"""CLIP features as a grid, as tokens, as one vector, and as something to look at."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

PREVIEW_SIZE = 256


def features_to_tokens(features: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C), row by row."""
    return rearrange(features, "b c h w -> b (h w) c")


def tokens_to_features(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, h * w, C), row by row, to (B, C, h, w).

    Raises: ValueError if there are not height * width tokens.
    """
    if tokens.shape[1] != height * width:
        raise ValueError(
            f"{tokens.shape[1]} tokens do not fill a grid of {height} x {width}; expected "
            f"{height * width}. Use the grid of the checkpoint that made them."
        )
    return rearrange(tokens, "b (h w) c -> b c h w", h=height, w=width)


def pooled_features(features: Tensor) -> Tensor:
    """Mean over the grid, (B, C, h, w) to (B, C): the decoder's pooled embedding."""
    return features.mean((2, 3))


def preview_features(features: Tensor, size: int = PREVIEW_SIZE) -> Tensor:
    """Colour the grid by the features' first three principal components.

    The components are those of the whole batch, so that equal colours mean equal features in all
    its pictures.

    Args:
        features: (B, C, h, w).
        size: of the longer side, in pixels.

    Returns: (B, H, W, 3) float32 in [0, 1].
    Raises: ValueError if `features` is not a finite grid of features.
    """
    if features.ndim != 4 or not bool(features.isfinite().all()):
        raise ValueError(
            f"features are {tuple(features.shape)}, expected finite numbers (B, C, h, w). Take "
            "them from the CLIP Feature Sampler or Image to CLIP Features."
        )
    batch, _, height, width = features.shape
    tokens = features_to_tokens(features.float()).flatten(0, 1)  # (B * h * w, C)
    scores = principal_scores(tokens, 3)
    low, high = scores.amin(0), scores.amax(0)
    colours = (scores - low) / (high - low).clamp(min=1e-12)
    grid = tokens_to_features(colours.view(batch, -1, 3), height, width)
    scale = size / max(height, width)
    pixels = F.interpolate(grid, (round(height * scale), round(width * scale)), mode="nearest")
    return pixels.movedim(1, -1).cpu()


def principal_scores(tokens: Tensor, count: int) -> Tensor:
    """Coordinates (N, count) of tokens (N, C) along their principal components.

    The sign is fixed: the largest coordinate of a component is positive.
    """
    centred = tokens - tokens.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    s = torch.where(s > 1e-4 * s[0], s, 0.0)  # what is left is rounding
    scores = F.pad(u * s, (0, count))[:, :count]  # fewer tokens than components: zeros
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    return scores * torch.where(largest < 0, -1.0, 1.0)
