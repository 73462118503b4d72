"""What the config.json of the decoder's UNet says, as diffusers writes it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ..weights.config import STRICT, Levels, Size, read_config
from .vae import VaeConfig

# Layers are bounded tightly: 8 levels of them are built, on paper, before the weights are counted.
FewLayers = Annotated[int, Field(ge=1, le=8)]
Depth = Annotated[int, Field(ge=0, le=16)]
Depths = Annotated[tuple[Depth, ...], Field(min_length=1, max_length=8)]
DownBlock = Literal["DownBlock2D", "CrossAttnDownBlock2D"]
UpBlock = Literal["UpBlock2D", "CrossAttnUpBlock2D"]
MidBlock = Literal["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"]


def _usual_eps(value: float) -> float:
    if value != 1e-5:
        raise ValueError(f"norm_eps {value}, expected 1e-05")
    return value


@dataclass(frozen=True, config=STRICT)
class UNetConfig:
    """SDXL's UNet with another condition; the published values in brackets."""

    widths: Annotated[Levels, Field(alias="block_out_channels")]  # (320, 640, 1280)
    layers_per_block: FewLayers | Annotated[tuple[FewLayers, ...], Field(min_length=1)]
    in_channels: Annotated[int, Field(ge=1, le=1024)]  # (4)
    out_channels: Annotated[int, Field(ge=1, le=1024)]  # (4)
    cross_attention_dim: Size  # C (1792)
    norm_num_groups: Size  # (32)
    down_block_types: Annotated[tuple[DownBlock, ...], Field(max_length=8)]
    up_block_types: Annotated[tuple[UpBlock, ...], Field(max_length=8)]
    addition_time_embed_dim: Annotated[int, Field(ge=2, le=1 << 16)]  # (256)
    projection_class_embeddings_input_dim: Size  # C + 6 x addition_time_embed_dim (3328)
    # Side of the latent; a picture of 4096 pixels is the largest that a damaged file can ask for.
    sample_size: Annotated[int, Field(ge=1, le=512)]  # (128)
    attention_head_dim: Size | Levels | None = None  # (5, 10, 20)
    num_attention_heads: Size | Levels | None = None
    transformer_layers_per_block: Depth | Depths = 1  # (1, 2, 10)
    reverse_transformer_layers_per_block: Depths | None = None
    mid_block_type: MidBlock | None = "UNetMidBlock2DCrossAttn"
    use_linear_projection: bool = False  # (True)
    # What else a diffusers UNet could be, and all that is known here.
    act_fn: Literal["silu"] = "silu"
    addition_embed_type: Literal["text_time"] = "text_time"
    attention_type: Literal["default"] = "default"
    center_input_sample: Literal[False] = False
    class_embed_type: None = None
    conv_in_kernel: Literal[3] = 3
    conv_out_kernel: Literal[3] = 3
    cross_attention_norm: None = None
    downsample_padding: Literal[1] = 1
    dual_cross_attention: Literal[False] = False
    encoder_hid_dim: None = None
    encoder_hid_dim_type: None = None
    flip_sin_to_cos: Literal[True] = True
    freq_shift: Literal[0] = 0
    mid_block_only_cross_attention: Literal[False] | None = None
    mid_block_scale_factor: Literal[1] = 1
    norm_eps: Annotated[float, AfterValidator(_usual_eps)] = 1e-5
    only_cross_attention: Literal[False] = False
    resnet_out_scale_factor: Literal[1] = 1
    resnet_skip_time_act: Literal[False] = False
    resnet_time_scale_shift: Literal["default"] = "default"
    time_cond_proj_dim: None = None
    time_embedding_act_fn: None = None
    time_embedding_dim: None = None
    time_embedding_type: Literal["positional"] = "positional"
    timestep_post_act: None = None

    def __post_init__(self) -> None:
        levels = len(self.widths)
        for name in ("down_block_types", "up_block_types", *PER_LEVEL):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != levels:
                raise ValueError(
                    f"{name} {list(value)[:8]}; expected {levels}, one for each of "
                    "block_out_channels"
                )
        self._check_divisions()
        added = self.cross_attention_dim + 6 * self.addition_time_embed_dim
        if self.projection_class_embeddings_input_dim != added:
            raise ValueError(
                "projection_class_embeddings_input_dim "
                f"{self.projection_class_embeddings_input_dim}; expected {added}, "
                "cross_attention_dim and six times addition_time_embed_dim"
            )

    def _check_divisions(self) -> None:
        odd = [width for width in self.widths if width % self.norm_num_groups]
        if odd:
            raise ValueError(
                f"norm_num_groups {self.norm_num_groups}; expected a number that divides all of "
                f"block_out_channels, {list(self.widths)}"
            )
        if self.attention_head_dim is None and self.num_attention_heads is None:
            raise ValueError("no attention_head_dim; expected the number of heads of each level")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(
                    f"attention_head_dim {list(self.heads)}; expected numbers of heads that "
                    f"divide block_out_channels, {list(self.widths)}"
                )

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each level."""
        # Parity: diffusers calls the number of heads `attention_head_dim` unless both are given.
        said = self.num_attention_heads or self.attention_head_dim
        return self.per_level(said or 1)

    def per_level(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        """A number for each level, given once for all or one by one."""
        return value if isinstance(value, tuple) else (value,) * len(self.widths)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "UNetConfig":
        """Raises ValueError if a number is missing, out of range, or the UNet of another kind."""
        return read_config(cls, config, "the decoder UNet's config.json")

    def for_diffusers(self) -> dict[str, Any]:
        """The same as diffusers' own class takes it; nothing that was not checked."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["block_out_channels"] = values.pop("widths")
        return values


PER_LEVEL = (
    "layers_per_block",
    "attention_head_dim",
    "num_attention_heads",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
)


def check_same_latents(unet: UNetConfig, vae: VaeConfig, where: object) -> None:
    """Raises ValueError if UNet and VAE, each whole in itself, are of two checkpoints."""
    if {unet.in_channels, unet.out_channels} != {vae.latent_channels}:
        raise ValueError(
            f"{where}: the decoder's UNet reads {unet.in_channels} and writes {unet.out_channels} "
            f"channels, its VAE has latent_channels {vae.latent_channels}; expected one number. "
            "Download the folder diffusion-decoder again, unet and vae."
        )
