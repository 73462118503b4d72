"""The sizes of the DiT, read from its weights: never from a file name, never guessed."""

from collections.abc import Mapping
from typing import Any

from pydantic.dataclasses import dataclass

from ..weights.config import STRICT, Layers, Positive, Size, feature_grid, read_config
from ..weights.json_files import source_of
from ..weights.sizes import Shapes, count_layers, shape_of


@dataclass(frozen=True, config=STRICT)
class NextDiTConfig:
    """NextDiT with cross-attention, Lumina-Next (Zhuo et al. 2024). Comments: the published 8B."""

    in_channels: Size  # C, 1792
    dim: Size  # 1792
    num_layers: Layers  # 24
    num_heads: Size  # 28
    num_kv_heads: Size  # 28
    ffn_dim: Size  # 4864; users' files say so, newer libraries would compute 7168
    condition_dim: Size  # D, 3584
    input_size: Size  # side of the feature grid, 8
    time_dim: int = 0  # width of the time embedding; 0 = the reference's min(dim, 1024)
    frequency_dim: Size = 256  # width of the sinusoid
    norm_eps: Positive = 1e-5
    rope_theta: Positive = 10_000.0

    def __post_init__(self) -> None:
        if not self.time_dim:
            object.__setattr__(self, "time_dim", min(self.dim, 1024))
        if self.dim % self.num_heads or self.head_dim % 4 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"width {self.dim} with {self.num_heads} heads and {self.num_kv_heads} key-value "
                "heads; expected heads that divide the width into multiples of 4 (two axes of "
                "rotated pairs) and key-value heads that divide the heads"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @classmethod
    def from_shapes(cls, shapes: Shapes, config: Mapping[str, Any]) -> "NextDiTConfig":
        """Read every width off the weights; `config` (config.json) only gives the grid.

        Raises: ValueError if the weights are not those of a NextDiT.
        """

        def shape(name: str, axes: int = 2) -> tuple[int, ...]:
            return shape_of(shapes, name, axes, "feature DiT")

        (num_heads,) = shape("layers.0.gate", axes=1)
        dim, in_channels = shape("patch_embedder.proj.weight")
        time_dim, frequency_dim = shape("time_caption_embed.timestep_embedder.linear_1.weight")
        sizes = {
            "in_channels": in_channels,
            "dim": dim,
            "num_layers": count_layers(shapes, "layers"),
            "num_heads": num_heads,
            "num_kv_heads": max(1, shape("layers.0.attn1.to_k.weight")[0] * num_heads // dim),
            "ffn_dim": shape("layers.0.feed_forward.linear_1.weight")[0],
            "condition_dim": shape("caption_projection.linear_1.weight")[1],
            "input_size": feature_grid(config),
            "time_dim": time_dim,
            "frequency_dim": frequency_dim,
        }
        return read_config(cls, sizes, source_of(shapes, "the feature DiT's weights"))
