"""Matrices in 4 bits: numbers of one sign, two exponent and one mantissa bit, in blocks of 16.

    w = q s_block s,  q in {0, .5, 1, 1.5, 2, 3, 4, 6} and their negatives

`s_block` takes 8 bits (e4m3), `s` is one float32 for the matrix. The first number of a pair lies in
a byte's upper half; block scales lie as cuBLAS reads them: tiles of 128 rows and 4 blocks, in a
tile row r at (r mod 32, r div 32).
Source: NVIDIA's NVFP4 as ComfyUI's comfy-kitchen writes it; cuBLAS, "1D block scaling factors".
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 16  # numbers of a row that share a scale
_ROWS, _COLUMNS, _QUARTER = 128, 4, 32  # of a tile of scales
_MOST, _MOST_SCALE = 6.0, 448.0
_LEAST = torch.finfo(torch.float32).tiny  # the least scale, of a matrix of zeros
SLAB = 8192  # rows at a time; bounds the memory for a token table

_VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
# Between neighbours, where a number in the middle goes to the one with an even code.
_BOUNDS = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
_BOUNDS[1::2] = torch.nextafter(_BOUNDS[1::2], torch.zeros(()))


def row_maxima(weight: Tensor) -> Tensor:
    """The largest magnitude in each row of (R, C), (R,) float32."""
    return torch.cat([rows.float().abs().amax(dim=1) for rows in weight.split(SLAB)])


def scales_shape(rows: int, columns: int) -> tuple[int, int]:
    """Of the block scales of a matrix (rows, columns), padded to whole tiles."""
    return _up(rows, _ROWS), _up(columns // BLOCK, _COLUMNS)


def quantize_nvfp4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers (R, C/2) uint8, block scales of `scales_shape`, float8, and the scale, float32.

    Args: weight: (R, C) floating, C a multiple of 16.
    """
    scale = (row_maxima(weight).amax() / (_MOST * _MOST_SCALE)).clamp(min=_LEAST)
    parts = [_quantize_rows(rows.float(), scale) for rows in weight.split(SLAB)]
    numbers, scales = (torch.cat(part) for part in zip(*parts, strict=True))
    return numbers, _tiled(scales), scale


def dequantize_nvfp4(numbers: Tensor, scales: Tensor, scale: Tensor) -> Tensor:
    """The matrix (R, C), float32, of what `quantize_nvfp4` gives."""
    rows = torch.arange(len(numbers), device=numbers.device)
    return torch.cat([nvfp4_rows(numbers[some], scales, scale, some) for some in rows.split(SLAB)])


def nvfp4_rows(numbers: Tensor, scales: Tensor, scale: Tensor, rows: Tensor) -> Tensor:
    """Some rows (..., C) of a matrix, float32, of their numbers (..., C/2).

    Args: rows: which they are in the matrix, (...), where `scales` lie.
    """
    halves = torch.stack((numbers >> 4, numbers & 15), dim=-1).flatten(-2)  # (..., C)
    values = torch.cat((_VALUES, -_VALUES)).to(numbers.device)[halves.int()]
    num_blocks = halves.shape[-1] // BLOCK
    block = torch.arange(num_blocks, device=rows.device)
    row = rows[..., None]
    tiles = scales.numel() // (_ROWS * _COLUMNS) // -(-len(scales) // _ROWS)  # beside one another
    tile = row // _ROWS * tiles + block // _COLUMNS
    inside = row % _QUARTER * 16 + row % _ROWS // _QUARTER * _COLUMNS + block % _COLUMNS
    place = tile * (_ROWS * _COLUMNS) + inside
    found = scales.view(torch.uint8).flatten()[place].view(torch.float8_e4m3fn).float() * scale
    blocks = values.unflatten(-1, (num_blocks, BLOCK)) * found.to(values.device)[..., None]
    return blocks.flatten(-2)


def _quantize_rows(rows: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (R, C/2) and block scales (R, C/16) of rows (R, C), float32."""
    blocks = rows.unflatten(1, (-1, BLOCK))
    wanted = blocks.abs().amax(dim=-1) / _MOST / scale
    scales = wanted.clamp(max=_MOST_SCALE).to(torch.float8_e4m3fn)
    total = (scales.float() * scale)[..., None]
    quotients = torch.where(total > 0, blocks / total, 0.0).flatten(1)
    codes = torch.bucketize(quotients.abs(), _BOUNDS.to(rows.device), out_int32=True)
    codes = (codes + 8 * torch.signbit(quotients)).to(torch.uint8)
    return codes[:, ::2] << 4 | codes[:, 1::2], scales


def _tiled(scales: Tensor) -> Tensor:
    """Block scales (R, blocks) in the order of cuBLAS, padded with zeros to `scales_shape`."""
    rows, columns = scales_shape(len(scales), scales.shape[1] * BLOCK)
    short = (0, columns - scales.shape[1], 0, rows - scales.shape[0])
    padded = pad(scales.view(torch.uint8), short)
    tiles = padded.view(rows // _ROWS, 4, _QUARTER, columns // _COLUMNS, _COLUMNS)
    ordered = tiles.permute(0, 3, 2, 1, 4).reshape(rows, columns)
    return ordered.view(torch.float8_e4m3fn)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
