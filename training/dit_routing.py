"""Where the DiT's heads are taught to look, and the prefix that all rows of a step share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blip3u_core.features.embeddings import grid_rotations, rotate_pairs
from blip3u_core.features.nextdit import NextDiT

from .llm_data import shared_prefix

ROUTING_HEADS = 2  # of each cross-attention of the DiT are taught to look at the place's own token


class DitRoutes:
    """Watches the DiT's cross-attentions: place j of the features shall look at visual token j."""

    def __init__(self, dit: NextDiT):
        self.config = dit.config
        self.queries: dict[int, Tensor] = {}
        self.keys: dict[int, Tensor] = {}
        for number, layer in enumerate(dit.layers):
            for norm, kept in ((layer.attn2.norm_q, self.queries), (layer.attn2.norm_k, self.keys)):
                norm.register_forward_hook(
                    lambda *call, number=number, kept=kept: kept.update({number: call[2]})
                )

    def loss(self, told: Tensor) -> Tensor:
        """Cross-entropy of the taught heads' attention over the rows that have a condition."""
        size, side = self.config.head_dim, self.config.input_size
        turns = grid_rotations(side, side, size, self.config.rope_theta, told.device)
        losses = []
        for number, queries in self.queries.items():
            q = rotate_pairs(queries[told].unflatten(-1, (-1, size)), turns)[:, :, :ROUTING_HEADS]
            k = self.keys[number][told].unflatten(-1, (-1, size))[:, :, :ROUTING_HEADS]
            scores = torch.einsum("bthd,bshd->bhts", q, k) / size**0.5
            place = torch.arange(side**2).expand(scores.shape[:-1])
            losses.append(F.cross_entropy(scores.flatten(0, 2), place.flatten()))
        return torch.stack(losses).mean()


class SharedPrefix:
    """Keys and values of a prefix, written once and set before those of every batch."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]] | None = None, length: int = 0):
        self.layers = layers or []
        self.length = length  # the text model counts on, so every batch has a view of its own

    def view(self) -> "SharedPrefix":
        return SharedPrefix(self.layers, len(shared_prefix()))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer == len(self.layers):  # the prefix itself
            self.layers.append((keys, values))
            return keys, values
        known = [known.expand(len(keys), -1, -1, -1) for known in self.layers[layer]]
        return torch.cat([known[0], keys], 2), torch.cat([known[1], values], 2)

    def advance(self, count: int) -> None:
        self.length += count
