"""A UNet seen in parts: what passes between its blocks is kept, or given in place of their work.

Views are copies of the UNet's lists of blocks; the blocks, and their weights, are shared.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from torch import Tensor, nn

# Bookkeeping stays out of graphs: torch.compile would compile it anew with every sampling.
outside_graphs: Any = torch.compiler.disable


class _Keep(nn.Module):
    """Passes on what enters, and shows it behind the evaluation."""

    passed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.passed = x
        return x


class _KeepCopy(_Keep):
    """Where patches change in place what follows."""

    def forward(self, x: Tensor) -> Tensor:
        self.passed = x.clone()
        return x


class _Give(nn.Module):
    """Gives features in place of what enters, be it a block's input or that of cross-attention."""

    features: Tensor | None = None

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x if self.features is None else self.features.to(x)


class _Idle(nn.Module):
    """Stands where a block does not work: one channel, as little as the host can carry along."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]


class View:
    """A UNet in full and without its inner blocks, each with its cross-attention and without.

    `kept` is what enters the last `depth` output blocks of the full one, `given` what enters them
    without the inner blocks. Every block keeps its number, which patches and controls go by.
    """

    def __init__(self, unet: Any, depth: int, cross_attention: bool = False) -> None:
        self.depth, self.inner = depth, len(unet.output_blocks) - depth
        self.kept, self.given = _KeepCopy(), _Give()
        self.kept_attention: list[_Keep] = []
        self.given_attention: list[_Give] = []
        attending = sparing = unet
        if cross_attention:
            attending = _with_attention(unet, self._keeping)
            sparing = _with_attention(unet, self._giving)
        self.full, self.outer = self._full(attending), self._outer(attending)
        self.full_sparing, self.outer_sparing = self._full(sparing), self._outer(sparing)

    def unet(self, reuse: bool, spare_attention: bool) -> Any:
        if spare_attention:
            return self.outer_sparing if reuse else self.full_sparing
        return self.outer if reuse else self.full

    @outside_graphs
    def give(self, features: Tensor | None, attention: Sequence[Tensor] | None) -> None:
        """What serves in the next evaluation."""
        self.given.features = features
        if attention is not None:
            for given, result in zip(self.given_attention, attention, strict=True):
                given.features = result

    @outside_graphs
    def clear(self) -> None:
        for kept in (self.kept, *self.kept_attention):
            kept.passed = None
        for given in (self.given, *self.given_attention):
            given.features = None

    @outside_graphs
    def outer_control(self, control: dict[str, list] | None) -> dict[str, list] | None:
        """A control's residuals, without those of idle blocks; the host pops them from the end."""
        if control is None:
            return None
        idle = {
            "input": lambda block: block >= self.depth,
            "middle": lambda _: True,
            "output": lambda block: block < self.inner,
        }
        return {
            name: [
                None if name in idle and idle[name](len(values) - 1 - i) else value
                for i, value in enumerate(values)
            ]
            for name, values in control.items()
        }

    def _full(self, unet: Any) -> Any:
        last = list(unet.output_blocks)
        last[self.inner - 1] = nn.Sequential(*last[self.inner - 1], self.kept)
        return _with(unet, output_blocks=nn.ModuleList(last))

    def _outer(self, unet: Any) -> Any:
        idle = nn.Sequential(_Idle())
        first, last = list(unet.input_blocks), list(unet.output_blocks)
        before = [*[idle] * (self.inner - 1), nn.Sequential(self.given)]
        return _with(
            unet,
            input_blocks=nn.ModuleList([*first[: self.depth], *[idle] * (len(first) - self.depth)]),
            middle_block=idle,
            output_blocks=nn.ModuleList([*before, *last[self.inner :]]),
        )

    def _keeping(self, attention: Any) -> nn.Module:
        # Where another node replaces the attention itself, its result passes here too.
        self.kept_attention.append(_Keep())
        return _with(attention, to_out=nn.Sequential(*attention.to_out, self.kept_attention[-1]))

    def _giving(self, _attention: Any) -> nn.Module:
        self.given_attention.append(_Give())
        return self.given_attention[-1]


class Views:
    """One view of every UNet that comes: the same objects in every evaluation, compiled once."""

    def __init__(self, depth: int, cross_attention: bool) -> None:
        self.depth, self.cross_attention = depth, cross_attention
        self.known: WeakKeyDictionary[nn.Module, View] = WeakKeyDictionary()

    @outside_graphs
    def of(self, unet: Any) -> View:
        if unet not in self.known:
            self.known[unet] = View(unet, self.depth, self.cross_attention)
        return self.known[unet]


def _with_attention(module: nn.Module, change: Callable[[nn.Module], nn.Module]) -> Any:
    """A module with its cross-attentions changed; what holds none is shared with the original."""
    if isinstance(module, BasicTransformerBlock) and module.attn2 is not None:
        return _with(module, attn2=change(module.attn2))
    changed = {
        name: _with_attention(child, change)
        for name, child in module._modules.items()
        if child is not None
    }
    same = all(changed[name] is module._modules[name] for name in changed)
    return module if same else _with(module, **changed)


def _with(module: Any, **children: nn.Module) -> Any:
    view = copy.copy(module)
    view._modules = {**module._modules, **children}
    return view
