"""Networks with random weights at the sizes that the benchmarks name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blip3u_core.language.model import LanguageModel, build_language_model
from blip3u_core.weights.checkpoint import Stage, open_checkpoint
from blip3u_core.weights.reader import TensorInfo

RANDOM_TINY = Path(__file__).parents[2] / "tests" / "golden" / "oracle" / "checkpoint"


@dataclass(frozen=True)
class LanguageSize:
    """Sizes of a language model; the rest is as in the golden set's checkpoint."""

    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    inner: int
    vocabulary: int
    vision_layers: int
    vision_width: int

    def config(self, base: Mapping[str, Any]) -> dict[str, Any]:
        eighth = self.width // self.num_heads // 8
        return {
            **base,
            "hidden_size": self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "rope_scaling": {"type": "default", "mrope_section": [eighth * i for i in (1, 1, 2)]},
            "vision_config": {
                **base["vision_config"],
                "depth": self.vision_layers,
                "hidden_size": self.vision_width,
                "intermediate_size": 4 * self.vision_width,
                "num_heads": self.vision_width // 64 or 1,
                "out_hidden_size": self.width,
                "fullatt_block_indexes": [self.vision_layers - 1],
            },
        }


LANGUAGE = LanguageSize(12, 1024, 16, 4, 2816, 32768, 4, 256)
LANGUAGE_MINIMAL = LanguageSize(2, 64, 4, 2, 96, 1024, 2, 32)


@dataclass(frozen=True)
class StageInMemory(Stage):
    """A stage of a checkpoint that was never on a disk."""

    weights: Mapping[str, Tensor]

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.weights)


def stage_in_memory(
    name: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> StageInMemory:
    source = Path("random weights")
    tensors = {
        key: TensorInfo(source, key, tuple(weight.shape), weight.dtype)
        for key, weight in weights.items()
    }
    return StageInMemory(name, config, tensors, source, {}, weights)


def language_model(size: LanguageSize, dtype: torch.dtype) -> LanguageModel:
    """A language model of that size that never ends an answer by itself."""
    golden = open_checkpoint(RANDOM_TINY)
    config = size.config(json.loads((RANDOM_TINY / "config.json").read_text(encoding="utf-8")))
    empty = LanguageModel(config, config["n_query"], golden.assets, {}, dtype)
    weights = random_weights(empty, dtype)
    stage = stage_in_memory("llm", config, weights)
    llm = build_language_model(stage, golden.assets, {}, dtype)
    llm.eos_token_ids = frozenset()
    return llm


def random_weights(network: torch.nn.Module, dtype: torch.dtype, seed: int = 0) -> dict:
    """Matrices that keep the size of their input on average, gains near 1, small biases."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            fan_in = tensor[0].numel()
            weights[name] = (noise / fan_in**0.5).to(dtype)
        else:
            weights[name] = (0.1 * noise + (name.endswith("weight"))).to(dtype)
    return weights
