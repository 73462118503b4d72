"""Quantised matrices by the host's own layouts: 8 or 4 bits a number, and scales beside them.

A quantised layer holds, beside `weight`, `comfy_quant` (JSON that names the format) and its scales:

- float8_e4m3fn: w = q s, one scale a matrix, float32
- int8_tensorwise: w = q s, one scale a row, (out, 1) float32
- nvfp4: w = q s_block s, two numbers of 4 bits a byte, a block of 16 shares an 8-bit scale

Source: ComfyUI's QUANTIZATION.md and comfy/quant_ops.py at 0.33.0.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .nvfp4 import (
    BLOCK,
    SLAB,
    dequantize_nvfp4,
    nvfp4_rows,
    quantize_nvfp4,
    row_maxima,
    scales_shape,
)
from .precision import Role, role_of


class Formats(NamedTuple):
    """Of layers' matrices, and of what is beside them and must not lose as much."""

    matrix: str
    beside: str


FORMATS = {
    "fp8_scaled": Formats("float8_e4m3fn", "float8_e4m3fn"),
    "int8": Formats("int8_tensorwise", "int8_tensorwise"),
    "nvfp4": Formats("nvfp4", "int8_tensorwise"),
}
MARK = ".comfy_quant"
EXTRAS = (MARK, ".weight_scale", ".weight_scale_2", ".input_scale", ".pre_quant_scale")

_KNOWN = tuple(dict.fromkeys(name for pair in FORMATS.values() for name in pair))
_FP8_MAX, _INT8_MAX = 448.0, 127
_TINY = torch.finfo(torch.float32).tiny  # the least scale, of a matrix of zeros

Entry = tuple[torch.dtype, tuple[int, ...]]


def layer_of(name: str) -> str:
    """The layer that owns a weight: its name without the last part."""
    return name.rpartition(".")[0]


def format_of(mark: Tensor, layer: str, where: str) -> str:
    """The format that a layer's `comfy_quant` names. Raises ValueError for any other."""
    try:
        found = json.loads(bytes(mark.tolist()))["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{where}: {layer}{MARK} is not JSON with a format ({error}). The file is damaged: "
            "convert or download it again."
        ) from error
    if found not in _KNOWN:
        raise ValueError(
            f"{where}: {layer} is quantised as {found!r}, expected one of "
            f"{', '.join(_KNOWN)}. Convert the original with `python -m "
            "blip3u_core.convert --weight-dtype int8`."
        )
    return found


