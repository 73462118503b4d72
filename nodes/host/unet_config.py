"""The host's words for a UNet that a diffusers config.json describes."""

from collections.abc import Sequence
from typing import Any

from ...blip3u_core.decoder.unet_config import UNetConfig

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


def host_unet_config(config: UNetConfig) -> dict[str, Any]:
    """What the host's UNet is built from; levels, heads and depths as diffusers counts them.

    Raises: ValueError if the config describes a UNet that the host does not have.
    """
    widths = config.widths
    depths = config.per_level(config.transformer_layers_per_block)
    up_depths = config.reverse_transformer_layers_per_block or depths[::-1]
    layers = config.per_level(config.layers_per_block)
    if len(set(layers)) > 1:  # Host: its table of diffusers' names counts on it (0.3.75)
        raise _unknown("layers_per_block", layers, "one number for all levels")
    down = [kind.startswith("CrossAttn") for kind in config.down_block_types]
    up = [kind.startswith("CrossAttn") for kind in config.up_block_types]
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
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "model_channels": widths[0],
        "channel_mult": [_multiplier(width, widths[0]) for width in widths],
        "num_res_blocks": list(layers),
        "transformer_depth": _repeat(down_depths, layers),
        "transformer_depth_output": _repeat(up_depths, [count + 1 for count in layers]),
        "transformer_depth_middle": MID_BLOCKS.get(config.mid_block_type, depths[-1]),
        "context_dim": config.cross_attention_dim,
        "use_linear_in_transformer": config.use_linear_projection,
        "adm_in_channels": config.projection_class_embeddings_input_dim,
        "norm_num_groups": config.norm_num_groups,
        **_heads(config, [a or b for a, b in zip(down, up[::-1], strict=True)]),
    }


def _heads(config: UNetConfig, attends: list[bool]) -> dict[str, int]:
    """The host knows one number of heads, or one width of a head, for all levels."""
    attends = [*attends[:-1], True]  # the middle attends with the numbers of the last level
    levels = zip(config.widths, config.heads, attends, strict=True)
    used = [(width, number) for width, number, on in levels if on]
    head_widths = {width // number for width, number in used}
    if len(head_widths) == 1:
        return {"num_heads": -1, "num_head_channels": head_widths.pop()}
    if len({number for _, number in used}) == 1:
        return {"num_heads": used[0][1], "num_head_channels": -1}
    raise _unknown("attention_head_dim", config.heads, "one number of heads or one width of a head")


def _multiplier(width: int, first: int) -> int:
    return Widening(width, first) if width % first else width // first


def _repeat(values: Sequence[int], counts: Sequence[int]) -> list[int]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def _unknown(name: str, value: tuple[int, ...], expected: str) -> ValueError:
    return ValueError(
        f"the decoder UNet's config.json says {name} {list(value)}, the host's UNet only knows "
        f"{expected}. Use the checkpoint's own diffusion-decoder, unchanged."
    )
