"""The language model under the host's memory management: loaded, offloaded and freed by it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.chat.dialogue import ChatModel
from ...blip3u_core.language.context import Context
from ...blip3u_core.language.generate import SamplingParams
from ...blip3u_core.language.model import (
    LanguageModel,
    assign_language_weights,
    empty_language_model,
)
from ...blip3u_core.language.visual_tokens import visual_tokens
from ...blip3u_core.weights.checkpoint import Checkpoint
from ...blip3u_core.weights.few_rows import FewRows, kernel_for
from .layers import layer_operations, with_few_rows, with_token_table
from .memory import free_bytes, reading_bytes, report_fit, reported_peak
from .patchers import patcher_for, weights_stay
from .placement import Placement, keep, main_dtype
from .progress import TextStream, check_interrupted

_LARGEST_PREFIX_CACHE = 1024**3  # bytes; a quarter of the free memory if that is less


def load_llm(checkpoint: Checkpoint, weight_dtype: torch.dtype | None) -> "HostedLanguageModel":
    """What travels over a BLIP3U_LLM socket. Nothing is read before a node uses it.

    Args: weight_dtype: how weights are kept; None leaves it to host and checkpoint.
    """
    return HostedLanguageModel(checkpoint, weight_dtype)


class HostedLanguageModel:
    """A language model that the host may move; `at_work` holds it where it computes.

    The host looks at what sockets carry at any time. Looking builds nothing and raises nothing.
    """

    def __init__(self, checkpoint: Checkpoint, weight_dtype: torch.dtype | None) -> None:
        self.checkpoint = checkpoint
        self.weight_dtype = weight_dtype
        self._patcher: ModelPatcher | None = None
        self._placement: Placement | None = None

    def get_models(self) -> list[ModelPatcher]:
        """Host: whose memory it counts and may free; asked of what sockets carry (0.29)."""
        return [] if self._patcher is None else [self._patcher]

    def is_dynamic(self) -> bool:
        """Host: whether it can free the memory page by page, so that no cache needs to (0.29)."""
        return all(getattr(patcher, "is_dynamic", bool)() for patcher in self.get_models())

    def open(self) -> ModelPatcher:
        """The patcher around the network, which is built when first asked for.

        Raises: FileNotFoundError or ValueError if the language model is missing or broken.
        """
        if self._patcher is None:
            self._placement = place_language_model(self.checkpoint, self.weight_dtype)
            model = _build(self.checkpoint, self._placement)
            self._patcher = patcher_for(model, self._placement, ForgettingPrefixes)
        return self._patcher

    def network(self) -> LanguageModel:
        """The network, wherever it lies; to read texts and sizes, not to compute with."""
        return self.open().model

    @contextmanager
    def at_work(self, contexts: Sequence[Context], new_tokens: int = 0) -> Iterator[None]:
        """Have the host load the weights, with room to read `contexts` and write `new_tokens`."""
        check_interrupted()
        patcher, llm = self.open(), self.network()
        needed = reading_bytes(llm, contexts, new_tokens)
        if patcher.loaded_size() == 0 and self._placement is not None:
            report_fit("language model", patcher, self._placement, self.checkpoint.llm, needed)
        management.load_models_gpu([patcher], memory_required=needed)
        # Host: the patches' identity stands for the weights; a move changes the device.
        llm.prefix_cache.bind((patcher.patches_uuid, llm.device, llm.dtype))
        llm.weights_stay = weights_stay(patcher)
        free = free_bytes(patcher.load_device)
        llm.prefix_cache.budget_bytes = min(_LARGEST_PREFIX_CACHE, free // 4)
        with reported_peak("language model", patcher):
            yield

    def chat_model(self, sampling: SamplingParams, stream: TextStream | None = None) -> ChatModel:
        """The model as `dialogue` and `reason` want it: answers stream to the running node."""
        llm = self.network()
        on_token = stream or TextStream()
        return ChatModel(llm, sampling, on_token, llm.prefix_cache, self.at_work)

    def visual_tokens(self, contexts: Sequence[Context]) -> Tensor:
        """Visual tokens (B, Q, D) of contexts to draw from, where the host keeps such results.

        No prefix that was read before is reused: a picture is the same to the last bit whatever
        ran before it.
        """
        with self.at_work(contexts):
            tokens = visual_tokens(self.network(), contexts)
        return tokens.to(management.intermediate_device(), torch.float32)


class ForgettingPrefixes:
    """What was remembered of dialogues leaves together with the weights."""

    model: LanguageModel

    def detach(self, unpatch_all: bool = True) -> Any:
        # Host: before every run it detaches a loaded model for a moment, weights and all (0.3.68).
        if unpatch_all:
            self.model.prefix_cache.clear()
        host: Any = super()
        return host.detach(unpatch_all)

    def partially_unload(self, *args: Any, **kwargs: Any) -> Any:
        self.model.prefix_cache.clear()
        host: Any = super()
        return host.partially_unload(*args, **kwargs)


def place_language_model(checkpoint: Checkpoint, weight_dtype: torch.dtype | None) -> Placement:
    """The dtype asked for; else bf16 where the device is good at it (fp16 can overflow)."""
    device = management.get_torch_device()
    kept, quantized = keep(checkpoint.llm, weight_dtype)
    stored = kept or main_dtype(checkpoint.llm)
    if weight_dtype is None or weight_dtype.itemsize == 1:
        computing = torch.bfloat16 if management.should_use_bf16(device) else torch.float32
    else:
        computing = weight_dtype
    return Placement(
        device=device,
        offload_device=management.unet_offload_device(),
        stored=stored,
        kept=kept,
        working=computing if weight_dtype is None and stored.itemsize > 1 else None,
        computing=computing,
        quantized=quantized,
    )


def _build(checkpoint: Checkpoint, placement: Placement) -> LanguageModel:
    operations = layer_operations(placement)
    if placement.quantized:
        operations = with_few_rows(operations, FewRows(kernel_for(placement.device)))
    llm = empty_language_model(
        checkpoint.llm,
        checkpoint.assets,
        checkpoint.generation_config,
        placement.computing,
        with_token_table(operations),
    )
    assign_language_weights(llm, checkpoint.llm, placement.kept, placement.quantized)
    return llm
