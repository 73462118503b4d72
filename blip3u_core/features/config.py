"""The sizes of the DiT, read from its weights: never from a file name, never guessed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..weights.sizes import Shapes, count_layers, feature_grid


@dataclass(frozen=True)
class NextDiTConfig:
    """NextDiT with cross-attention, Lumina-Next (Zhuo et al. 2024). Comments: the published 8B."""

    in_channels: int  # C, 1792
    dim: int  # 1792
    num_layers: int  # 24
    num_heads: int  # 28
    num_kv_heads: int  # 28
    ffn_dim: int  # 4864; users' files say so, newer libraries would compute 7168
    condition_dim: int  # D, 3584
    input_size: int  # side of the feature grid, 8
    time_dim: int = 0  # width of the time embedding; 0 = the reference's min(dim, 1024)
    frequency_dim: int = 256  # width of the sinusoid
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    def __post_init__(self):
        if not self.time_dim:
            object.__setattr__(self, "time_dim", min(self.dim, 1024))
        if self.dim % self.num_heads or self.head_dim % 4 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"width {self.dim} with {self.num_heads} heads and {self.num_kv_heads} key-value "
                "heads; expected heads that divide the width into multiples of 4 (two axes of "
                "rotated pairs) and key-value heads that divide the heads."
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
        try:
            (num_heads,) = shapes["layers.0.gate"]
            dim, in_channels = shapes["patch_embedder.proj.weight"]
            kv_dim, _ = shapes["layers.0.attn1.to_k.weight"]
            ffn_dim, _ = shapes["layers.0.feed_forward.linear_1.weight"]
            _, condition_dim = shapes["caption_projection.linear_1.weight"]
            time_dim, frequency_dim = shapes["time_caption_embed.timestep_embedder.linear_1.weight"]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"These {len(shapes)} weights are not those of the feature DiT ({error} is "
                "missing or has another shape). Use an unchanged BLIP3-U checkpoint."
            ) from error
        return cls(
            in_channels=in_channels,
            dim=dim,
            num_layers=count_layers(shapes, "layers"),
            num_heads=num_heads,
            num_kv_heads=max(1, kv_dim * num_heads // dim),
            ffn_dim=ffn_dim,
            condition_dim=condition_dim,
            input_size=feature_grid(config),
            time_dim=time_dim,
            frequency_dim=frequency_dim,
        )
