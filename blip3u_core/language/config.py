"""What the checkpoint's JSON files say of the language model, its pictures and its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..weights.config import (
    STRICT,
    Layers,
    Size,
    part_of,
    read_config,
)
from ..weights.json_files import FileContent, parse_json, source_of
from ..weights.sizes import Shapes, count_layers, shape_of

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
_PATCH_EMBED = "visual.patch_embed.proj.weight"

Pixels = Annotated[int, Field(ge=1, le=1 << 27)]
SmallPixels = Annotated[int, Field(ge=1, le=1 << 22)]  # to so many the smallest picture is enlarged
Channels = Field(min_length=3, max_length=3)  # red, green, blue
TokenId = Annotated[int, Field(ge=0, lt=1 << 24)]


@dataclass(frozen=True, config=STRICT)
class TextConfig:
    """The decoder-only transformer. Source: Qwen2.5-VL technical report, section 2."""

    hidden_size: Size
    intermediate_size: Size
    num_layers: Annotated[Layers, Field(alias="num_hidden_layers")]
    num_heads: Annotated[Size, Field(alias="num_attention_heads")]
    num_kv_heads: Annotated[Size, Field(alias="num_key_value_heads")]
    vocab_size: Size
    max_positions: Annotated[Size, Field(alias="max_position_embeddings")]  # tokens it can read
    norm_eps: Annotated[float, Field(alias="rms_norm_eps", gt=0, le=0.1)]
    rope_theta: Annotated[float, Field(gt=1, le=1e10)]
    # Frequencies that turn with time, height and width.
    rope_sections: Annotated[
        tuple[Annotated[int, Field(ge=0, le=4096)], ...], Channels, Field(alias="mrope_section")
    ] = (16, 24, 24)
    tied_head: Annotated[bool, Field(alias="tie_word_embeddings")] = False  # to the token table
    # What would run but compute something else than the checkpoint means.
    hidden_act: Literal["silu"] = "silu"
    use_sliding_window: Literal[False] = False
    rope_type: Literal["default", "mrope"] = "default"  # both mean the unscaled rotation

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.num_heads} num_attention_heads and {self.num_kv_heads} num_key_value_heads "
                f"for hidden_size {self.hidden_size}; expected numbers that divide"
            )
        if 2 * sum(self.rope_sections) != self.head_dim:
            raise ValueError(
                f"mrope_section {list(self.rope_sections)}; for a head of {self.head_dim} the "
                f"three must sum to {self.head_dim // 2}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TextConfig:
        """Read the text part of a config.json.

        Raises: ValueError, naming the key, for a missing or impossible number and for a kind of
            network that this code does not know.
        """
        nested = part_of(config, "text_config", CONFIG)  # as transformers nests it from 4.52 on
        rope = part_of(config, "rope_scaling", CONFIG)
        for place in (part_of(nested, "rope_scaling", CONFIG), *_rope_parameters(config, nested)):
            rope.update(place)
        said = {key: rope[key] for key in ("mrope_section", "rope_theta") if key in rope}
        said["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
        # transformers leaves out of a nested part what its class has by itself.
        usual = {"rope_theta": 1e6, "max_position_embeddings": 32768} if nested else {}
        values = {**usual, **config, **nested, **said}
        return read_config(cls, FileContent(values, source_of(config, CONFIG)), CONFIG)


def _rope_parameters(*places: Mapping[str, Any]) -> list[FileContent]:
    return [part_of(place, "rope_parameters", CONFIG) for place in places]


@dataclass(frozen=True, config=STRICT)
class VisionConfig:
    """The vision tower of the language model. Source: Qwen2.5-VL technical report, section 2.1.

    Defaults are those of transformers' class, which leaves them out of a file that it writes.
    """

    hidden_size: Size
    intermediate_size: Size
    num_layers: Annotated[Layers, Field(alias="depth")]
    num_heads: Size
    out_size: Annotated[Size, Field(alias="out_hidden_size")]  # the text model's width
    patch_size: Annotated[int, Field(ge=1, le=256)] = 14  # pixels
    # Patches per token and side.
    merge_size: Annotated[int, Field(alias="spatial_merge_size", ge=1, le=16)] = 2
    # A still picture is repeated to so many.
    frames: Annotated[int, Field(alias="temporal_patch_size", ge=1, le=16)] = 2
    channels: Annotated[Literal[3], Field(alias="in_channels")] = 3
    window_size: Annotated[int, Field(ge=1, le=8192)] = 112  # pixels of one window's side
    full_attention_layers: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(alias="fullatt_block_indexes"),
    ] = (7, 15, 23, 31)
    hidden_act: Literal["silu"] = "silu"

    def __post_init__(self) -> None:
        unit = self.patch_size * self.merge_size
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} for num_heads {self.num_heads}; expected a "
                "multiple of 4 in each head"
            )
        if self.window_size % unit:
            raise ValueError(
                f"window_size {self.window_size}; expected a multiple of {unit}, the pixels of one "
                "token (patch_size x spatial_merge_size)"
            )
        if max(self.full_attention_layers, default=0) >= self.num_layers:
            raise ValueError(
                f"fullatt_block_indexes {list(self.full_attention_layers)[:8]}; expected numbers "
                f"of the {self.num_layers} layers that depth says"
            )

    @property
    def patch_values(self) -> int:
        """Numbers in one patch, all its frames and channels."""
        return self.channels * self.frames * self.patch_size**2

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VisionConfig:
        """Read `vision_config` of a config.json; raises ValueError naming a bad or missing key."""
        vision = part_of(config, "vision_config", CONFIG)
        if not vision:
            raise ValueError(
                f"{source_of(config, CONFIG)} has no `vision_config`: expected the language model "
                "of BLIP3-U, which sees pictures. Download the checkpoint's config.json again."
            )
        usual = {"out_hidden_size": config.get("hidden_size")}
        return read_config(cls, FileContent({**usual, **vision}, vision.source), CONFIG)


@dataclass(frozen=True, config=STRICT)
class DrawingConfig:
    """How the language model is used to draw."""

    generation_image_size: Annotated[int, Field(ge=1, le=2048)] | None = None  # the published 448

    def side(self, vision: VisionConfig, where: str) -> int:
        """Pixels of the square that a picture becomes before it is drawn from.

        Raises: ValueError if whole tokens do not cover it.
        """
        side, unit = self.generation_image_size or 448, vision.patch_size * vision.merge_size
        if side % unit:
            raise ValueError(
                f"{where} says generation_image_size {side}, expected a multiple of {unit}, the "
                "pixels of one token. Use the checkpoint's own file, unchanged: download it again."
            )
        return side


@dataclass(frozen=True, config=STRICT)
class GenerationConfig:
    """What generation_config.json, and config.json where it is silent, say of tokens and answers.

    How to sample is the caller's choice.
    """

    eos_token_id: TokenId | tuple[TokenId, ...] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None  # 1 = none
    image_token_id: TokenId | None = None

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The tokens at which an answer ends."""
        said = self.eos_token_id
        return () if said is None else (said,) if isinstance(said, int) else said


