"""Kernels for x W^T + b with few rows of x, that read W in 4 or 8 bits and widen it in registers.

Imported only where Triton is. Decoding a token moves every weight once and computes little, so what
counts is that W crosses the memory as it lies. One row is multiplied and summed by ordinary
arithmetic in float32; 2 to 16 rows go through the tensor cores, filled up to 16.

No precision is lost on the way there: a number of 4 bits (2 significant) times its block's scale
(e4m3, 4 significant) and one of 8 bits both fit bfloat16's and float16's 8 and 11 significant bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .few_rows import QuantizedMatrix

_GROUPS = 32  # blocks of 16 numbers that a program reads at a time
_COLUMNS = 512  # in 8 bits
_ROWS_OF_ONE, _ROWS_OF_MANY = 8, 32  # of W in a program
_WARPS = 4

# Numbers and scales are read as float16 with the exponent's bits in place but not its bias.
_FP4_BIAS, _E4M3_BIAS = tl.constexpr(2.0**14), tl.constexpr(2.0**8)


def multiply(x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> Tensor:
    """x W^T + b, (M, N) in the dtype of x (M, K), contiguous, M at most 16; sums in float32."""
    num_rows, num_columns = x.shape
    num_out = len(matrix.numbers)
    y = torch.empty(num_rows, num_out, dtype=x.dtype, device=x.device)
    one = num_rows == 1
    block = _ROWS_OF_ONE if one else _ROWS_OF_MANY
    grid = (triton.cdiv(num_out, block),)
    scales = matrix.scales.view(torch.uint8) if matrix.kind == "nvfp4" else matrix.scales
    common = (x, matrix.numbers, scales)
    sizes = (num_rows, num_out, num_columns)
    options: dict[str, Any] = {"HAS_BIAS": bias is not None, "BLOCK_N": block, "num_warps": _WARPS}
    bias = x if bias is None else bias  # a pointer that is not read
    with torch.cuda.device_of(x):  # Triton starts kernels on the current device
        if matrix.kind == "nvfp4":
            grid = (triton.cdiv(num_out, 128) * (128 // block),)
            tiles = triton.cdiv(num_columns // 16, 4)
            kernel, options["GROUPS"] = (
                (_nvfp4_row, _GROUPS) if one else (_nvfp4_rows, _GROUPS // 2)
            )
            kernel[grid](*common, matrix.scale, bias, y, *sizes, tiles, **options)
        else:
            kernel, options["BLOCK_K"] = (
                (_int8_row, _COLUMNS) if one else (_int8_rows, _COLUMNS // 4)
            )
            kernel[grid](*common, bias, y, *sizes, **options)
    return y


@triton.jit
def _upper(pairs):
    """The numbers in the upper halves of bytes, times 2^-14, float32."""
    signed = pairs.to(tl.int8, bitcast=True).to(tl.int32)  # the sign stands in every bit above
    half = ((signed << 5) & 0x8E00).to(tl.uint16)
    return half.to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _lower(pairs):
    """The numbers in the lower halves of bytes, times 2^-14, float32."""
    signed = pairs.to(tl.int32) << 28
    half = ((signed >> 19) & 0x8E00).to(tl.uint16)
    return half.to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _block_scales(scales, row, group, tiles, here):
    """Scales (rows, groups) of e4m3, times 2^-8, float32: tiles as nvfp4.py has them."""
    tile = (row // 128)[:, None] * tiles + (group // 4)[None, :]
    inside = (row % 32 * 16 + row % 128 // 32 * 4)[:, None] + (group % 4)[None, :]
    # By hand: not every card that has bfloat16 converts 8-bit floats.
    code = tl.load(scales + tile.to(tl.int64) * 512 + inside, mask=here, other=0).to(tl.uint16)
    half = ((code & 0x80) << 8) | ((code & 0x7F) << 7)
    return half.to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _tiled_rows(part, BLOCK_N: tl.constexpr):
    """A program's rows of W: those whose scales lie side by side, four of each quarter tile."""
    i = tl.arange(0, BLOCK_N)
    parts = 128 // BLOCK_N
    return part // parts * 128 + i % 4 * 32 + part % parts * (BLOCK_N // 4) + i // 4


