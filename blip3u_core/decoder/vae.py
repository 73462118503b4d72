"""The decoder's VAE: pictures <-> latents, AutoencoderKL with the weight names of diffusers.

latent = mean of q(z | picture)    (B, L, H / f, W / f), f = 2 ^ (levels - 1)
"""

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

from ..weights.config import STRICT, Levels, Size, read_config

NORM_EPS = 1e-6


@dataclass(frozen=True, config=STRICT)
class VaeConfig:
    """From the VAE's config.json; the published values in brackets."""

    widths: Annotated[Levels, Field(alias="block_out_channels")]  # (128, 256, 512, 512)
    layers_per_block: Annotated[int, Field(ge=1, le=16)]  # (2); the way up has one more
    latent_channels: Annotated[int, Field(ge=1, le=1024)]  # (4)
    # What a latent is multiplied with for the UNet (0.13025).
    scaling_factor: Annotated[float, Field(gt=1e-4, le=1e4)]
    norm_num_groups: Size  # (32)
    mid_attention: Annotated[bool, Field(alias="mid_block_add_attention")] = True
    quant_conv: Annotated[bool, Field(alias="use_quant_conv")] = True
    post_quant_conv: Annotated[bool, Field(alias="use_post_quant_conv")] = True
    # What else a VAE could be, and all that is known here.
    act_fn: Literal["silu"] = "silu"
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    shift_factor: None = None
    latents_mean: None = None
    latents_std: None = None
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...] | None = None
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...] | None = None

    def __post_init__(self) -> None:
        odd = [width for width in self.widths if width % self.norm_num_groups]
        if odd:
            raise ValueError(
                f"norm_num_groups {self.norm_num_groups}; expected a number that divides all of "
                f"block_out_channels, {list(self.widths)}"
            )
        for name in ("down_block_types", "up_block_types"):
            blocks = getattr(self, name)
            if blocks is not None and len(blocks) != len(self.widths):
                raise ValueError(
                    f"{len(blocks)} {name}; expected {len(self.widths)}, one for each of "
                    "block_out_channels"
                )

    @property
    def factor(self) -> int:
        """f: pixels of the picture to one of the latent, along a side."""
        return 2 ** (len(self.widths) - 1)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "VaeConfig":
        """Raises ValueError if a number is missing, out of range, or the VAE of another kind."""
        return read_config(cls, config, "the VAE's config.json")


