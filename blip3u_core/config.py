"""The numbers of a network, read from its checkpoint: never from a file name, never guessed."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

MAX_LAYERS = 1000
MAX_SIZE = 1 << 24  # wider than any vocabulary


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


def feature_grid(config: Mapping[str, Any]) -> int:
    """Side of the square feature grid: as many features as there are latent queries.

    Raises: ValueError if `n_query` is missing or no square.
    """
    num_queries = config.get("n_query")
    if not isinstance(num_queries, int) or not 0 < num_queries <= MAX_SIZE:
        raise ValueError(
            f"config.json says n_query {num_queries!r}, expected the number of latent queries "
            "(64 in the published checkpoints). Download config.json again."
        )
    side = math.isqrt(num_queries)
    if side * side != num_queries:
        raise ValueError(
            f"config.json says n_query {num_queries}, expected a square number: the features "
            "form a square grid. Download config.json again."
        )
    return side


def count_layers(shapes: Shapes, name: str) -> int:
    """How many numbered children `name` has: one more than the highest number, 0 for none."""
    pattern = re.compile(rf"{re.escape(name)}\.(\d+)\.")
    found = [int(match[1]) for match in map(pattern.match, shapes) if match]
    return max(found, default=-1) + 1


def check_language_config(config: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    """Compare the sizes in config.json with the weights, before anything is built from them.

    Raises: ValueError naming the first number that differs.
    """
    check_sizes(config, where)
    vision = config.get("vision_config") or {}
    vocab_size, hidden_size = shapes.get("model.embed_tokens.weight", (None, None))
    said_and_found = [
        ("hidden_size", config.get("hidden_size"), hidden_size),
        ("vocab_size", config.get("vocab_size"), vocab_size),
        (
            "num_hidden_layers",
            config.get("num_hidden_layers"),
            count_layers(shapes, "model.layers"),
        ),
        ("vision_config.depth", vision.get("depth"), count_layers(shapes, "visual.blocks")),
    ]
    for name, said, found in said_and_found:
        if said != found:
            raise ValueError(
                f"{where} says {name} {said!r}, but the weights beside it have {found!r}. Config "
                "and weights must come from the same checkpoint: download both again."
            )


def check_sizes(config: Mapping[str, Any], where: str) -> None:
    """Refuse sizes that no network has, so that a broken config never asks for the memory.

    Raises: ValueError naming the key and its value.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_sizes(value, where)
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int):
                continue
            limit = MAX_LAYERS if "layers" in key or key == "depth" else MAX_SIZE
            if key.endswith(_SIZE_ENDINGS) and not 0 <= number <= limit:
                raise ValueError(
                    f"{where} says {key} {number}, expected a size between 0 and {limit}. The "
                    "file is damaged or not a model's: download it again."
                )


_SIZE_ENDINGS = ("size", "layers", "depth", "heads", "dim", "channels", "n_query", "per_block")
