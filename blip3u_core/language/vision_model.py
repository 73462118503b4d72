"""The language model's vision encoder: patches of pictures to embeddings in the text model's width.

Most layers attend within windows of 112 pixels, a few over the whole picture; then each square of
neighbouring patches becomes one token. Pictures of any number and size are read in one pass.
Source: Qwen2.5-VL technical report, section 2.1; the names are those of published weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import VisionConfig
from .text_model import PlainOperations, SwiGLU, both_halves, rotate_halves

Grid = tuple[int, int]  # rows and columns of patches
Groups = list[Tensor]  # each (groups, patches): the patches that attend to one another

_EPS = 1e-6  # of every norm; not in config.json
_ROPE_THETA = 10000.0


def patch_positions(grid: Grid, merge: int) -> Tensor:
    """Row and column of each patch, (N, 2), square of merged patches by square."""
    rows = torch.arange(grid[0]).view(-1, 1).expand(grid)
    columns = torch.arange(grid[1]).view(1, -1).expand(grid)
    positions = torch.stack((rows, columns), dim=-1)
    return rearrange(positions, "(r m) (c n) two -> (r c m n) two", m=merge, n=merge)


def attention_groups(labels: Tensor) -> Groups:
    """Patches with the same label see one another; groups of one size are computed together."""
    order = torch.argsort(labels, stable=True)
    sizes = torch.unique_consecutive(labels[order], return_counts=True)[1].tolist()
    by_size = defaultdict(list)
    for size, members in zip(sizes, order.split(sizes), strict=True):
        by_size[size].append(members)
    return [torch.stack(members) for members in by_size.values()]


def window_labels(grid: Grid, config: VisionConfig) -> Tensor:
    """The attention window of each patch of one picture, (N,)."""
    side = config.merge_size * (config.window_size // config.merge_size // config.patch_size)
    rows, columns = (patch_positions(grid, config.merge_size) // side).unbind(-1)
    return rows * (-(-grid[1] // side)) + columns


def attend(q: Tensor, k: Tensor, v: Tensor, groups: Groups) -> Tensor:
    """Softmax attention inside each group; (N, H, d) each, as is the result."""
    out = torch.empty_like(q)
    for members in groups:
        gq, gk, gv = (x[members].transpose(1, 2) for x in (q, k, v))  # (groups, H, patches, d)
        out[members] = F.scaled_dot_product_attention(gq, gk, gv).transpose(1, 2)
    return out


class VisionAttention(nn.Module):
    """Attention among the patches of one window or one picture."""

    def __init__(self, config: VisionConfig, options: Any, operations: Any) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        width = config.hidden_size
        self.qkv = operations.Linear(width, 3 * width, bias=True, **options)
        self.proj = operations.Linear(width, width, bias=True, **options)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], groups: Groups) -> Tensor:
        """(N, width) to (N, width); patches attend within their group."""
        q, k, v = self.qkv(x).view(x.shape[0], 3, self.num_heads, -1).unbind(1)  # (N, H, d)
        q, k = (rotate_halves(y.float(), *rope).to(v.dtype) for y in (q, k))
        return self.proj(attend(q, k, v, groups).flatten(1))


class VisionLayer(nn.Module):
    """Attention and feed-forward, each behind its norm and beside the residual."""

    def __init__(self, config: VisionConfig, options: Any, operations: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = operations.RMSNorm(width, eps=_EPS, **options)
        self.norm2 = operations.RMSNorm(width, eps=_EPS, **options)
        self.attn = VisionAttention(config, options, operations)
        self.mlp = SwiGLU(width, config.intermediate_size, True, options, operations)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], groups: Groups) -> Tensor:
        """(N, width) to (N, width)."""
        x = x + self.attn(self.norm1(x), rope, groups)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """One matrix product: a convolution whose stride is its kernel."""

    def __init__(self, config: VisionConfig, options: Any, operations: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(
            config.patch_values, config.hidden_size, bias=False, **options
        )


class PatchMerger(nn.Module):
    """Squares of merged patches to one embedding each, in the text model's width."""

    def __init__(self, config: VisionConfig, options: Any, operations: Any) -> None:
        super().__init__()
        self.width = config.hidden_size * config.merge_size**2
        self.ln_q = operations.RMSNorm(config.hidden_size, eps=_EPS, **options)
        self.mlp = nn.Sequential(
            operations.Linear(self.width, self.width, bias=True, **options),
            nn.GELU(),
            operations.Linear(self.width, config.out_size, bias=True, **options),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) to (N / merge^2, D)."""
        return self.mlp(self.ln_q(x).reshape(-1, self.width))


class VisionModel(nn.Module):
    """Patches to image embeddings."""

    def __init__(
        self,
        config: VisionConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = PlainOperations,
    ) -> None:
        super().__init__()
        self.config = config
        options = {"dtype": dtype, "device": device}
        self.patch_embed = PatchEmbed(config, options, operations)
        self.blocks = nn.ModuleList(
            VisionLayer(config, options, operations) for _ in range(config.num_layers)
        )
        self.merger = PatchMerger(config, options, operations)

    def forward(self, patches: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Read all pictures at once.

        Args:
            patches: (N, channels * frames * patch^2), the pictures one behind the other, each
                square of merged patches by square.
            grids: rows and columns of patches of each picture.

        Returns: (N / merge^2, D), in the same order.
        """
        config = self.config
        rope = self._rope(grids, patches.device)
        whole, windows = self._groups(grids, patches.device)
        x = self.patch_embed.proj(patches)
        for index, block in enumerate(self.blocks):
            x = block(x, rope, whole if index in config.full_attention_layers else windows)
        return self.merger(x)

    def _rope(self, grids: Sequence[Grid], device: torch.device) -> tuple[Tensor, Tensor]:
        """Tables (N, 1, d): of a half's pairs, the former turn with the row, the latter with the
        column."""
        quarter = self.config.hidden_size // self.config.num_heads // 4
        powers = torch.arange(quarter, dtype=torch.float32, device=device) / quarter
        positions = torch.cat([patch_positions(grid, self.config.merge_size) for grid in grids])
        angles = positions.to(device)[..., None] * _ROPE_THETA**-powers  # (N, 2, d/4)
        angles = angles.flatten(1).unsqueeze(1)
        return both_halves(angles)

    def _groups(self, grids: Sequence[Grid], device: torch.device) -> tuple[Groups, Groups]:
        """Who attends to whom: within whole pictures, and within windows."""
        whole, windows, num_windows = [], [], 0
        for index, grid in enumerate(grids):
            labels = window_labels(grid, self.config)
            whole.append(torch.full_like(labels, index))
            windows.append(labels + num_windows)
            num_windows += int(labels.max()) + 1
        both = (attention_groups(torch.cat(labels)) for labels in (whole, windows))
        whole_groups, window_groups = ([members.to(device) for members in g] for g in both)
        return whole_groups, window_groups
