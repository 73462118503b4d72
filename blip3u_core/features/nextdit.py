"""NextDiT with cross-attention: the velocity of noisy CLIP features, given visual tokens.

The work is cut where its inputs end, so that a sampler repeats only what changes:
`prepare` sees the visual tokens (once a sampling), `modulate` the timesteps and the pooled tokens
(once for all steps), `velocity` the noisy features (every step). `forward` is the three in a row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import NextDiTConfig
from .embeddings import grid_rotations, rotate_pairs, timestep_sinusoid


class Condition(NamedTuple):
    """What all layers take from the visual tokens of some rows of a batch.

    One token needs no attention: whatever the query, the answer is its value. So the null
    condition, whose tokens are identical, may be given as a single one, without keys.
    """

    pooled: Tensor  # (B, time_dim)
    keys: tuple[Tensor, ...]  # a layer: (B, heads, L, head_dim); () for a single token
    values: tuple[Tensor, ...]  # a layer: (B, heads, L, head_dim), times tanh(gate)

    def expand(self, batch: int) -> "Condition":
        """Repeat the rows, in order, until they are `batch`; one row is repeated without a copy."""
        if self.pooled.shape[0] == batch:
            return self
        keys, values = (tuple(_expand(t, batch) for t in group) for group in self[1:])
        return Condition(_expand(self.pooled, batch), keys, values)


class Modulation(NamedTuple):
    """Scales (as 1 + scale) and gates (as tanh) at one timestep, or stacked for several."""

    layers: Tensor  # (..., B, N, 4, dim): scale and gate of the attention, then of the FFN
    out: Tensor  # (..., B, dim): scale before the last projection

    def steps(self) -> list["Modulation"]:
        """The modulations along the first axis, one a timestep."""
        return [Modulation(*step) for step in zip(self.layers, self.out, strict=True)]


class NextDiT(nn.Module):
    """Velocity network. Parameter names are the published ones, so checkpoints load directly.

    Args:
        operations: where Linear, LayerNorm and RMSNorm come from; a host may pass its own.

    Source: Lumina-Next, Zhuo et al. 2024; BLIP3-o, Chen et al. 2025, section 3; the reference's
        blip3o/model/nextdit_crossattn.py and lumina_nextdit2d.py at 4689ec38.
    """

    def __init__(self, config: NextDiTConfig, dtype=None, device=None, operations: Any = nn):
        super().__init__()
        kw = {"dtype": dtype, "device": device}
        dim = config.dim
        self.config = config
        self.dtype = dtype or torch.get_default_dtype()  # read by hosts
        self.patch_embedder = _named(proj=operations.Linear(config.in_channels, dim, **kw))
        self.caption_projection = _named(
            linear_1=operations.Linear(config.condition_dim, dim, **kw),
            linear_2=operations.Linear(dim, dim, **kw),
        )
        self.time_caption_embed = _named(
            timestep_embedder=_named(
                linear_1=operations.Linear(config.frequency_dim, config.time_dim, **kw),
                linear_2=operations.Linear(config.time_dim, config.time_dim, **kw),
            ),
            caption_embedder=nn.Sequential(
                operations.LayerNorm(dim, **kw), operations.Linear(dim, config.time_dim, **kw)
            ),
        )
        self.layers: Any = nn.ModuleList(
            NextDiTLayer(config, operations, kw) for _ in range(config.num_layers)
        )
        self.norm_out = _named(
            linear_1=operations.Linear(config.time_dim, dim, **kw),
            linear_2=operations.Linear(dim, config.in_channels, **kw),
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Velocity of `x`, from noise minus clean features.

        Args:
            x: noisy features, (B, C, H, W).
            timesteps: (B,), 1000 * sigma; the reference's sampler truncates it to integers.
            context: visual tokens, (B, L, D); zeros for the null condition.

        Raises: ValueError if `x` or `context` have another last size than the network takes.
        """
        condition = self.prepare(context)
        return self.velocity(x, self.modulate(timesteps, condition.pooled), (condition,))

    def prepare(self, context: Tensor) -> Condition:
        """All that depends on the visual tokens (B, L, D) alone, for every layer."""
        check_visual_tokens(context, self.config)
        projection = self.caption_projection
        tokens = projection.linear_2(F.gelu(projection.linear_1(context), approximate="tanh"))
        pooled = self.time_caption_embed.caption_embedder(tokens.mean(1))
        pairs = [layer.keys_and_values(tokens) for layer in self.layers]
        keys = tuple(key for key, _ in pairs) if context.shape[1] > 1 else ()
        return Condition(pooled, keys, tuple(value for _, value in pairs))

    def modulate(self, timesteps: Tensor, pooled: Tensor) -> Modulation:
        """All that depends on timesteps (...) and the pooled condition (..., time_dim) alone.

        The two broadcast: timesteps (S, 1) with pooled (B, time_dim) give all steps in one go.
        """
        embedder = self.time_caption_embed.timestep_embedder
        sinusoid = timestep_sinusoid(timesteps, self.config.frequency_dim).to(pooled.dtype)
        embedded = embedder.linear_2(F.silu(embedder.linear_1(sinusoid)))
        activated = F.silu(embedded + pooled)
        layers = torch.stack([layer.norm1.linear(activated) for layer in self.layers], -2)
        layers = layers.unflatten(-1, (4, -1))  # scale and gate of attention, scale and gate of FFN
        # In place: for a whole schedule this is the largest tensor of a sampling.
        layers[..., 0::2, :] += 1
        layers[..., 1::2, :].tanh_()
        return Modulation(layers, 1 + self.norm_out.linear_1(activated))

    def velocity(
        self, x: Tensor, modulation: Modulation, conditions: Sequence[Condition]
    ) -> Tensor:
        """One step's velocity of x (B, C, H, W); `conditions` share out its rows in order."""
        batch, channels, height, width = x.shape
        if channels != self.config.in_channels:
            raise ValueError(
                f"the latent has {channels} channels, expected {self.config.in_channels}: this "
                "model samples CLIP features. Make its latent with the node Empty CLIP Features."
            )
        rotations = grid_rotations(
            height, width, self.config.head_dim, self.config.rope_theta, x.device
        )
        h = self.patch_embedder.proj(x.flatten(2).mT.contiguous())  # (B, T, dim)
        for i, layer in enumerate(self.layers):
            h = layer(h, modulation.layers[:, i, :, None], conditions, i, rotations)
        h = F.layer_norm(h, h.shape[-1:], eps=1e-6) * modulation.out[:, None]
        h = self.norm_out.linear_2(h)  # (B, T, C)
        return h.transpose(1, 2).reshape(batch, channels, height, width)


