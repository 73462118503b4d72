"""Ways to run one stage on a device: as it is, as a CUDA graph, compiled, in 8 bits, in 4.

From torch alone. In 8 bits activations are rounded as well (one scale a matrix), and the card
multiplies 8 bits by 8; in 4 bits weights only (one scale for up to 128 numbers of a row), and each
product makes them whole again as it reads them: less to read, not less to compute. An answer's
token, one row, also by our own kernel, in the formats of our quantised files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blip3u_core.language.cuda_graph import record
from blip3u_core.weights.few_rows import FewRows, QuantizedMatrix, kernel_for
from blip3u_core.weights.nvfp4 import quantize_nvfp4
from blip3u_core.weights.precision import fits_8_bits

Run = Callable[[], object]

_FP8, _FP8_MAX = torch.float8_e4m3fn, 448.0
_INT4_MAX = 7
_GROUPS = (128, 64, 32)  # numbers of a row that share a scale: the largest that fits
_INNER_TILES = 8  # how the kernel for cards wants 4 bits packed: 128 columns at a time


@dataclass(frozen=True)
class Built:
    """A stage with random weights on a device."""

    run: Run
    network: nn.Module
    part: str = ""  # by whose rule its matrices may be small; "" for none
    prefix: str = ""  # of its weights' names in a checkpoint
    few_rows: bool = False  # whether it multiplies one row by every matrix
    step: Run | None = None  # what a graph is made of, if not of `run`
    steady: bool = True  # whether a call prepares nothing on the host, which no graph could hold

    def matrices(self) -> dict[str, nn.Linear]:
        """The layers that may be small, by name."""
        return {
            name: layer
            for name, layer in self.network.named_modules()
            if isinstance(layer, nn.Linear)
            and fits_8_bits(self.part, f"{self.prefix}{name}.weight", layer.weight.ndim)
        }


class Fp8Linear(nn.Module):
    """x W^T + b, by the card's own product of 8-bit floats."""

    num_bytes = 1.0  # of a number

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.scale = _rounded(layer.weight)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        small, scale = _rounded(x.flatten(0, -2))
        out = torch._scaled_mm(
            small, self.weight.t(), scale, self.scale, bias=self.bias, out_dtype=x.dtype
        )
        return out.unflatten(0, x.shape[:-1])


class Int4Linear(nn.Module):
    """x W^T + b with W in 4 bits, by torch's kernel for weights alone."""

    num_bytes = 0.5 + 4 / _GROUPS[0]  # scale and offset of a group in 16 bits each

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        rows, columns = layer.weight.shape
        self.group = next(size for size in _GROUPS if columns % size == 0)
        groups = layer.weight.float().unflatten(1, (-1, self.group))
        scales = (groups.abs().amax(-1, keepdim=True) / _INT4_MAX).clamp(min=1e-30)
        codes = ((groups / scales).round() + 8).to(torch.int32).flatten(1)  # 1 to 15
        if layer.weight.is_cuda:
            pairs = (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8)
            self.packed = torch._convert_weight_to_int4pack(pairs, _INNER_TILES)
        else:
            self.packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
        both = torch.stack((scales[..., 0], torch.zeros_like(scales[..., 0])), -1)
        self.scales = both.transpose(0, 1).contiguous().to(torch.bfloat16)  # (groups, out, 2)
        self.bias, self.shape = layer.bias, (rows, columns)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        kernel: Any = torch._weight_int4pack_mm
        if not x.is_cuda:
            kernel = torch._weight_int4pack_mm_for_cpu
        out = kernel(x.flatten(0, -2).contiguous(), self.packed, self.group, self.scales)
        out = out.unflatten(0, x.shape[:-1])
        return out if self.bias is None else out + self.bias


class FewRowsLinear(nn.Module):
    """x W^T + b by our kernel, which reads W in a format of our quantised files."""

    num_bytes: float

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.matrix, self.bias = self.quantise(layer.weight), layer.bias
        self.products = FewRows(kernel_for(layer.weight.device))

    @staticmethod
    def quantise(weight: Tensor) -> QuantizedMatrix:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out). Raises RuntimeError where the kernel is off."""
        y = self.products.product(x, self.matrix, self.bias)
        if y is None:
            raise RuntimeError("the product of few rows is off, see the log")
        return y


class NvFp4Rows(FewRowsLinear):
    num_bytes = 0.5 + 1 / 16

    @staticmethod
    def quantise(weight: Tensor) -> QuantizedMatrix:
        return QuantizedMatrix("nvfp4", *quantize_nvfp4(weight))


class Int8Rows(FewRowsLinear):
    num_bytes = 1.0

    @staticmethod
    def quantise(weight: Tensor) -> QuantizedMatrix:
        scales = (weight.float().abs().amax(1, keepdim=True) / 127).clamp(min=1e-30)
        return QuantizedMatrix("int8_tensorwise", (weight / scales).round().to(torch.int8), scales)


EAGER, GRAPH, COMPILED = "eager", "CUDA graph", "compiled"
SMALL = {"fp8": Fp8Linear, "4 bit": Int4Linear, "nvfp4": NvFp4Rows, "int8": Int8Rows}


def why_not(way: str, built: Built, device: torch.device) -> str | None:
    """Why a way cannot be tried on a device; None if it can."""
    if way in SMALL and not built.matrices():
        return "it has no matrices that may be small"
    if way == GRAPH and not built.steady:
        return "it sorts patches into windows on the host"
    if way in ("nvfp4", "int8"):
        if not built.few_rows:
            return "the kernel is for few rows, as of an answer's tokens"
        if kernel_for(device) is None:
            return "needs Triton and an NVIDIA card of compute capability 8.0"
    if device.type != "cuda":
        return "needs a card" if way in (GRAPH, COMPILED) else None
    capability = torch.cuda.get_device_capability(device)
    if way == "fp8" and capability < (8, 9):
        return f"needs compute capability 8.9, this card has {'.'.join(map(str, capability))}"
    if way == "4 bit" and capability < (8, 0):
        return f"needs compute capability 8.0, this card has {'.'.join(map(str, capability))}"
    return None


def shrink(built: Built, kind: str) -> int:
    """Put small layers in the place of a stage's matrices; how many numbers those have."""
    count = 0
    for name, layer in built.matrices().items():
        rows, columns = layer.weight.shape
        if rows % 16 or columns % (_GROUPS[0] if layer.weight.is_cuda else _GROUPS[-1]):
            continue
        owner, _, last = name.rpartition(".")
        setattr(built.network.get_submodule(owner), last, SMALL[kind](layer))
        count += rows * columns
    return count


def as_graph(run: Run) -> Run:
    """The same kernels, launched at once, as steps of answers are."""
    return record(run, torch.device("cuda", torch.cuda.current_device()))


def compiled(run: Run) -> Run:
    """The same work in fewer kernels, which the first call makes."""
    return torch.compile(run)


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """In 8 bits, with the scale that makes it whole again."""
    scale = (x.abs().amax().float() / _FP8_MAX).clamp(min=1e-12)
    return (x / scale).clamp(-_FP8_MAX, _FP8_MAX).to(_FP8), scale