@dataclass(frozen=True, config=STRICT)
class _SizeLimits:
    """`size` of preprocessor_config.json, where newer files say the pixels."""

    shortest_edge: SmallPixels | None = None
    longest_edge: Pixels | None = None


@dataclass(frozen=True, config=STRICT)
class ImageConfig:
    """How pictures become patches. Source: preprocessor_config.json of the checkpoint."""

    min_pixels: SmallPixels
    max_pixels: Pixels
    mean: Annotated[
        tuple[Annotated[float, Field(ge=-10, le=10)], ...], Channels, Field(alias="image_mean")
    ] = (0.48145466, 0.4578275, 0.40821073)
    std: Annotated[
        tuple[Annotated[float, Field(gt=1e-4, le=10)], ...], Channels, Field(alias="image_std")
    ] = (0.26862954, 0.26130258, 0.27577711)
    # What vision_config says too.
    patch_size: Size | None = None
    merge_size: Size | None = None
    temporal_patch_size: Size | None = None
    # What is done whatever is said; a file that says otherwise means another network.
    do_normalize: Literal[True] = True
    do_rescale: Literal[True] = True
    do_resize: Literal[True] = True
    resample: Literal[3] = 3  # bicubic
    rescale_factor: Annotated[float, Field(gt=0.00392, lt=0.00393)] = 1 / 255
    vision: VisionConfig = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.min_pixels > self.max_pixels:
            raise ValueError(
                f"min_pixels {self.min_pixels} and max_pixels {self.max_pixels}; expected no less "
                "at most than at least"
            )
        vision = self.vision
        sizes = {
            "patch_size": (self.patch_size, vision.patch_size),
            "merge_size": (self.merge_size, vision.merge_size),
            "temporal_patch_size": (self.temporal_patch_size, vision.frames),
        }
        for name, (said, built) in sizes.items():
            if said not in (None, built):
                raise ValueError(f"{name} {said}; expected {built}, as config.json's vision_config")

    @property
    def only_side(self) -> int | None:
        """The side of the one square that the limits allow, where they allow one size alone."""
        side = math.isqrt(self.max_pixels)
        unit = self.vision.patch_size * self.vision.merge_size
        whole = side * side == self.max_pixels and side % unit == 0
        return side if whole and self.min_pixels == self.max_pixels else None

    @classmethod
    def from_assets(cls, assets: Mapping[str, str], vision: VisionConfig) -> ImageConfig:
        """Read preprocessor_config.json; Qwen2.5-VL's own numbers stand in where it is silent."""
        where = asset_name(assets, PREPROCESSOR)
        said = parse_json(assets.get(PREPROCESSOR, "{}"), where)
        size = read_config(_SizeLimits, part_of(said, "size", where), where)
        usual = {
            "min_pixels": size.shortest_edge or 56 * 56,
            "max_pixels": size.longest_edge or 28 * 28 * 16384,
        }
        silent = ("min_pixels", "max_pixels", "image_mean", "image_std")
        values = {k: v for k, v in said.items() if v is not None or k not in silent}
        return read_config(cls, FileContent({**usual, **values, "vision": vision}, where), where)