class NextDiTLayer(nn.Module):
    """Self-attention and gated cross-attention on the same queries' input, then a SwiGLU FFN."""

    def __init__(self, config: NextDiTConfig, operations: Any, kw: dict[str, Any]):
        super().__init__()
        dim, kv_dim = config.dim, config.num_kv_heads * config.head_dim
        self.num_heads = config.num_heads

        def linear(num_in: int, num_out: int) -> Any:
            return operations.Linear(num_in, num_out, bias=False, **kw)

        def rms_norm() -> Any:
            return operations.RMSNorm(dim, eps=config.norm_eps, **kw)

        def attention() -> Any:
            return _named(
                norm_q=operations.LayerNorm(dim, eps=1e-5, **kw),
                norm_k=operations.LayerNorm(kv_dim, eps=1e-5, **kw),
                to_q=linear(dim, dim),
                to_k=linear(dim, kv_dim),
                to_v=linear(dim, kv_dim),
            )

        self.gate = nn.Parameter(torch.zeros(config.num_heads, **kw))
        self.attn1 = attention()
        self.attn2 = attention()
        self.attn2.to_out = nn.ModuleList([linear(dim, dim)])
        self.feed_forward = _named(
            linear_1=linear(dim, config.ffn_dim),
            linear_2=linear(config.ffn_dim, dim),
            linear_3=linear(dim, config.ffn_dim),
        )
        self.norm1 = _named(
            linear=operations.Linear(config.time_dim, 4 * dim, **kw), norm=rms_norm()
        )
        self.norm1_context = rms_norm()
        self.norm2 = rms_norm()
        self.ffn_norm1 = rms_norm()
        self.ffn_norm2 = rms_norm()

    def forward(
        self,
        h: Tensor,
        modulation: Tensor,
        conditions: Sequence[Condition],
        index: int,
        rotations: Tensor,
    ) -> Tensor:
        """h (B, T, dim) and modulation (B, 4, 1, dim) to the next h."""
        scale_attn, gate_attn, scale_ffn, gate_ffn = modulation.unbind(1)
        n = self.norm1.norm(h) * scale_attn
        a = self.self_attention(n, rotations) + self.cross_attention(
            n, conditions, index, rotations
        )
        h = torch.addcmul(h, gate_attn, self.norm2(self.attn2.to_out[0](a)))
        return torch.addcmul(h, gate_ffn, self.ffn_norm2(self.ffn(self.ffn_norm1(h) * scale_ffn)))

    def self_attention(self, n: Tensor, rotations: Tensor) -> Tensor:
        """Attention among the features: modulated, normed (B, N, dim) to (B, N, dim)."""
        attn = self.attn1
        q = rotate_pairs(self.split_heads(attn.norm_q(attn.to_q(n))), rotations)
        k = rotate_pairs(self.split_heads(attn.norm_k(attn.to_k(n))), rotations)
        v = self.split_heads(attn.to_v(n))
        return _attend(q.transpose(1, 2), self.all_heads(k), self.all_heads(v))

    def cross_attention(
        self, n: Tensor, conditions: Sequence[Condition], index: int, rotations: Tensor
    ) -> Tensor:
        """Each condition answers its own rows of n (B, T, dim); only the query is rotated."""
        attn, answers, start = self.attn2, [], 0
        for condition in conditions:
            rows = n[start : start + condition.pooled.shape[0]]
            start += rows.shape[0]
            value = condition.values[index]
            if condition.keys:
                q = rotate_pairs(self.split_heads(attn.norm_q(attn.to_q(rows))), rotations)
                answers.append(_attend(q.transpose(1, 2), condition.keys[index], value))
            else:
                answers.append(value.transpose(1, 2).flatten(2).expand_as(rows))
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-attention's keys, and values times the heads' gates: (B, heads, L, head_dim)."""
        attn, c = self.attn2, self.norm1_context(tokens)
        k = self.all_heads(self.split_heads(attn.norm_k(attn.to_k(c))))
        v = self.all_heads(self.split_heads(attn.to_v(c)))
        return k, v * self.gate.to(v).tanh()[:, None, None]

    def ffn(self, u: Tensor) -> Tensor:
        """SwiGLU feed-forward, (B, N, dim) to (B, N, dim)."""
        ffn = self.feed_forward
        gate, value = ffn.linear_1(u), ffn.linear_3(u)
        if torch.is_grad_enabled():
            return ffn.linear_2(F.silu(gate) * value)
        return ffn.linear_2(F.silu(gate, inplace=True).mul_(value))  # the widest tensors

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * d) to (B, N, heads, d)."""
        head_dim = self.norm1_context.weight.shape[0] // self.num_heads
        return x.unflatten(-1, (-1, head_dim))  # (B, T, heads, head_dim)

    def all_heads(self, x: Tensor) -> Tensor:
        """(B, T, kv heads, head_dim) to (B, heads, T, head_dim), repeating where heads share."""
        x = x.transpose(1, 2)
        repeats = self.num_heads // x.shape[1]
        return x if repeats == 1 else x.repeat_interleave(repeats, 1)


