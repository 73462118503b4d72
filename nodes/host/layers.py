"""Layers of the host, as our networks need them."""

from types import SimpleNamespace
from typing import Any

import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blip3u_core.weights.few_rows import FewRows, QuantizedMatrix
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


def with_few_rows(base: Any, products: FewRows) -> Any:
    """The host's operations, whose quantised layers multiply few rows by our kernel if it runs.

    For a network that decodes: one row, or one a conversation, at every step.
    """

    class Linear(base.Linear):
        def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            result = None
            if products.takes(input) and _is_plain(self):
                result = _product(products, self, input)
            return super().forward(input, *args, **kwargs) if result is None else result

    class Operations(base):
        pass

    Operations.Linear = Linear
    return Operations


def _is_plain(layer: Any) -> bool:
    """Whether a layer is quantised, has nothing to add to its weight, and gains by our product.

    Of 4 bits it gains where the host casts the matrix: not on cards that multiply them.
    """
    kind = getattr(layer, "quant_format", None)
    gains = kind == "int8_tensorwise" or (kind == "nvfp4" and layer._full_precision_mm)
    lowvram = ("weight_lowvram_function", "bias_lowvram_function", "pre_quant_scale")
    return (
        gains
        and not (layer.weight_function or layer.bias_function)
        and not getattr(layer, "comfy_force_cast_weights", False)
        and all(getattr(layer, name, None) is None for name in lowvram)
    )


def _product(products: FewRows, layer: Any, input: Tensor) -> Tensor | None:
    """`input` times a quantised matrix as it lies, wherever the host keeps it; None for none."""
    host: Any = comfy.ops
    weight, bias, stream = host.cast_bias_weight(
        layer,
        dtype=layer.weight.dtype,
        device=input.device,
        bias_dtype=input.dtype,
        offloadable=True,
        want_requant=True,  # as it lies, not cast
    )
    matrix = (
        _matrix(layer.quant_format, weight) if isinstance(weight, host.QuantizedTensor) else None
    )
    result = None if matrix is None else products.product(input, matrix, bias)
    host.uncast_bias_weight(layer, weight, bias, stream)
    return result


def _matrix(kind: str, weight: Any) -> QuantizedMatrix | None:
    """What the host's quantised tensor holds; None for a turned or rotated one."""
    numbers, params = weight._qdata, weight._params  # Host: no public names (0.16 to 0.33)
    if getattr(params, "transposed", False) or getattr(params, "convrot", False):
        return None
    if kind == "nvfp4":
        return QuantizedMatrix(kind, numbers, params.block_scale, params.scale)
    return QuantizedMatrix(kind, numbers, params.scale)


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
