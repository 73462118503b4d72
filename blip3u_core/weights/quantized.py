"""Quantised matrices by the host's own layouts: 8 or 4 bits a number, and scales beside them.

A quantised layer holds, beside `weight`, `comfy_quant` (JSON that names the format) and its scales:

- float8_e4m3fn: w = q s, one scale a matrix, float32
- int8_tensorwise: w = q s, one scale a row, (out, 1) float32
- nvfp4: w = q s_block s, two numbers of 4 bits a byte, a block of 16 shares an 8-bit scale

Source: ComfyUI's QUANTIZATION.md and comfy/quant_ops.py at 0.33.0.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from .precision import fits_8_bits

FORMATS = {"fp8_scaled": "float8_e4m3fn", "int8": "int8_tensorwise", "nvfp4": "nvfp4"}
MARK = ".comfy_quant"
EXTRAS = (MARK, ".weight_scale", ".weight_scale_2", ".input_scale", ".pre_quant_scale")

_BLOCK = 16  # numbers that share a scale in nvfp4; both sides of a matrix are multiples of it
_FP8_MAX, _FP4_MAX, _INT8_MAX = 448.0, 6.0, 127
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
    if found not in FORMATS.values():
        raise ValueError(
            f"{where}: {layer} is quantised as {found!r}, expected one of "
            f"{', '.join(FORMATS.values())}. Convert the original with `python -m "
            "blip3u_core.convert --weight-dtype int8`."
        )
    return found


def logical_shape(kind: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The matrix' shape (out, in), of that of its stored numbers."""
    return (stored[0], 2 * stored[1]) if kind == "nvfp4" and len(stored) == 2 else stored


class Quantizer:
    """Makes quantised layers of a stage's matrices, for `write_safetensors`."""

    def __init__(self, stage: str, kind: str) -> None:
        self.stage = stage
        self.kind = kind
        self._mark = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
        if kind == "nvfp4":
            comfy_kitchen()

    def entries(self, name: str, weight: Tensor) -> dict[str, Entry]:
        """Dtype and shape by name of what `make` gives."""
        if not self._takes(name, weight):
            return {name: (weight.dtype, tuple(weight.shape))}
        rows, columns = weight.shape
        mark = {layer_of(name) + MARK: (torch.uint8, tuple(self._mark.shape))}
        scale, second = f"{name}_scale", f"{name}_scale_2"
        if self.kind == "nvfp4":
            blocks = (_up(rows, 128), _up(columns // _BLOCK, 4))
            return mark | {
                name: (torch.uint8, (rows, columns // 2)),
                scale: (torch.float8_e4m3fn, blocks),
                second: (torch.float32, ()),
            }
        if self.kind == "int8_tensorwise":
            return mark | {name: (torch.int8, (rows, columns)), scale: (torch.float32, (rows, 1))}
        return mark | {name: (torch.float8_e4m3fn, (rows, columns)), scale: (torch.float32, ())}

    def make(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """The layer's tensors, of a matrix (out, in); other weights as they came."""
        if not self._takes(name, weight):
            return {name: weight}
        exact, layer = weight.float(), layer_of(name)
        parts = {MARK: self._mark}
        if self.kind == "nvfp4":
            scale = (exact.abs().amax() / (_FP8_MAX * _FP4_MAX)).clamp(min=_TINY)
            numbers, blocks = comfy_kitchen().quantize_nvfp4(exact, scale, pad_16x=False)
            parts |= {".weight": numbers, ".weight_scale": blocks, ".weight_scale_2": scale}
        elif self.kind == "int8_tensorwise":
            scale = (exact.abs().amax(dim=1, keepdim=True) / _INT8_MAX).clamp(min=_TINY)
            numbers = (exact / scale).round().clamp(-_INT8_MAX, _INT8_MAX).to(torch.int8)
            parts |= {".weight": numbers, ".weight_scale": scale}
        else:
            scale = (exact.abs().amax() / _FP8_MAX).clamp(min=_TINY)
            numbers = (exact / scale).clamp(-_FP8_MAX, _FP8_MAX).to(torch.float8_e4m3fn)
            parts |= {".weight": numbers, ".weight_scale": scale}
        return {layer + suffix: part for suffix, part in parts.items()}

    def _takes(self, name: str, weight: Tensor) -> bool:
        if not fits_8_bits(self.stage, name, weight.ndim):
            return False
        return self.kind != "nvfp4" or not any(side % _BLOCK for side in weight.shape)


def dequantize(kind: str, layer: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """The matrix (out, in) of a quantised layer, float32.

    Raises: ValueError if a scale is missing, or nvfp4 cannot be read without comfy-kitchen.
    """
    try:
        numbers, scale = tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"]
        if kind == "nvfp4":
            second = tensors[f"{layer}.weight_scale_2"]
            blocks = scale.view(torch.float8_e4m3fn)
            return comfy_kitchen().dequantize_nvfp4(numbers, second, blocks, torch.float32)
    except KeyError as error:
        raise ValueError(
            f"{layer} is quantised as {kind}, but {error} is missing beside it. The file is "
            "damaged: convert or download it again."
        ) from error
    return numbers.float() * scale.float()


def comfy_kitchen() -> ModuleType:
    """ComfyUI's kernels, which alone know 4 bits. Raises ValueError where they are missing."""
    try:
        kernels = import_module("comfy_kitchen")
    except ImportError as error:
        raise ValueError(
            "nvfp4 needs the package comfy-kitchen, which is missing here. Install it (newer "
            "ComfyUIs bring it), or use fp8_scaled or int8."
        ) from error
    return kernels


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