def check_visual_tokens(context: Tensor, config: NextDiTConfig) -> None:
    """Raises: ValueError if `context` is not (B, L, D)."""
    if context.ndim == 3 and context.shape[1] and context.shape[-1] == config.condition_dim:
        return
    hint = ""
    if context.shape[-1] == config.in_channels:
        hint = f" CLIP features (last size {config.in_channels}) belong to the decoder."
    raise ValueError(
        f"the conditioning is {tuple(context.shape)}, expected visual tokens (B, L, "
        f"{config.condition_dim}).{hint} Take positive and negative from the node Visual Tokens, "
        "with the llm of the same checkpoint."
    )


def one_token_if_identical(context: Tensor) -> Tensor:
    """(B, L, D) to (B, 1, D) if each row's tokens are the same, as in the null condition."""
    return context[:, :1] if bool((context == context[:, :1]).all()) else context


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, T, dim)


def _expand(x: Tensor, batch: int) -> Tensor:
    if x.shape[0] == 1:
        return x.expand(batch, *x.shape[1:])
    repeats = -(-batch // x.shape[0])
    return x.repeat(repeats, *[1] * (x.ndim - 1))[:batch]


def _named(**modules: nn.Module) -> Any:
    """A module that only gives its children the published names."""
    group = nn.Module()
    for name, module in modules.items():
        group.add_module(name, module)
    return group