class Vae(nn.Module):
    """Both halves; 3 channels in [-1, 1] on the picture's side, unscaled latents on the other."""

    def __init__(
        self,
        config: VaeConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
    ) -> None:
        """`operations` has Linear, Conv2d and GroupNorm: torch's own, or a host's that cast."""
        super().__init__()
        self.config = config
        make = _Maker(operations, config.norm_num_groups, {"dtype": dtype, "device": device})
        latent = config.latent_channels
        self.encoder = _Encoder(config, make)
        self.decoder = _Decoder(config, make)
        if config.quant_conv:
            self.quant_conv = make.conv(2 * latent, 2 * latent, 1)
        if config.post_quant_conv:
            self.post_quant_conv = make.conv(latent, latent, 1)

    def encode(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to the mean latent (B, L, H / f, W / f), unscaled."""
        moments = self.encoder(picture)  # (B, 2 L, H / f, W / f)
        if self.config.quant_conv:
            moments = self.quant_conv(moments)
        return moments[:, : self.config.latent_channels]

    def decode(self, latent: Tensor) -> Tensor:
        """An unscaled latent (B, L, h, w) to (B, 3, h f, w f), about [-1, 1], not clamped."""
        if self.config.post_quant_conv:
            latent = self.post_quant_conv(latent)
        return self.decoder(latent)


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Layers of the chosen operations, dtype and device."""

    operations: Any
    num_groups: int
    place: Mapping[str, Any]

    def conv(self, width_in: int, width_out: int, kernel: int = 3, **options: int) -> nn.Module:
        options = {"padding": kernel // 2, **options}
        return self.operations.Conv2d(width_in, width_out, kernel, **options, **self.place)

    def linear(self, width: int) -> nn.Module:
        return self.operations.Linear(width, width, **self.place)

    def norm(self, width: int) -> nn.Module:
        return self.operations.GroupNorm(self.num_groups, width, eps=NORM_EPS, **self.place)


class _Encoder(nn.Module):
    def __init__(self, config: VaeConfig, make: _Maker) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = make.conv(3, widths[0])
        self.down_blocks = nn.ModuleList(
            _Level(make, width_in, width, config.layers_per_block, down=level < len(widths) - 1)
            for level, (width_in, width) in enumerate(pairwise((widths[0], *widths)))
        )
        self.mid_block = _Middle(make, widths[-1], config.mid_attention)
        self.conv_norm_out = make.norm(widths[-1])
        self.conv_out = make.conv(widths[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        x = self.mid_block(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class _Decoder(nn.Module):
    def __init__(self, config: VaeConfig, make: _Maker) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.conv_in = make.conv(config.latent_channels, widths[0])
        self.mid_block = _Middle(make, widths[0], config.mid_attention)
        self.up_blocks = nn.ModuleList(
            _Level(make, width_in, width, config.layers_per_block + 1, up=level < len(widths) - 1)
            for level, (width_in, width) in enumerate(pairwise((widths[0], *widths)))
        )
        self.conv_norm_out = make.norm(widths[-1])
        self.conv_out = make.conv(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class _Level(nn.Module):
    """Residual blocks of one resolution, and the step to the next."""

    def __init__(
        self,
        make: _Maker,
        width_in: int,
        width: int,
        num_layers: int,
        down: bool = False,
        up: bool = False,
    ) -> None:
        super().__init__()
        widths = [width_in] + [width] * num_layers
        self.resnets = nn.ModuleList(
            _Resnet(make, before, after) for before, after in pairwise(widths)
        )
        if down:
            self.downsamplers = nn.ModuleList([_Down(make, width)])
        if up:
            self.upsamplers = nn.ModuleList([_Up(make, width)])

    def forward(self, x: Tensor) -> Tensor:
        steps = [*getattr(self, "downsamplers", ()), *getattr(self, "upsamplers", ())]
        for layer in (*self.resnets, *steps):
            x = layer(x)
        return x


class _Middle(nn.Module):
    def __init__(self, make: _Maker, width: int, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Resnet(make, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(make, width)] if attention else [])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class _Resnet(nn.Module):
    def __init__(self, make: _Maker, width_in: int, width: int) -> None:
        super().__init__()
        self.norm1 = make.norm(width_in)
        self.conv1 = make.conv(width_in, width)
        self.norm2 = make.norm(width)
        self.conv2 = make.conv(width, width)
        self.conv_shortcut = make.conv(width_in, width, 1) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    """One head over all places."""

    def __init__(self, make: _Maker, width: int) -> None:
        super().__init__()
        self.group_norm = make.norm(width)
        self.to_q, self.to_k, self.to_v = (make.linear(width) for _ in range(3))
        self.to_out = nn.ModuleList([make.linear(width)])

    def forward(self, x: Tensor) -> Tensor:
        places = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]  # (B, 1, h w, width)
        query, key, value = self.to_q(places), self.to_k(places), self.to_v(places)
        attended = self.to_out[0](scaled_dot_product_attention(query, key, value))
        return x + attended[:, 0].transpose(1, 2).reshape(x.shape)


class _Down(nn.Module):
    def __init__(self, make: _Maker, width: int) -> None:
        super().__init__()
        self.conv = make.conv(width, width, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(pad(x, (0, 1, 0, 1)))  # one row and column more, below and right only


class _Up(nn.Module):
    def __init__(self, make: _Maker, width: int) -> None:
        super().__init__()
        self.conv = make.conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
