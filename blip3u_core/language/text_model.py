"""The text model: a causal transformer over embedded tokens, with rotary positions on three axes.

y_l = x_l + Attn(RMSNorm(x_l)),  x_{l+1} = y_l + SwiGLU(RMSNorm(y_l)); grouped key-value heads.
Source: Qwen2.5-VL technical report, section 2 (2025); the names are those of published weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import TextConfig


class TokenTable(nn.Embedding):
    """Token embeddings, which `project` uses as the output layer of a tied checkpoint."""

    def project(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocabulary) of hidden states (..., D), for a tied output layer."""
        return F.linear(hidden, self.weight)


class PlainOperations:
    """The layers to build from; a host brings its own that load and cast weights on demand."""

    Linear = nn.Linear
    RMSNorm = nn.RMSNorm
    Embedding = TokenTable


class KeyValueCache:
    """Keys and values of the tokens read so far, per layer; grows in place by doubling."""

    def __init__(self, num_layers: int) -> None:
        self.keys: list[Tensor] = [torch.empty(0)] * num_layers
        self.values: list[Tensor] = [torch.empty(0)] * num_layers
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, Hkv, L, d) behind the `length` known ones; all of them come back."""
        end = self.length + keys.shape[2]
        if self.keys[layer].numel() == 0 or end > self.keys[layer].shape[2]:
            self.keys[layer] = self._grown(self.keys[layer], keys, end)
            self.values[layer] = self._grown(self.values[layer], values, end)
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, count: int) -> None:
        """Take the `count` tokens that every layer has appended for read."""
        self.length += count

    def pad(self, capacity: int) -> None:
        """Have room for `capacity` tokens and no more, with zeros where none has been read."""
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
                new[:, :, : self.length] = old[:, :, : self.length]
                tensors[layer] = new

    @property
    def num_bytes(self) -> int:
        """Size of keys and values of all layers."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def prefix(self, length: int) -> KeyValueCache:
        """A copy of the first `length` tokens, without spare room."""
        part = KeyValueCache(len(self.keys))
        part.keys = [keys[:, :, :length].clone() for keys in self.keys]
        part.values = [values[:, :, :length].clone() for values in self.values]
        part.length = length
        return part

    def _grown(self, old: Tensor, like: Tensor, needed: int) -> Tensor:
        batch, heads, _, width = like.shape
        grown = like.new_empty(batch, heads, max(64, needed + needed // 2), width)
        if self.length:
            grown[:, :, : self.length] = old[:, :, : self.length]
        return grown


def rope_table(
    position_ids: Tensor, config: TextConfig, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin of every token's angles for `rotate_halves`, each (B, L, 1, d).

    Args:
        position_ids: (3, B, L), time, height and width; equal for plain text.
    """
    half = config.head_dim // 2
    powers = torch.arange(half, dtype=torch.float32, device=position_ids.device) / half
    frequencies = 1.0 / config.rope_theta**powers
    axes = position_ids.float()[..., None].unbind(0)  # time, height, width turn some pairs each
    shares = frequencies.split(list(config.rope_sections))
    angles = torch.cat([a * f for a, f in zip(axes, shares, strict=True)], -1)  # (B, L, d/2)
    cos, sin = both_halves(angles)
    return cos.to(dtype).unsqueeze(2), sin.to(dtype).unsqueeze(2)


def both_halves(angles: Tensor) -> tuple[Tensor, Tensor]:
    """cos and signed sin, (..., d), of the angles (..., d/2) of channel pairs j and j + d/2."""
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel j with channel j + d/2 of (..., d), by tables of `both_halves`; 3 kernels."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def attention_mask(num_new: int, valid: Tensor | None, length: int, device: Any) -> Tensor | None:
    """Who may look at whom, (1 or B, 1, L, length) bool; None where plain causality says it all.

    Args:
        num_new: L, the tokens now read; `length` counts the earlier ones too.
        valid: (B, length) bool, False at padding; None without padding.
    """
    if num_new == 1:
        return None if valid is None else valid[:, None, None]
    if valid is None and num_new == length:
        return None
    causal = torch.ones(num_new, length, dtype=torch.bool, device=device).tril(length - num_new)
    if valid is None:
        return causal[None, None]
    itself = torch.eye(num_new, length, dtype=torch.bool, device=device)
    itself = itself.roll(length - num_new, dims=1)  # a row of padding looks at itself: no NaN
    return (causal & valid[:, None] | itself)[:, None]


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: TextConfig, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width, kv_width = config.hidden_size, config.num_kv_heads * config.head_dim
        options = {"dtype": dtype, "device": device}
        self.q_proj = operations.Linear(width, width, bias=True, **options)
        self.k_proj = operations.Linear(width, kv_width, bias=True, **options)
        self.v_proj = operations.Linear(width, kv_width, bias=True, **options)
        self.o_proj = operations.Linear(width, width, bias=False, **options)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        """(B, L, D) to (B, L, D); keys and values of this layer are added to the cache."""
        batch, length, width = x.shape
        heads = (batch, length, -1, self.head_dim)
        q = rotate_halves(self.q_proj(x).view(heads), *rope).transpose(1, 2)  # (B, H, L, d)
        k = rotate_halves(self.k_proj(x).view(heads), *rope).transpose(1, 2)  # (B, Hkv, L, d)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        if length == 1:  # one query: the heads of a group are the rows of one product
            q = q.reshape(batch, k.shape[1], -1, self.head_dim)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            causal = mask is None
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
            ).transpose(1, 2)
        return self.o_proj(out.reshape(batch, length, width))


class SwiGLU(nn.Module):
    """Feed-forward with a gated SiLU. Source: Shazeer 2020."""

    def __init__(self, width: int, inner: int, bias: bool, options: Any, operations: Any) -> None:
        super().__init__()
        self.gate_proj = operations.Linear(width, inner, bias=bias, **options)
        self.up_proj = operations.Linear(width, inner, bias=bias, **options)
        self.down_proj = operations.Linear(inner, width, bias=bias, **options)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    """Attention and feed-forward, each behind its norm and beside the residual."""

    def __init__(self, config: TextConfig, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        width, options = config.hidden_size, {"dtype": dtype, "device": device}
        self.self_attn = Attention(config, dtype, device, operations)
        self.mlp = SwiGLU(width, config.intermediate_size, False, options, operations)
        self.input_layernorm = operations.RMSNorm(width, eps=config.norm_eps, **options)
        self.post_attention_layernorm = operations.RMSNorm(width, eps=config.norm_eps, **options)

    def forward(self, x: Tensor, *attention_arguments: Any) -> Tensor:
        """(B, L, D) to (B, L, D); the other arguments are those of `Attention.forward`."""
        x = x + self.self_attn(self.input_layernorm(x), *attention_arguments)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    """Embedded tokens to last hidden states."""

    def __init__(
        self,
        config: TextConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = PlainOperations,
    ) -> None:
        super().__init__()
        self.config = config
        options = {"dtype": dtype, "device": device}
        self.embed_tokens = operations.Embedding(config.vocab_size, config.hidden_size, **options)
        self.layers = nn.ModuleList(
            TextLayer(config, dtype, device, operations) for _ in range(config.num_layers)
        )
        self.norm = operations.RMSNorm(config.hidden_size, eps=config.norm_eps, **options)

    def forward(
        self,
        embeds: Tensor,
        position_ids: Tensor,
        valid: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Read tokens behind those in `cache`.

        Args:
            embeds: (B, L, D).
            position_ids: (3, B, L), whole numbers.
            valid: (B, cached + L) bool, False at padding; None if there is none.
            cache: earlier tokens; the new ones are added to it.

        Returns: hidden states after the final norm, (B, L, D).
        """
        length = embeds.shape[1] + (0 if cache is None else cache.length)
        mask = attention_mask(embeds.shape[1], valid, length, embeds.device)
        rope = rope_table(position_ids, self.config, embeds.dtype)
        x = embeds
        for index, layer in enumerate(self.layers):
            x = layer(x, rope, mask, cache, index)
        if cache is not None:
            cache.advance(embeds.shape[1])
        return self.norm(x)
