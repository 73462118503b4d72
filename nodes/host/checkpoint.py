"""All stages of a checkpoint at once, for the sockets of one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint
from .decoder import load_decoder
from .dit import load_dit
from .llm import load_llm
from .paths import find_checkpoint
from .vae import load_vae

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}


class MissingPart:
    """Stands on a socket whose stage the checkpoint lacks; whoever uses it is told."""

    def __init__(self, error: FileNotFoundError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "get_ram_usage":  # the host's cache looks around
            raise AttributeError(name)
        raise FileNotFoundError(str(self._error))


def load_checkpoint(name: str, weight_dtype: str) -> tuple[Any, Any, Any, Any]:
    """LLM, DiT, decoder and VAE of the checkpoint called `name`.

    Raises: FileNotFoundError if there is no such checkpoint, ValueError if a part is broken.
    """
    checkpoint = open_checkpoint(find_checkpoint(name))
    dtype = WEIGHT_DTYPES[weight_dtype]
    loaders = (load_llm, load_dit, load_decoder, load_vae)
    llm, dit, decoder, vae = (part_or_missing(load, checkpoint, dtype) for load in loaders)
    return llm, dit, decoder, vae


def part_or_missing(
    load: Callable[[Checkpoint, torch.dtype | None], Any],
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
) -> Any:
    """The stage, or in its place what says that it is missing."""
    try:
        return load(checkpoint, dtype)
    except FileNotFoundError as error:
        return MissingPart(error)
