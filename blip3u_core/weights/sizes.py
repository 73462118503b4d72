"""Sizes that config.json states, compared with the weights before anything is built from them."""

import math
import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

MAX_LAYERS = 1000
MAX_SIZE = 1 << 24  # wider than any vocabulary


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