def asset_name(assets: Mapping[str, str], name: str) -> str:
    """How messages call one of the text files."""
    folder = source_of(assets, "")
    return f"{name} of {folder}" if folder else name


def check_layers(config: Mapping[str, Any], shapes: Shapes) -> None:
    """Compare what config.json says with the weights, before anything is built from it.

    Raises: ValueError naming the first number that differs.
    """
    text, vision = TextConfig.from_dict(config), VisionConfig.from_dict(config)
    table = shape_of(shapes, "model.embed_tokens.weight", 2, "BLIP3-U language model")
    said_and_found = [
        ("hidden_size", text.hidden_size, table[1]),
        ("vocab_size", text.vocab_size, table[0]),
        ("num_hidden_layers", text.num_layers, count_layers(shapes, "model.layers")),
        ("vision_config.depth", vision.num_layers, count_layers(shapes, "visual.blocks")),
        ("vision_config.out_hidden_size", vision.out_size, text.hidden_size),
    ]
    patch = shapes.get(_PATCH_EMBED, ())
    if len(patch) == 5:  # published as a convolution, which shows what its product hides
        names = ("in_channels", "temporal_patch_size", "patch_size", "patch_size")
        said = (vision.channels, vision.frames, vision.patch_size, vision.patch_size)
        said_and_found += [
            (f"vision_config.{name}", number, found)
            for name, number, found in zip(names, said, patch[1:], strict=True)
        ]
    for name, number, found in said_and_found:
        if number != found:
            raise ValueError(
                f"{source_of(config, CONFIG)} says {name} {number!r}, but the weights beside it "
                f"have {found!r}. Config and weights must come from the same checkpoint: download "
                "both again."
            )
