"""How much memory a stage takes: estimated and said before it loads, read from the host after."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP

from ...blip3u_core.language.context import Context
from ...blip3u_core.language.generate import LOOK_EVERY
from ...blip3u_core.language.model import LanguageModel
from ...blip3u_core.language.steps import ALIGNED
from ...blip3u_core.memory_report import fit_message, peak_message
from ...blip3u_core.weights.precision import fits_8_bits
from ...blip3u_core.weights.stage import Stage
from .placement import Placement

MEGA = 1024**2
_WORKING_COPIES = 8  # of one layer's activations that live at once
_SCORES = 12  # float32 rows of the vocabulary at once, where tokens are drawn; places count double


def reading_bytes(llm: LanguageModel, contexts: Sequence[Context], new_tokens: int) -> int:
    """Memory beside the weights: keys and values, activations, scores, the vision tower's work."""
    text, vision, size = llm.config, llm.image_config.vision, llm.dtype.itemsize
    batch, longest = len(contexts), max(len(context) for context in contexts)
    length = longest + max(new_tokens, llm.num_queries) + ALIGNED  # as room is rounded up
    cached = 2 * text.num_layers * text.num_kv_heads * text.head_dim * size
    read = longest + llm.num_queries
    activations = (_WORKING_COPIES * text.hidden_size + 3 * text.intermediate_size) * size
    masks = batch * longest * longest if batch > 1 else 0
    scores = (_SCORES + LOOK_EVERY) * text.vocab_size * 4  # and what draws the next tokens
    patches = max((p.num_patches for context in contexts for p in context.pictures), default=0)
    looking = patches * (_WORKING_COPIES * vision.hidden_size + 3 * vision.intermediate_size)
    return int(
        batch * (length * cached + read * activations + scores)
        + masks
        + looking * 4
        + patches * vision.patch_values * 4
    )


def free_bytes(device: torch.device) -> int:
    """What the host counts as free on a device."""
    host: Any = comfy.model_management  # its own type says a pair, which only a flag gives
    return int(host.get_free_memory(device))


def report_fit(
    part: str, patcher: ModelPatcher, placement: Placement, stage: Stage, work_bytes: int = 0
) -> None:
    """Log `fit_message` for a model that is about to be loaded; small ones need no word."""
    needed = patcher.model_size() + work_bytes
    if needed <= 256 * MEGA:
        return
    dtype = placement.working or placement.stored
    saved = sum(
        prod(info.shape) * (dtype.itemsize - 1)
        for name, info in stage.tensors.items()
        if fits_8_bits(stage.name, name, len(info.shape))
    )
    name, free = str(dtype).removeprefix("torch."), free_bytes(placement.device)
    logging.info(
        "BLIP3-U %s", fit_message(part, name, needed, free, needed - saved if saved else None)
    )


def counts_peaks(device: torch.device) -> bool:
    return device.type == "cuda"


@contextmanager
def reported_peak(part: str, patcher: ModelPatcher) -> Iterator[None]:
    """Log what the device held at most while a stage ran, where torch counts it."""
    device = patcher.load_device
    counted = counts_peaks(device)
    if counted:
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if counted:
        peak = torch.cuda.max_memory_allocated(device)
        message = peak_message(part, peak, patcher.loaded_size(), patcher.model_size())
        logging.info("BLIP3-U %s", message)


def report_samplings(part: str, patcher: ModelPatcher) -> None:
    """Have every sampling of this MODEL report its peak, whichever node asks for it."""

    def sample(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
        guider: Any = executor.class_obj
        with reported_peak(part, guider.model_patcher):
            return executor(*args, **kwargs)

    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "blip3u_peak", sample)
