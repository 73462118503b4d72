"""EVA-CLIP: a picture becomes CLIP features (B, C, g, g), what the DiT learned to draw.

x = x + LayerNorm(attention(x));  x = x + LayerNorm(mlp(x));  features = mean of N x N patches
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, scaled_dot_product_attention

from ..images import rgb_image

# OpenAI CLIP's channel statistics, which EVA-CLIP kept.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
NORM_EPS = 1e-6
DEFAULT_POOLING = "early_pool2d_4"  # config.json, gen_pooling, of the published 8B and 4B
KNOWN_HEAD_WIDTHS = {"eva-clip-E-14-plus": 112}  # for towers inside a checkpoint, without a JSON
SHAPE_NAMES = ("pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")


@dataclass(frozen=True)
class EvaClipConfig:
    """The tower's dimensions; the published E/14-plus in brackets."""

    patch_size: int  # side of patch_embed's kernel (14)
    num_patches: int  # along one side, from the length of pos_embed (32, for 448 pixels)
    width: int  # C, columns of the weights (1792)
    num_layers: int  # counted (64)
    num_heads: int  # width / head_width (16)
    mlp_width: int  # rows of mlp.fc1 (15360)
    pooling: int  # N of gen_pooling "early_pool2d_N" (4)
    final_norm: bool = False  # the published tower has none; a trained one may fold scales into it

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the tower reads, in pixels."""
        return self.num_patches * self.patch_size

    @property
    def grid(self) -> int:
        """g: features along one side, after pooling."""
        return self.num_patches // self.pooling

    @classmethod
    def from_weights(
        cls, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> "EvaClipConfig":
        """Read the dimensions off the weights; only two numbers need the JSON.

        Args:
            config: `vision_cfg.head_width` (the tower's JSON), or `gen_vision_tower` with a known
                name (a checkpoint's config.json); and `gen_pooling`, else 4 x 4.
            shapes: weight names and their shapes.

        Raises: ValueError if the weights are no tower or the numbers do not fit them.
        """
        missing = [name for name in SHAPE_NAMES if name not in shapes]
        if missing:
            raise ValueError(
                f"this is not an EVA-CLIP tower: its weights lack {missing} and begin with "
                f"{sorted(shapes)[:3]}. Choose the tower's own file or folder."
            )
        mlp_width, width = shapes["blocks.0.mlp.fc1.weight"]
        num_positions = shapes["pos_embed"][1]
        result = cls(
            patch_size=shapes["patch_embed.proj.weight"][-1],
            num_patches=isqrt(num_positions - 1),
            width=width,
            num_layers=len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
            num_heads=width // _head_width(config, width),
            mlp_width=mlp_width,
            pooling=_pooling_factor(config.get("gen_pooling", DEFAULT_POOLING)),
            final_norm="norm.weight" in shapes,
        )
        if result.num_patches**2 + 1 != num_positions or result.num_patches % result.pooling:
            raise ValueError(
                f"the tower has {num_positions} positions, expected a class token and a square of "
                f"patches that {result.pooling} x {result.pooling} pooling divides. Check "
                "gen_pooling in config.json, or take another tower."
            )
        return result


class EvaClip(nn.Module):
    """The vision tower; parameters are named as in the published file."""

    def __init__(
        self,
        config: EvaClipConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
    ) -> None:
        """`operations` has Linear, Conv2d and LayerNorm: torch's own, or a host's that cast."""
        super().__init__()
        self.config = config
        place = {"dtype": dtype, "device": device}
        width = config.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width, **place))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_patches**2 + 1, width, **place))
        self.patch_embed = _PatchEmbed(config, place, operations)
        self.blocks = nn.ModuleList(
            _Block(config, place, operations) for _ in range(config.num_layers)
        )
        if config.final_norm:
            self.norm = operations.LayerNorm(width, eps=NORM_EPS, **place)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to patch features (B, N, C), the class token dropped."""
        x = self.patch_embed(pixels)  # (B, N, C)
        cls_token = self.cls_token.to(x).expand(len(x), -1, -1)
        x = torch.cat([cls_token, x], dim=1) + self.pos_embed.to(x)  # (B, 1 + N, C)
        for block in self.blocks:
            x = block(x)
        if self.config.final_norm:
            x = self.norm(x)
        return x[:, 1:]

    def clip_features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to CLIP features (B, C, g, g)."""
        return self.pool(self(pixels))

    def pool(self, patches: Tensor) -> Tensor:
        """Patch features (B, N, C) to CLIP features (B, C, g, g)."""
        side = self.config.num_patches
        plane = patches.transpose(1, 2).unflatten(2, (side, side))  # (B, C, N/side, side)
        return avg_pool2d(plane, self.config.pooling)

    def null_pixels(self, like: Tensor) -> Tensor:
        """One picture of zero normalised pixels (1, 3, S, S): the negative of reconstruction."""
        size = self.config.image_size
        return torch.zeros(1, 3, size, size, device=like.device, dtype=like.dtype)


class _PatchEmbed(nn.Module):
    def __init__(self, config: EvaClipConfig, place: dict, operations: Any) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = operations.Conv2d(3, config.width, patch, stride=patch, **place)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)  # (B, N, C)


class _Attention(nn.Module):
    def __init__(self, config: EvaClipConfig, place: dict, operations: Any) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = operations.Linear(config.width, 3 * config.width, **place)
        self.proj = operations.Linear(config.width, config.width, **place)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = rearrange(
            self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads
        )
        attended = scaled_dot_product_attention(query, key, value)
        return self.proj(rearrange(attended, "b h n d -> b n (h d)"))


class _Mlp(nn.Module):
    def __init__(self, config: EvaClipConfig, place: dict, operations: Any) -> None:
        super().__init__()
        self.fc1 = operations.Linear(config.width, config.mlp_width, **place)
        self.fc2 = operations.Linear(config.mlp_width, config.width, **place)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, config: EvaClipConfig, place: dict, operations: Any) -> None:
        super().__init__()
        self.attn = _Attention(config, place, operations)
        self.norm1 = operations.LayerNorm(config.width, eps=NORM_EPS, **place)
        self.mlp = _Mlp(config, place, operations)
        self.norm2 = operations.LayerNorm(config.width, eps=NORM_EPS, **place)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


def crop_pictures(pictures: Tensor, size: int) -> Tensor:
    """Shortest edge to `size`, then the centre square: what the tower was trained on.

    Args: pictures (B, H, W, 1 to 4), uint8, or float in [0, 1]; see `rgb_image`.
    Returns: normalised pixels (B, 3, size, size), float32.
    Raises: ValueError for anything that is no picture.
    """
    return torch.cat([_normalised(_centre_crop(image, size)) for image in _pil_images(pictures)])


def stretch_pictures(pictures: Tensor, size: int) -> Tensor:
    """The whole picture resized to a square, its shape lost: what reconstruction uses.

    Arguments, result and errors as `crop_pictures`.
    """
    return torch.cat([_normalised(_resized(image, size, size)) for image in _pil_images(pictures)])


def _pil_images(pictures: Tensor) -> list[Image.Image]:
    if pictures.ndim != 4 or not len(pictures):
        raise ValueError(
            f"pictures are {tuple(pictures.shape)}, expected (B, H, W, 3) with one or more. "
            "Connect an IMAGE."
        )
    return [rgb_image(picture) for picture in pictures]


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _centre_crop(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    width, height = (size if side == min(image.size) else int(side * scale) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _resized(image, width, height).crop((left, top, left + size, top + size))


def _normalised(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255  # (1, 3, S, S)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
    return (pixels - mean) / std


def _head_width(config: Mapping[str, Any], width: int) -> int:
    vision = config.get("vision_cfg", {})
    head_width = vision.get("head_width", KNOWN_HEAD_WIDTHS.get(config.get("gen_vision_tower", "")))
    if not isinstance(head_width, int) or head_width < 1 or width % head_width:
        raise ValueError(
            f"the EVA-CLIP tower is {width} wide and its config says head_width {head_width}, "
            "expected a divisor in vision_cfg.head_width. Put the tower's own JSON beside its "
            "weights."
        )
    return head_width


def _pooling_factor(gen_pooling: str) -> int:
    match = re.fullmatch(r"early_pool2d_([1-9]\d*)", gen_pooling)
    if match is None:
        raise ValueError(
            f"gen_pooling is {gen_pooling!r}, expected early_pool2d_N such as {DEFAULT_POOLING!r}. "
            "Correct it in config.json."
        )
    return int(match[1])
