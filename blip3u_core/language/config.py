"""The sizes of the language model, as its config.json states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST = 1 << 24  # no size in a real config.json comes near; a larger one is a damaged file
_PLAIN_ROPES = ("default", "mrope")  # both names mean the unscaled rotation


@dataclass(frozen=True)
class TextConfig:
    """The decoder-only transformer. Source: Qwen2.5-VL technical report, section 2."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    max_positions: int  # tokens it was made to read
    norm_eps: float
    rope_theta: float
    rope_sections: tuple[int, ...]  # frequencies that turn with time, height and width
    tied_head: bool  # the token table is the output layer too

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TextConfig:
        """Read the text part of a config.json.

        Raises: ValueError, naming the key, for a missing or impossible number and for a kind of
            network that this code does not know.
        """
        text = {**config, **(config.get("text_config") or {})}
        rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
        heads = _size(text, "num_attention_heads")
        result = cls(
            hidden_size=_size(text, "hidden_size"),
            intermediate_size=_size(text, "intermediate_size"),
            num_layers=_size(text, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=_size(text, "num_key_value_heads", heads),
            vocab_size=_size(text, "vocab_size"),
            max_positions=_size(text, "max_position_embeddings", 32768),
            norm_eps=float(text.get("rms_norm_eps", 1e-6)),
            rope_theta=float(rope.get("rope_theta") or text.get("rope_theta", 1e6)),
            rope_sections=tuple(rope.get("mrope_section") or (16, 24, 24)),
            tied_head=bool(text.get("tie_word_embeddings", False)),
        )
        _refuse(text, rope, result)
        return result


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower of the language model. Source: Qwen2.5-VL technical report, section 2.1."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    out_size: int  # the text model's width
    patch_size: int  # pixels
    merge_size: int  # patches per token and side
    frames: int  # a still picture is repeated to so many
    channels: int
    window_size: int  # pixels of one attention window's side
    full_attention_layers: tuple[int, ...]

    @property
    def patch_values(self) -> int:
        """Numbers in one patch, all its frames and channels."""
        return self.channels * self.frames * self.patch_size**2

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> VisionConfig:
        """Read `vision_config` of a config.json; raises ValueError naming a bad or missing key."""
        vision = config.get("vision_config")
        if not isinstance(vision, Mapping):
            raise ValueError(
                "config.json has no `vision_config`: expected the language model of BLIP3-U, which "
                "sees pictures. Download the checkpoint's config.json again."
            )
        result = cls(
            hidden_size=_size(vision, "hidden_size"),
            intermediate_size=_size(vision, "intermediate_size"),
            num_layers=_size(vision, "depth"),
            num_heads=_size(vision, "num_heads"),
            out_size=_size(vision, "out_hidden_size", config.get("hidden_size")),
            patch_size=_size(vision, "patch_size", 14),
            merge_size=_size(vision, "spatial_merge_size", 2),
            frames=_size(vision, "temporal_patch_size", 2),
            channels=_size(vision, "in_channels", 3),
            window_size=_size(vision, "window_size", 112),
            full_attention_layers=tuple(vision.get("fullatt_block_indexes", ())),
        )
        if result.hidden_size % (4 * result.num_heads):
            raise ValueError(
                f"vision_config says hidden_size {result.hidden_size} for num_heads "
                f"{result.num_heads}: each head needs a multiple of 4. config.json is damaged."
            )
        return result


def _size(values: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = values.get(key, default)
    if not isinstance(value, int) or not 0 < value <= _LARGEST:
        raise ValueError(
            f"config.json says {key} = {value!r}; expected a whole number from 1 to {_LARGEST}. "
            "The file is damaged or belongs to another model: download it again."
        )
    return value


def _refuse(text: Mapping[str, Any], rope: Mapping[str, Any], config: TextConfig) -> None:
    """Raise for what would run but compute something else than the checkpoint means."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in _PLAIN_ROPES:
        raise ValueError(f"config.json asks for rope type {kind!r}; known are {_PLAIN_ROPES}.")
    if text.get("use_sliding_window"):
        raise ValueError("config.json asks for sliding-window attention, which is not supported.")
    if text.get("hidden_act", "silu") != "silu":
        raise ValueError(f"config.json asks for hidden_act {text['hidden_act']!r}; known is silu.")
    if config.hidden_size % config.num_heads or config.num_heads % config.num_kv_heads:
        raise ValueError(
            f"config.json says {config.num_heads} heads and {config.num_kv_heads} key-value heads "
            f"for a width of {config.hidden_size}: the numbers must divide. The file is damaged."
        )
    if 2 * sum(config.rope_sections) != config.head_dim:
        raise ValueError(
            f"config.json says mrope_section {list(config.rope_sections)}; for a head of "
            f"{config.head_dim} the three must sum to {config.head_dim // 2}."
        )
