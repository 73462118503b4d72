"""The host's words for a UNet that a diffusers config.json describes."""

from collections.abc import Mapping
from typing import Any

# What else a diffusers UNet could be; the host's UNet is only this.
PLAIN = {
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
}
BLOCKS = {
    "DownBlock2D": False,
    "UpBlock2D": False,
    "CrossAttnDownBlock2D": True,
    "CrossAttnUpBlock2D": True,
}
MID_BLOCKS = {None: -2, "UNetMidBlock2D": -1}  # nothing; one residual block and no attention


class Widening(int):
    """A channel multiplier that is no whole number: times the first width it is `width`."""

    width: int

    def __new__(cls, width: int, first: int) -> "Widening":
        made = super().__new__(cls, width // first)
        made.width = width
        return made

    def __mul__(self, _first: int) -> int:
        return self.width

    __rmul__ = __mul__


def host_unet_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the host's UNetModel, and `norm_num_groups`, which it fixes at 32.

    Raises: ValueError if the config describes a UNet that the host does not have.
    """
    for name, expected in PLAIN.items():
        if config.get(name, expected) != expected:
            raise _unknown(name, config[name], expected)
    widths = list(config["block_out_channels"])
    levels = len(widths)
    depths = _per_level(config.get("transformer_layers_per_block", 1), levels)
    up_depths = config.get("reverse_transformer_layers_per_block") or depths[::-1]
    layers = _per_level(config["layers_per_block"], levels)
    if len(set(layers)) > 1:  # Host: its table of diffusers' names counts on it (0.3.75)
        raise _unknown("layers_per_block", layers, "one number for all levels")
    down = [_attends(kind) for kind in config["down_block_types"]]
    up = [_attends(kind) for kind in config["up_block_types"]]
    mid_block = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    down_depths = [depth if on else 0 for depth, on in zip(depths, down, strict=True)]
    up_depths = [depth if on else 0 for depth, on in zip(up_depths, up, strict=True)][::-1]
    return {
        "image_size": 32,
        "use_checkpoint": False,
        "use_spatial_transformer": True,
        "legacy": False,
        "num_classes": "sequential",
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [_multiplier(width, widths[0]) for width in widths],
        "num_res_blocks": layers,
        "transformer_depth": _repeat(down_depths, layers),
        "transformer_depth_output": _repeat(up_depths, [count + 1 for count in layers]),
        "transformer_depth_middle": MID_BLOCKS.get(mid_block, depths[-1]),
        "context_dim": config["cross_attention_dim"],
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "adm_in_channels": config["projection_class_embeddings_input_dim"],
        "norm_num_groups": config.get("norm_num_groups", 32),
        **_heads(config, widths, [a or b for a, b in zip(down, up[::-1], strict=True)]),
    }


def _heads(config: Mapping[str, Any], widths: list[int], attends: list[bool]) -> dict[str, int]:
    """The host knows one number of heads, or one width of a head, for all levels."""
    # Parity: diffusers names the number of heads `attention_head_dim` unless the other is given.
    heads = config.get("num_attention_heads") or config["attention_head_dim"]
    counts = _per_level(heads, len(widths))
    attends = [*attends[:-1], True]  # the middle attends with the numbers of the last level
    used = [(w, n) for w, n, on in zip(widths, counts, attends, strict=True) if on]
    head_widths = {width // number for width, number in used}
    if len(head_widths) == 1:
        return {"num_heads": -1, "num_head_channels": head_widths.pop()}
    if len({number for _, number in used}) == 1:
        return {"num_heads": used[0][1], "num_head_channels": -1}
    raise _unknown("attention_head_dim", heads, "one number of heads or one width of a head")


def _multiplier(width: int, first: int) -> int:
    return Widening(width, first) if width % first else width // first


def _per_level(value: int | list[int], levels: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * levels


def _repeat(values: list[int], counts: list[int]) -> list[int]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def _attends(block: str) -> bool:
    if block not in BLOCKS:
        raise _unknown("a block", block, sorted(BLOCKS))
    return BLOCKS[block]


def _unknown(name: str, value: Any, expected: Any) -> ValueError:
    return ValueError(
        f"the decoder UNet's config.json says {name} {value!r}, the host's UNet only knows "
        f"{expected!r}. Use the checkpoint's own diffusion-decoder, unchanged."
    )