def logical_shape(kind: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The matrix' shape (out, in), of that of its stored numbers."""
    return (stored[0], 2 * stored[1]) if kind == "nvfp4" and len(stored) == 2 else stored


class Quantizer:
    """Makes quantised layers of a stage's weights, for `write_safetensors`.

    Args:
        kind: of FORMATS.
        tied: whether the stage's token table is its output layer as well.
    """

    def __init__(self, stage: str, kind: str, tied: bool = False) -> None:
        self.stage = stage
        self.formats = FORMATS[kind]
        self.tied = tied

    def entries(self, name: str, weight: Tensor) -> dict[str, Entry]:
        """Dtype and shape by name of what `make` gives."""
        role = role_of(self.stage, name, weight.ndim, self.tied)
        if role is None:
            return {name: (weight.dtype, tuple(weight.shape))}
        (rows, columns), kind = weight.shape, self._format(role, weight)
        mark = {layer_of(name) + MARK: (torch.uint8, tuple(_mark(kind, role).shape))}
        scale, second = f"{name}_scale", f"{name}_scale_2"
        if kind == "nvfp4":
            return mark | {
                name: (torch.uint8, (rows, columns // 2)),
                scale: (torch.float8_e4m3fn, scales_shape(rows, columns)),
                second: (torch.float32, ()),
            }
        if kind == "int8_tensorwise":
            return mark | {name: (torch.int8, (rows, columns)), scale: (torch.float32, (rows, 1))}
        return mark | {name: (torch.float8_e4m3fn, (rows, columns)), scale: (torch.float32, ())}

    def make(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """The layer's tensors, of a matrix (out, in); other weights as they came."""
        role = role_of(self.stage, name, weight.ndim, self.tied)
        if role is None:
            return {name: weight}
        kind, scale = self._format(role, weight), f"{name}_scale"
        parts = {layer_of(name) + MARK: _mark(kind, role)}
        if kind == "nvfp4":
            numbers, blocks, whole = quantize_nvfp4(weight)
            return parts | {name: numbers, scale: blocks, f"{name}_scale_2": whole}
        by_row = kind == "int8_tensorwise"
        most, dtype = (_INT8_MAX, torch.int8) if by_row else (_FP8_MAX, torch.float8_e4m3fn)
        maxima = row_maxima(weight)[:, None]
        scales = ((maxima if by_row else maxima.amax()) / most).clamp(min=_TINY)
        numbers = torch.empty(weight.shape, dtype=dtype)
        slabs = (each.split(SLAB) for each in (numbers, weight, scales.expand(len(weight), 1)))
        for target, rows, divisor in zip(*slabs, strict=True):
            quotients = (rows.float() / divisor).clamp(-most, most)
            target.copy_(quotients.round() if by_row else quotients)
        return parts | {name: numbers, scale: scales}

    def _format(self, role: Role, weight: Tensor) -> str:
        multiplied = weight.shape[role == "table" :]  # rows of a table are only looked up
        odd = self.formats.matrix == "nvfp4" and any(side % BLOCK for side in multiplied)
        return self.formats.beside if role == "beside" or odd else self.formats.matrix


def _mark(kind: str, role: Role) -> Tensor:
    """A layer's `comfy_quant`. Only layers' own matrices have their inputs rounded as well."""
    settings: dict[str, object] = {"format": kind}
    if role in ("beside", "projection") and kind != "int8_tensorwise":
        settings["full_precision_matrix_mult"] = True
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def dequantize(kind: str, layer: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """The matrix (out, in) of a quantised layer, float32.

    Raises: ValueError if a scale is missing.
    """
    try:
        numbers, scale = tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"]
        if kind == "nvfp4":
            return dequantize_nvfp4(numbers, scale, tensors[f"{layer}.weight_scale_2"])
    except KeyError as error:
        raise ValueError(
            f"{layer} is quantised as {kind}, but {error} is missing beside it. The file is "
            "damaged: convert or download it again."
        ) from error
    return numbers.float() * scale.float()


class QuantizedRows:
    """Mixin of a token table (`nn.Embedding`) that may be quantised: looks up rows, no product.

    It keeps the numbers and their scales as they lie in the file, on whichever device each is.
    """

    quant_format: str | None = None
    weight: Tensor
    weight_scale: Tensor
    weight_scale_2: Tensor

    def _load_from_state_dict(self, weights: dict, prefix: str, *rest: Any) -> None:
        mark = weights.pop(prefix + MARK[1:], None)
        if mark is None:
            parent: Any = super()
            parent._load_from_state_dict(weights, prefix, *rest)
            return
        self.quant_format = format_of(mark, prefix[:-1], "the token table")
        for part in ("weight", "weight_scale", "weight_scale_2"):
            if prefix + part in weights:
                given = nn.Parameter(weights[prefix + part], requires_grad=False)
                cast(nn.Module, self).register_parameter(part, given)

    def rows(self, ids: Tensor) -> Tensor:
        """Rows (..., D), float32, of token ids (...)."""
        numbers = self.weight[ids.to(self.weight.device)]
        at_scale = ids.to(self.weight_scale.device)
        if self.quant_format == "nvfp4":
            return nvfp4_rows(numbers, self.weight_scale, self.weight_scale_2, at_scale)
        scale = self.weight_scale
        scale = scale[at_scale] if scale.ndim == 2 else scale
        return numbers.to(scale.device).float() * scale
