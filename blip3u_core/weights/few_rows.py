"""Products of few rows of activations with a matrix in 4 or 8 bits, read where it lies.

Decoding multiplies one row, or one a conversation, by every matrix. Hosts cast a matrix back to 16
bits first: in 4 bits, 0.56 bytes a number are read, 2 written and 2 read again. The kernel of
few_rows_kernel.py reads the 0.56 and no more. It needs Triton and an NVIDIA card of 8.0 or newer;
everything else is multiplied as before.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from .nvfp4 import BLOCK, nvfp4_rows, scales_shape

MOST_ROWS = 16  # what a tensor core multiplies at least; above, a cast costs less than it saves
_OLDEST_CARD = (8, 0)
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_CHECKED_ROWS = 256  # of a matrix; bounds the memory of a check
_SUM_ERROR = 2.0**-16  # of the sum of magnitudes, of float32 sums in any order


class QuantizedMatrix(NamedTuple):
    """A matrix (N, K) as `quantized.py` describes the formats, all on one device."""

    kind: str  # nvfp4 or int8_tensorwise
    numbers: Tensor  # (N, K / 2) uint8; or (N, K) int8
    scales: Tensor  # of blocks, `scales_shape`, float8; or of rows, (N, 1) float32
    scale: Tensor | None = None  # of all, float32; nvfp4 only

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        rows, columns = self.numbers.shape
        return rows, 2 * columns if self.kind == "nvfp4" else columns

    def rows(self, which: Tensor) -> Tensor:
        """Some rows (R, K), float32, of their indices (R,)."""
        numbers = self.numbers[which]
        if self.scale is not None:
            return nvfp4_rows(numbers, self.scales, self.scale, which)
        return numbers.float() * self.scales[which]


Kernel = Callable[[Tensor, QuantizedMatrix, Tensor | None], Tensor]


class KernelFailed(RuntimeError):
    """The kernel could not be compiled or started."""


class FewRows:
    """One network's products of few rows.

    The kernel's first product of every shape is compared with the plain one. A kernel that fails or
    differs by more than rounding is not used again, and the log says so once.

    Args: kernel: x (M, K), matrix and bias to (M, N); None for none.
    """

    def __init__(self, kernel: Kernel | None) -> None:
        self._kernel = kernel
        self._trusted: set[tuple[object, ...]] = set()

    def takes(self, x: Tensor) -> bool:
        """Whether x (..., K) is one for the kernel, as far as can be said without the matrix."""
        return (
            self._kernel is not None
            and x.dtype in _DTYPES
            and 0 < x.numel() <= MOST_ROWS * x.shape[-1]
            and not (x.requires_grad and torch.is_grad_enabled())
            and not torch.compiler.is_compiling()
        )

    def product(self, x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> Tensor | None:
        """x W^T + b, (..., N) in the dtype of x (..., K); None if it must be had in another way.

        Nothing waits for the device but the first product of a shape; none is tried for the first
        time while a CUDA graph is captured.
        """
        kernel = self._kernel
        if kernel is None or not self.takes(x) or not fits(x, matrix, bias):
            return None
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        shape = (*x.shape[:-1], matrix.shape[0])
        seen = _variant(rows, matrix, bias)
        if seen in self._trusted:
            return kernel(rows, matrix, bias).view(shape)
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            return None
        try:
            y = _started(kernel, rows, matrix, bias)
            error = excess(y, rows, matrix, bias)
        except KernelFailed as failure:
            self._give_up(f"cannot be made here ({failure})")
            return None
        if error > 1:
            self._give_up(
                f"is wrong here: it differs by {error:.3g} times what rounding may do for a matrix "
                f"{matrix.shape} in {matrix.kind}"
            )
            return None
        self._trusted.add(seen)
        return y.view(shape)

    def _give_up(self, why: str) -> None:
        self._kernel = None
        logging.warning(
            "BLIP3-U: the fast product of few rows with 4 or 8 bits %s. It stays off: answers are "
            "the same and take longer. Please report it with your card and the versions of torch "
            "and triton.",
            why,
        )


def fits(x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> bool:
    """Whether the kernel can multiply x (..., K) by this matrix."""
    num_out, num_columns = matrix.shape
    scales = (num_out, 1)
    if matrix.kind == "nvfp4":
        scales = scales_shape(num_out, num_columns)
    parts = [
        part for part in (matrix.numbers, matrix.scales, matrix.scale, bias) if part is not None
    ]
    return (
        x.shape[-1] == num_columns
        and tuple(matrix.scales.shape) == scales
        and (matrix.scale is not None and num_columns % BLOCK == 0) == (matrix.kind == "nvfp4")
        and all(part.device == x.device and part.is_contiguous() for part in parts)
    )


def kernel_for(device: torch.device) -> Kernel | None:
    """The kernel for a device; None where there is none."""
    if device.type != "cuda" or torch.version.cuda is None or find_spec("triton") is None:
        return None
    if torch.cuda.get_device_capability(device) < _OLDEST_CARD:
        return None
    try:
        from .few_rows_kernel import multiply
    except ImportError:  # a Triton that does not fit this torch
        return None
    return multiply


def excess(y: Tensor, x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> float:
    """The largest difference of y from the plain product, in units of what rounding may do.

    Looks at some rows of the matrix, from its first to its last.
    """
    num_out = matrix.shape[0]
    count = min(num_out, _CHECKED_ROWS)
    some = torch.arange(count, device=x.device) * (num_out - 1) // max(count - 1, 1)
    # In float64: a host may have float32 products rounded (TF32).
    weights, given = matrix.rows(some).double(), x.double()
    plain, magnitude = given @ weights.T, given.abs() @ weights.abs().T
    if bias is not None:
        plain = plain + bias[some].double()
    allowed = plain.abs() * torch.finfo(y.dtype).eps + magnitude * _SUM_ERROR
    ratio = (y[:, some].double() - plain).abs() / allowed.clamp(min=torch.finfo(torch.float32).tiny)
    # What overflows does so either way; what is not a number where it should be counts as wrong.
    fits_dtype = plain.to(y.dtype).isfinite()
    return float(torch.where(fits_dtype, ratio.nan_to_num(torch.inf), 0.0).max())


def _variant(x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> tuple[object, ...]:
    """What a kernel is compiled for; whether pointers are multiples of 16 is part of that."""
    parts = (x, matrix.numbers, matrix.scales, matrix.scale, bias)
    aligned = tuple(part is not None and part.data_ptr() % 16 == 0 for part in parts)
    return matrix.kind, matrix.shape, x.dtype, x.device, len(x), bias is not None, aligned


def _started(kernel: Kernel, x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> Tensor:
    """Triton needs a compiler, a driver and a card it knows: it may fail in as many ways."""
    try:
        return kernel(x, matrix, bias)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise KernelFailed(f"{type(error).__name__}: {first[:200]}") from error
