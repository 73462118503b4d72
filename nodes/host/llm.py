"""The language model under the host's memory management: loaded, offloaded and freed by it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import comfy.model_management as management
import comfy.ops
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.chat.dialogue import ChatModel
from ...blip3u_core.language.context import Context
from ...blip3u_core.language.generate import SamplingParams
from ...blip3u_core.language.model import LanguageModel, build_language_model
from ...blip3u_core.language.visual_tokens import visual_tokens
from ...blip3u_core.weights.checkpoint import Checkpoint
from .memory import free_bytes, reading_bytes, report_fit, reported_peak
from .progress import TextStream, check_interrupted

FP8 = torch.float8_e4m3fn
_LARGEST_PREFIX_CACHE = 1024**3  # bytes; a quarter of the free memory if that is less


def load_llm(checkpoint: Checkpoint, weight_dtype: torch.dtype | None) -> "HostedLanguageModel":
    """What travels over a BLIP3U_LLM socket. Nothing is read before a node uses it.

    Args: weight_dtype: how weights are kept; None leaves it to host and checkpoint.
    """
    return HostedLanguageModel(checkpoint, weight_dtype)


class HostedLanguageModel:
    """A language model that the host may move; `at_work` holds it where it computes."""

    def __init__(self, checkpoint: Checkpoint, weight_dtype: torch.dtype | None) -> None:
        self.checkpoint = checkpoint
        self.weight_dtype = weight_dtype

    @cached_property
    def patcher(self) -> "LanguageModelPatcher":
        """Raises FileNotFoundError or ValueError if the language model is missing or broken."""
        load_device = management.get_torch_device()
        offload_device = management.unet_offload_device()
        model = _build(self.checkpoint, self.weight_dtype, load_device)
        model.device = offload_device
        return LanguageModelPatcher(model, load_device=load_device, offload_device=offload_device)

    @property
    def model(self) -> LanguageModel:
        """The network, wherever it lies; to read texts and sizes, not to compute with."""
        return self.patcher.model

    @contextmanager
    def at_work(self, contexts: Sequence[Context], new_tokens: int = 0) -> Iterator[None]:
        """Have the host load the weights, with room to read `contexts` and write `new_tokens`."""
        check_interrupted()
        patcher, llm = self.patcher, self.model
        needed = reading_bytes(llm, contexts, new_tokens)
        if patcher.loaded_size() == 0:
            self._report_fit(needed)
        management.load_models_gpu([patcher], memory_required=needed)
        # Host: the patches' identity stands for the weights; a move changes the device.
        llm.prefix_cache.bind((patcher.patches_uuid, llm.device, llm.dtype))
        free = free_bytes(patcher.load_device)
        llm.prefix_cache.budget_bytes = min(_LARGEST_PREFIX_CACHE, free // 4)
        with reported_peak("language model", patcher):
            yield

    def chat_model(self, sampling: SamplingParams) -> ChatModel:
        """The model as `dialogue` and `reason` want it: answers stream to the running node."""
        return ChatModel(self.model, sampling, TextStream(), self.model.prefix_cache, self.at_work)

    def visual_tokens(self, contexts: Sequence[Context]) -> Tensor:
        """Visual tokens (B, Q, D) of contexts to draw from, where the host keeps such results."""
        with self.at_work(contexts):
            tokens = visual_tokens(self.model, contexts, self.model.prefix_cache)
        return tokens.to(management.intermediate_device(), torch.float32)

    def _report_fit(self, work_bytes: int) -> None:
        llm, device = self.model, self.patcher.load_device
        sizes = [(name, weight.numel(), weight.dtype) for name, weight in llm.named_parameters()]
        kept = next(dtype for name, _, dtype in sizes if name.endswith("q_proj.weight"))
        saved = sum(n * (dtype.itemsize - 1) for name, n, dtype in sizes if _fits_fp8(name))
        needed = self.patcher.model_size() + work_bytes
        name = str(kept).removeprefix("torch.")
        report_fit("language model", name, needed, device, needed - saved if saved else None)


class LanguageModelPatcher(ModelPatcher):
    """The host's patcher, for weights that are still on disk when they leave the device.

    What was remembered of dialogues leaves together with the weights.
    """

    def detach(self, *args: Any, **kwargs: Any) -> Any:
        self.model.prefix_cache.clear()
        return super().detach(*args, **kwargs)

    def partially_unload(self, *args: Any, **kwargs: Any) -> Any:
        self.model.prefix_cache.clear()
        return super().partially_unload(*args, **kwargs)

    def unpatch_model(
        self, device_to: torch.device | None = None, unpatch_weights: bool = True
    ) -> None:
        # Host: patched weights and pinned ones (0.3.75) are put back by the patcher itself.
        plain = unpatch_weights and not self.backup and not getattr(self, "pinned", None)
        if plain and device_to is not None and device_to.type == "cpu":
            self.model.put_back()
        super().unpatch_model(device_to, unpatch_weights)


def hosted_operations(base: Any) -> Any:
    """The host's layers, with a token table that is looked up where it lies."""

    class TokenTable(base.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            if self.weight_function:
                # Host: patches of an offloaded table (0.3.75) apply to the whole of it.
                return super().forward(ids, out_dtype=torch.float32)
            return F.embedding(ids.to(self.weight.device), self.weight)

        def project(self, hidden: Tensor) -> Tensor:
            self.bias = None
            weight, _ = comfy.ops.cast_bias_weight(self, hidden)
            return F.linear(hidden, weight)

    class Operations(base):
        Embedding = TokenTable

    return Operations


def _build(
    checkpoint: Checkpoint, weight_dtype: torch.dtype | None, device: torch.device
) -> LanguageModel:
    stage = checkpoint.llm
    compute = computing_dtype(weight_dtype, device)
    storage = storage_rule(weight_dtype, compute, stage.num_bytes, device)
    kept = {storage(name, dtype) for name, dtype in stage.dtypes().items()}
    casts = kept != {compute}
    logging.debug("BLIP3-U language model: kept in %s, computes in %s", kept, compute)
    base = comfy.ops.manual_cast if casts else comfy.ops.disable_weight_init
    model = build_language_model(
        stage,
        checkpoint.assets,
        checkpoint.generation_config,
        dtype=compute,
        operations=hosted_operations(base),
        storage_dtype=lambda name, weight: storage(name, weight.dtype),
    )
    model.mapped_weights = {
        name: weight.data
        for name, weight in model.named_parameters()
        if weight.dtype == stage.dtypes()[name]
    }
    return model


def computing_dtype(weight_dtype: torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype asked for; else bf16 where the device is good at it (fp16 can overflow)."""
    if weight_dtype is not None and weight_dtype != FP8:
        return weight_dtype
    return torch.bfloat16 if management.should_use_bf16(device) else torch.float32


def storage_rule(
    weight_dtype: torch.dtype | None, compute: torch.dtype, num_bytes: int, device: torch.device
) -> Callable[[str, torch.dtype], torch.dtype]:
    """In which dtype each named weight is kept.

    fp8 is for the matrices of the text layers. Left to us, weights stay as stored and memory-
    mapped; on a processor, which casts slowly, they become fp32 if they then take less than half
    of the free memory.
    """
    if weight_dtype == FP8:
        return lambda name, stored: FP8 if _fits_fp8(name) else stored
    if weight_dtype is not None:
        return lambda name, stored: weight_dtype
    on_processor = management.is_device_cpu(device)
    if on_processor and 2 * num_bytes < free_bytes(device) // 2:
        return lambda name, stored: compute
    return lambda name, stored: stored


def _fits_fp8(name: str) -> bool:
    return name.startswith("model.layers.") and name.endswith("_proj.weight")
