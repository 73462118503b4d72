"""How much memory a language model's work takes, and a word to the user before it is loaded."""

import logging
from collections.abc import Sequence

import comfy.model_management
import torch

from ...blip3u_core.context import Context
from ...blip3u_core.fit import fit_message
from ...blip3u_core.qwen import LanguageModel

MEGA = 1024**2
_WORKING_COPIES = 6  # of one layer's activations that live at once


def reading_bytes(llm: LanguageModel, contexts: Sequence[Context], new_tokens: int) -> int:
    """Memory beside the weights: keys and values, activations, scores, the vision tower's work."""
    text, vision, size = llm.config, llm.pictures.vision, llm.dtype.itemsize
    batch, longest = len(contexts), max(len(context) for context in contexts)
    length = longest + max(new_tokens, llm.num_queries)
    cached = 2 * text.num_layers * text.num_kv_heads * text.head_dim * size
    activations = (_WORKING_COPIES * text.hidden_size + 3 * text.intermediate_size) * size
    masks = batch * longest * longest if batch > 1 else 0
    scores = 3 * text.vocab_size * 4
    patches = max((p.num_patches for context in contexts for p in context.pictures), default=0)
    looking = patches * (_WORKING_COPIES * vision.hidden_size + 3 * vision.intermediate_size)
    return int(
        batch * (length * cached + longest * activations + scores)
        + masks
        + looking * 4
        + patches * vision.patch_values * 4
    )


def free_bytes(device: torch.device) -> int:
    return int(comfy.model_management.get_free_memory(device))


def report_fit(part: str, dtype: str, needed: int, device: torch.device, fp8: int | None) -> None:
    """Log `fit_message` for a model that is about to be loaded; small ones need no word."""
    if needed > 256 * MEGA:
        logging.info("BLIP3-U %s", fit_message(part, dtype, needed, free_bytes(device), fp8))
