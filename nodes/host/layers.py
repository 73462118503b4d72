"""Layers of the host, as our networks need them."""

from types import SimpleNamespace
from typing import Any

import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blip3u_core.weights.quantized import QuantizedRows
from .placement import Placement


def layer_operations(placement: Placement) -> Any:
    """The host's layers that compute in another dtype than that of their weights."""
    if not placement.quantized:
        return comfy.ops.manual_cast
    config = SimpleNamespace(quant_config={"mixed_ops": True})
    base: Any = comfy.ops.pick_operations(
        None, placement.computing, load_device=placement.device, model_config=config
    )

    class Linear(base.Linear):
        """Takes its weights as they come; the host's own copies them to where it was built."""

        def __init__(self, *sizes: int, device: Any = None, **options: Any) -> None:
            super().__init__(*sizes, device="cpu", **options)

        def _load_from_state_dict(self, weights: dict, prefix: str, *rest: Any) -> None:
            if f"{prefix}comfy_quant" not in weights:
                self.factory_kwargs["dtype"] = weights[f"{prefix}weight"].dtype
            super()._load_from_state_dict(weights, prefix, *rest)

    class Operations(base):
        pass

    Operations.Linear = Linear
    return Operations


def build_in(config: Any, placement: Placement) -> None:
    """Tell the host's configuration of a diffusion model which dtypes and layers to build with."""
    config.set_inference_dtype(placement.network_dtype, placement.manual_cast)
    if placement.quantized:
        config.custom_operations = layer_operations(placement)


def with_token_table(base: Any) -> Any:
    """The host's operations, with a token table that is looked up where it lies."""

    class TokenTable(QuantizedRows, base.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            if self.quant_format is not None:
                return self.rows(ids)
            # Host: patches of an offloaded table (0.3.75; dynamic ones of 0.16) apply to all of it.
            if self.weight_function or getattr(self, "weight_lowvram_function", None):
                return super().forward(ids, out_dtype=torch.float32)
            return F.embedding(ids.to(self.weight.device), self.weight)

        def project(self, hidden: Tensor) -> Tensor:
            self.bias = None
            return _linear(self, hidden)

    class Operations(base):
        Embedding = TokenTable

    return Operations


def _linear(layer: Any, hidden: Tensor) -> Tensor:
    """`hidden` times the layer's weight, wherever the host keeps it."""
    host: Any = comfy.ops  # its own types leave two or three results open
    if not hasattr(host, "uncast_bias_weight"):  # Host: before 0.3.68
        weight, _ = host.cast_bias_weight(layer, hidden)
        return F.linear(hidden, weight)
    weight, bias, stream = host.cast_bias_weight(layer, hidden, offloadable=True)
    result = F.linear(hidden, weight)
    host.uncast_bias_weight(layer, weight, bias, stream)
    return result


class TorchOperations:
    """Torch's own layers by the names that the host's networks ask for; to read shapes from."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm

    @staticmethod
    def conv_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
        return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](*args, **kwargs)
