"""Where two grids of CLIP features differ: the mask that keeps the rest of a picture."""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLD = 0.55  # lengths of a typical token; this and BLUR by benchmarks/meaning/edit_settings.py
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
    changed = (distance > threshold).float()  # (B, H, W)
    tall = spread_axis(changed.transpose(1, 2), height, blur)  # (B, W, height)
    return spread_axis(tall.transpose(1, 2), width, blur).clamp_(0, 1)


def spread_axis(tokens: Tensor, size: int, blur: float) -> Tensor:
    """Tokens (..., n) as `size` pixels, each grown on both sides, then blurred; (..., size).

    Along an axis the grown tokens are pieces of one value between a few borders, and so is their
    blur a sum of as many weights a pixel: no window is moved, whatever its width.
    """
    count = tokens.shape[-1]
    sigma = blur * size / count  # pixels
    radius = round(GROWTH * sigma)
    owner = torch.arange(0.5, size) * count / size
    owner = owner.long().clamp(max=count - 1)  # the token of each pixel
    shown = owner.unique().tolist()
    starts = [max(0, int((owner < token).sum()) - radius) for token in shown]
    ends = [min(size, int((owner <= token).sum()) + radius) for token in shown]
    borders = sorted({0, size, *starts, *ends})
    pieces = []
    for border in borders[:-1]:
        over = [t for t, a, b in zip(shown, starts, ends, strict=True) if a <= border < b]
        pieces.append(tokens[..., over].amax(-1))
    weights = piece_weights(borders, sigma).to(tokens)
    return torch.stack(pieces, -1) @ weights


def piece_weights(borders: list[int], sigma: float) -> Tensor:
    """How much of each piece a blurred pixel holds, (pieces, size); the outer ones never end.

    Source: Gaussian blur, cut at three standard deviations; the sum of a piece's weights is a
    difference of two cumulative sums.
    """
    size, radius = borders[-1], int(3 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2) if radius else torch.ones(1).double()
    below = torch.cat([kernel.new_zeros(1), (kernel / kernel.sum()).cumsum(0)])  # of offsets < i
    reach = torch.tensor(borders, dtype=torch.long)[:, None] - torch.arange(size)  # (K + 1, size)
    sums = below[(reach + radius).clamp(0, 2 * radius + 1)]
    sums[0], sums[-1] = 0.0, 1.0
    return sums.diff(dim=0).float()


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
