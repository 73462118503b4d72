"""All stages of a checkpoint at once, for the sockets of one node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from ...blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint
from .decoder import load_decoder
from .dit import load_dit
from .llm import load_llm
from .parts import MissingPart
from .paths import find_checkpoint
from .vae import load_vae

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}


def load_checkpoint(name: str, weight_dtype: str) -> tuple[Any, Any, Any, Any]:
    """LLM, DiT, decoder and VAE of the checkpoint called `name`.

    A part that is missing or broken is a `MissingPart`, which stops only who uses it.

    Raises: FileNotFoundError if there is no such checkpoint, ValueError if it cannot be opened.
    """
    checkpoint = open_checkpoint(find_checkpoint(name))
    dtype = WEIGHT_DTYPES[weight_dtype]
    return (
        load_llm(checkpoint, dtype),
        part_or_missing("DiT", load_dit, checkpoint, dtype),
        part_or_missing("decoder", load_decoder, checkpoint, dtype),
        part_or_missing("VAE", load_vae, checkpoint, dtype),
    )


def part_or_missing(
    name: str,
    load: Callable[[Checkpoint, torch.dtype | None], Any],
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
) -> Any:
    """The stage, or in its place what says why it is not there."""
    try:
        return load(checkpoint, dtype)
    except FileNotFoundError as error:
        return MissingPart(error)
    except ValueError as error:
        logging.warning("BLIP3-U: the %s of %s cannot be used: %s", name, checkpoint.name, error)
        return MissingPart(error)
