"""Where two grids of CLIP features differ: the mask that keeps the rest of a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

THRESHOLD = 0.55  # lengths of a typical token; this and BLUR by `benchmarks/edit_settings.py`
BLUR = 0.1  # tokens
GROWTH = 1.5  # standard deviations: so the blur leaves a changed token nearly whole, 0.93 or more


def feature_difference(features_a: Tensor, features_b: Tensor) -> Tensor:
    """How far each token moved, in lengths of a typical token: 0 = the same, about 1.4 = unrelated.

    Args: features_a, features_b: (B, C, H, W); one of the two may have B = 1.
    Returns: (B, H, W), no unit; the typical length is the median over both grids of an item, so
        neither the features' scale nor a few outlying tokens matter.
    Raises: ValueError if the grids do not fit or hold NaN.
    """
    check_pair(features_a, features_b)
    a, b = torch.broadcast_tensors(features_a.float(), features_b.float())
    lengths = torch.cat([a.norm(dim=1).flatten(1), b.norm(dim=1).flatten(1)], dim=1)  # (B, 2HW)
    typical = lengths.median(dim=1).values.clamp_min(torch.finfo(torch.float32).tiny)
    return (a - b).norm(dim=1) / typical[:, None, None]


def difference_mask(
    features_a: Tensor, features_b: Tensor, width: int, height: int, threshold: float, blur: float
) -> Tensor:
    """Mask of the places where two feature grids differ: whole tokens, and a soft edge around them.

    Args:
        features_a, features_b: (B, C, H, W).
        width, height: of the mask, pixels.
        threshold: distance above which a token counts as changed, see `feature_difference`.
        blur: standard deviation of the soft edge, in tokens.

    Returns: (B, height, width) float32 in [0, 1], 1 = changed.
    """
    if width < 1 or height < 1:
        raise ValueError(f"mask size is {width}x{height}, expected at least 1x1 pixels.")
    if threshold < 0 or blur < 0:
        raise ValueError(f"threshold is {threshold} and blur is {blur}, expected 0 or more.")
    distance = feature_difference(features_a, features_b)
    changed = (distance > threshold).float()[:, None]  # (B, 1, H, W)
    rows, columns = changed.shape[-2:]
    mask = F.interpolate(changed, (height, width), mode="nearest-exact")
    for dim, sigma in ((2, blur * height / rows), (3, blur * width / columns)):
        mask = blur_axis(grow_axis(mask, round(GROWTH * sigma), dim), sigma, dim)
    return mask[:, 0].clamp(0, 1)


def grow_axis(mask: Tensor, radius: int, dim: int) -> Tensor:
    """Maximum over `radius` pixels on both sides along `dim` of (B, 1, H, W)."""
    size, pad = (
        ((2 * radius + 1, 1), (radius, 0)) if dim == 2 else ((1, 2 * radius + 1), (0, radius))
    )
    return F.max_pool2d(mask, size, stride=1, padding=pad)


def blur_axis(mask: Tensor, sigma: float, dim: int) -> Tensor:
    """Gaussian blur of (B, 1, H, W) along `dim`, borders repeated; `sigma` in pixels, 0 = none."""
    radius = int(3 * sigma + 0.5)
    if radius == 0:
        return mask
    offsets = torch.arange(-radius, radius + 1, dtype=mask.dtype, device=mask.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    vertical = dim == 2
    pad = (0, 0, radius, radius) if vertical else (radius, radius, 0, 0)
    weight = kernel[None, None, :, None] if vertical else kernel[None, None, None, :]
    return F.conv2d(F.pad(mask, pad, mode="replicate"), weight)


def check_pair(features_a: Tensor, features_b: Tensor) -> None:
    """Raises: ValueError unless both are (B, C, H, W) of one C, H, W with finite numbers."""
    shapes = tuple(features_a.shape), tuple(features_b.shape)
    fits = features_a.ndim == features_b.ndim == 4 and shapes[0][1:] == shapes[1][1:]
    if not fits or (shapes[0][0] != shapes[1][0] and 1 not in (shapes[0][0], shapes[1][0])):
        raise ValueError(
            f"features_a is {shapes[0]} and features_b is {shapes[1]}, expected two grids of one "
            "shape (B, C, H, W). Wire the source picture's features (Image to CLIP Features) and "
            "the edited features, both of the same checkpoint."
        )
    if not (features_a.isfinite().all() and features_b.isfinite().all()):
        raise ValueError(
            "the features hold NaN or infinite values, expected finite numbers. "
            "Draw them again, with weight_dtype fp32 or bf16 if they came from fp16."
        )
