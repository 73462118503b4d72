"""EVA-CLIP: a picture becomes CLIP features (B, C, g, g), what the DiT learned to draw.

x = x + LayerNorm(attention(x));  x = x + LayerNorm(mlp(x));  features = mean of N x N patches
"""

from collections.abc import Mapping
from math import isqrt
from typing import Annotated, Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, scaled_dot_product_attention

from ..images import rgb_image
from ..weights.config import STRICT, Layers, Size, part_of, read_config
from ..weights.json_files import source_of
from ..weights.sizes import count_layers, shape_of

# OpenAI CLIP's channel statistics, which EVA-CLIP kept.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
NORM_EPS = 1e-6
KNOWN_HEAD_WIDTHS = {"eva-clip-E-14-plus": 112}  # for towers inside a checkpoint, without a JSON
NETWORK = "EVA-CLIP tower"


@dataclass(frozen=True, config=STRICT)
class _Inside:
    """What a checkpoint's config.json, or the tower's, says around `vision_cfg`."""

    gen_vision_tower: str = ""
    # N features along a side become one; of the published 8B and 4B.
    gen_pooling: Annotated[str, Field(pattern=r"^early_pool2d_[1-9]\d{0,2}$")] = "early_pool2d_4"

    @property
    def pooling(self) -> int:
        return int(self.gen_pooling.rpartition("_")[2])


@dataclass(frozen=True, config=STRICT)
class _Tower:
    """`vision_cfg`."""

    head_width: Size | None = None


@dataclass(frozen=True, config=STRICT)
class EvaClipConfig:
    """The tower's dimensions; the published E/14-plus in brackets."""

    patch_size: Annotated[int, Field(ge=1, le=256)]  # side of patch_embed's kernel (14)
    # Along one side, from the length of pos_embed (32, for 448 pixels).
    num_patches: Annotated[int, Field(ge=1, le=256)]
    width: Size  # C, columns of the weights (1792)
    num_layers: Layers  # counted (64)
    num_heads: Size  # width / head_width (16)
    mlp_width: Size  # rows of mlp.fc1 (15360)
    pooling: Size  # N of gen_pooling "early_pool2d_N" (4)
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
        mlp_width, width = shape_of(shapes, "blocks.0.mlp.fc1.weight", 2, NETWORK)
        num_positions = shape_of(shapes, "pos_embed", 3, NETWORK)[1]
        where = source_of(config, "config.json")
        inside = read_config(_Inside, config, "config.json")
        tower = read_config(_Tower, part_of(config, "vision_cfg", "config.json"), "config.json")
        head_width = tower.head_width or KNOWN_HEAD_WIDTHS.get(inside.gen_vision_tower)
        if head_width is None or width % head_width:
            raise ValueError(
                f"{where} says head_width {head_width} and the EVA-CLIP tower is {width} wide; "
                "expected a divisor in vision_cfg.head_width. Put the tower's own JSON beside its "
                "weights."
            )
        side, pooling = isqrt(num_positions - 1), inside.pooling
        if side**2 + 1 != num_positions or side == 0 or side % pooling:
            raise ValueError(
                f"{where}: the tower has {num_positions} positions, expected a class token and a "
                f"square of patches that {pooling} x {pooling} pooling divides. Check gen_pooling "
                "in config.json, or use another tower."
            )
        sizes = {
            "patch_size": shape_of(shapes, "patch_embed.proj.weight", 4, NETWORK)[-1],
            "num_patches": side,
            "width": width,
            "num_layers": count_layers(shapes, "blocks"),
            "num_heads": width // head_width,
            "mlp_width": mlp_width,
            "pooling": pooling,
            "final_norm": "norm.weight" in shapes,
        }
        return read_config(cls, sizes, source_of(shapes, "the EVA-CLIP tower's weights"))


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