@triton.jit
def _nvfp4_row(
    x,
    numbers,
    scales,
    scale,
    bias,
    y,
    num_rows,
    num_out,
    num_columns,
    tiles,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    GROUPS: tl.constexpr,
):
    row = _tiled_rows(tl.program_id(0), BLOCK_N)
    inside = row < num_out
    line = numbers + row.to(tl.int64) * (num_columns // 2)
    pair, sixteen = tl.arange(0, 8), tl.arange(0, 16)
    num_groups = num_columns // 16
    total = tl.zeros((BLOCK_N, GROUPS), tl.float32)
    for start in range(0, num_groups, GROUPS):
        group = start + tl.arange(0, GROUPS)
        here = inside[:, None] & (group < num_groups)[None, :]
        place = group[:, None] * 8 + pair[None, :]
        pairs = tl.load(
            line[:, None, None] + place[None, :, :], mask=here[:, :, None], other=0
        )  # (BLOCK_N, GROUPS, 8)
        there = group[:, None] * 16 + sixteen[None, :]
        given = tl.load(x + there, mask=(group < num_groups)[:, None], other=0.0)
        even, odd = tl.split(given.to(tl.float32).reshape(GROUPS, 8, 2))
        products = _upper(pairs) * even[None, :, :] + _lower(pairs) * odd[None, :, :]
        total += tl.sum(products, axis=2) * _block_scales(scales, row, group, tiles, here)
    result = tl.sum(total, axis=1) * (tl.load(scale) * (_FP4_BIAS * _E4M3_BIAS))
    if HAS_BIAS:
        result += tl.load(bias + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row, result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _nvfp4_rows(
    x,
    numbers,
    scales,
    scale,
    bias,
    y,
    num_rows,
    num_out,
    num_columns,
    tiles,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    GROUPS: tl.constexpr,
):
    row = _tiled_rows(tl.program_id(0), BLOCK_N)
    inside = row < num_out
    m = tl.arange(0, 16)
    line = numbers + row.to(tl.int64) * (num_columns // 2)
    num_groups = num_columns // 16
    total = tl.zeros((16, BLOCK_N), tl.float32)
    for start in range(0, num_groups, GROUPS):
        group = start + tl.arange(0, GROUPS)
        here = inside[:, None] & (group < num_groups)[None, :]
        place = start * 8 + tl.arange(0, GROUPS * 8)
        pairs = tl.load(
            line[:, None] + place[None, :],
            mask=inside[:, None] & (place < num_groups * 8)[None, :],
            other=0,
        )  # (BLOCK_N, GROUPS * 8)
        factor = _block_scales(scales, row, group, tiles, here) * (_FP4_BIAS * _E4M3_BIAS)
        factor = tl.broadcast_to(factor[:, :, None], (BLOCK_N, GROUPS, 8))
        factor = factor.reshape(BLOCK_N, GROUPS * 8)
        there = start * 16 + tl.arange(0, GROUPS * 16)
        given = tl.load(
            x + m[:, None] * num_columns + there[None, :],
            mask=(m < num_rows)[:, None] & (there < num_columns)[None, :],
            other=0.0,
        )  # (16, GROUPS * 16)
        even, odd = tl.split(given.reshape(16, GROUPS * 8, 2))
        upper, lower = (
            (_upper(pairs) * factor).to(even.dtype),
            (_lower(pairs) * factor).to(odd.dtype),
        )
        total = tl.dot(even, tl.trans(upper), total, input_precision="ieee")
        total = tl.dot(odd, tl.trans(lower), total, input_precision="ieee")
    result = total * tl.load(scale)
    if HAS_BIAS:
        result += tl.load(bias + row, mask=inside, other=0.0).to(tl.float32)[None, :]
    target = y + m[:, None] * num_out + row[None, :]
    tl.store(target, result.to(y.dtype.element_ty), mask=(m < num_rows)[:, None] & inside[None, :])


@triton.jit
def _int8_row(
    x,
    numbers,
    scales,
    bias,
    y,
    num_rows,
    num_out,
    num_columns,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = row < num_out
    line = numbers + row.to(tl.int64) * num_columns
    total = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for start in range(0, num_columns, BLOCK_K):
        column = start + tl.arange(0, BLOCK_K)
        here = column < num_columns
        weights = tl.load(
            line[:, None] + column[None, :], mask=inside[:, None] & here[None, :], other=0
        )
        given = tl.load(x + column, mask=here, other=0.0).to(tl.float32)
        total += weights.to(tl.float32) * given[None, :]
    result = tl.sum(total, axis=1) * tl.load(scales + row, mask=inside, other=0.0)
    if HAS_BIAS:
        result += tl.load(bias + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row, result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _int8_rows(
    x,
    numbers,
    scales,
    bias,
    y,
    num_rows,
    num_out,
    num_columns,
    HAS_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = row < num_out
    m = tl.arange(0, 16)
    line = numbers + row.to(tl.int64) * num_columns
    total = tl.zeros((16, BLOCK_N), tl.float32)
    for start in range(0, num_columns, BLOCK_K):
        column = start + tl.arange(0, BLOCK_K)
        here = column < num_columns
        weights = tl.load(
            line[:, None] + column[None, :], mask=inside[:, None] & here[None, :], other=0
        )  # (BLOCK_N, BLOCK_K)
        given = tl.load(
            x + m[:, None] * num_columns + column[None, :],
            mask=(m < num_rows)[:, None] & here[None, :],
            other=0.0,
        )  # (16, BLOCK_K)
        wide = tl.trans(weights.to(given.dtype))
        total = tl.dot(given, wide, total, input_precision="ieee")
    result = total * tl.load(scales + row, mask=inside, other=0.0)[None, :]
    if HAS_BIAS:
        result += tl.load(bias + row, mask=inside, other=0.0).to(tl.float32)[None, :]
    target = y + m[:, None] * num_out + row[None, :]
    tl.store(target, result.to(y.dtype.element_ty), mask=(m < num_rows)[:, None] & inside[None, :])
