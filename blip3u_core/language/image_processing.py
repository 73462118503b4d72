"""Pictures as the language model reads them: resized by PIL, normalised, cut into patches."""

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from einops import repeat
from PIL import Image
from torch import Tensor

from ..images import made_once, rgb_image
from .config import ImageConfig, VisionConfig

_LARGEST_RATIO = 200  # of the longer to the shorter side; Qwen's own limit


@dataclass(frozen=True, eq=False)
class ProcessedImage:
    """One picture in the size in which it is read; small until its patches are asked for."""

    pixels: np.ndarray = field(repr=False)  # (H, W, 3) uint8
    settings: "ImageConfig" = field(repr=False)
    digest: bytes = field(repr=False)  # equal for equal pixels, for reuse of what was computed

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        patch = self.settings.vision.patch_size
        return self.pixels.shape[0] // patch, self.pixels.shape[1] // patch

    @cached_property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of tokens: patches merged into squares."""
        merge = self.settings.vision.merge_size
        return self.grid[0] // merge, self.grid[1] // merge

    @property
    def num_patches(self) -> int:
        """N, as the vision encoder counts."""
        return self.grid[0] * self.grid[1]

    @cached_property
    def num_tokens(self) -> int:
        """As the language model counts."""
        return self.token_grid[0] * self.token_grid[1]

    def patches(self) -> Tensor:
        """What the vision tower reads: (N, channels * frames * patch^2), float32."""
        return _patches(_normalise(self.pixels, self.settings), self.settings.vision)


def smart_resize(height: int, width: int, settings: ImageConfig) -> tuple[int, int]:
    """The nearest height and width that whole tokens cover, within the checkpoint's limits.

    Raises: ValueError if one side is more than 200 times the other.
    Source: image_processing_qwen2_vl.py, `smart_resize`, of transformers 4.51.3.
    """
    if max(height, width) > _LARGEST_RATIO * min(height, width):
        raise ValueError(
            f"the picture is {width} x {height}; the longer side may be at most "
            f"{_LARGEST_RATIO} times the shorter. Crop it."
        )
    unit = settings.vision.patch_size * settings.vision.merge_size
    rows, columns = round(height / unit) * unit, round(width / unit) * unit
    if rows * columns > settings.max_pixels:
        shrink = math.sqrt(height * width / settings.max_pixels)
        rows = max(unit, math.floor(height / shrink / unit) * unit)
        columns = max(unit, math.floor(width / shrink / unit) * unit)
    elif rows * columns < settings.min_pixels:
        grow = math.sqrt(settings.min_pixels / (height * width))
        rows = math.ceil(height * grow / unit) * unit
        columns = math.ceil(width * grow / unit) * unit
    return max(unit, rows), max(unit, columns)


def process_image(
    picture: Tensor, settings: ImageConfig, side: int | None = None
) -> ProcessedImage:
    """Resize one picture to the size in which the language model reads it; a frozen one, once.

    Args:
        picture: (H, W, 1 to 4), uint8, or floating point in [0, 1].
        side: first make it a square of so many pixels, as before drawing; None keeps its shape,
            unless the checkpoint reads pictures of one size alone.

    Raises: ValueError as `rgb_image` and `smart_resize` do.
    """
    return made_once(picture, (settings, side), lambda: _process_image(picture, settings, side))


def _process_image(picture: Tensor, settings: ImageConfig, side: int | None) -> ProcessedImage:
    image = rgb_image(picture)
    side = side or settings.only_side
    if side is not None:
        # Parity: the reference squeezes to a square before drawing (its Mode C), whatever shape.
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    rows, columns = smart_resize(image.height, image.width, settings)
    if (rows, columns) != (image.height, image.width):
        image = image.resize((columns, rows), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    digest = hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).digest()
    return ProcessedImage(pixels, settings, digest)


def _normalise(pixels: np.ndarray, settings: ImageConfig) -> Tensor:
    mean, std = (torch.tensor(values) for values in (settings.mean, settings.std))
    scaled = torch.from_numpy(pixels.astype(np.float64) / 255).float()
    return ((scaled - mean) / std).permute(2, 0, 1)  # (3, H, W)


def _patches(image: Tensor, vision: VisionConfig) -> Tensor:
    """(C, H, W) to (N, C * frames * patch^2), square of merged patches by square."""
    merge, patch = vision.merge_size, vision.patch_size
    return repeat(
        image,
        "c (row m p) (col n q) -> (row col m n) (c frames p q)",
        m=merge, n=merge, p=patch, q=patch, frames=vision.frames,
    )  # fmt: skip
