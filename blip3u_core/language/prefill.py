"""Prefill: contexts of any lengths through the text model in one pass."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .context import Context, embed_contexts, left_pad
from .model import LanguageModel
from .text_model import KeyValueCache


class Prefill(NamedTuple):
    """What a pass over contexts leaves behind."""

    hidden: Tensor  # last hidden states (B, L, D); contexts end at the same place
    valid: Tensor | None  # (B, L) bool, None where no row is padded
    next_position: Tensor  # (B,), of the first token behind each context


def prefill(
    llm: LanguageModel,
    contexts: Sequence[Context],
    cache: KeyValueCache | None = None,
    queries: Tensor | None = None,
) -> Prefill:
    """Read the contexts, each as if it came alone.

    Args:
        cache: keys and values of tokens that all contexts begin with, which are not read again;
            grows by what is read. None computes without remembering.
        queries: embeddings (Q, D) that follow each context, as the latent queries do.
    """
    start = 0 if cache is None else cache.length
    rows = embed_contexts(llm, contexts, [start] * len(contexts))
    position_ids = [context.position_ids() for context in contexts]
    if queries is not None:
        rows = [torch.cat((row, queries)) for row in rows]
        position_ids = [_continued(ids, len(queries)) for ids in position_ids]
    next_position = torch.stack([ids.max() + 1 for ids in position_ids]).to(llm.device)
    embeds, padded_ids, valid = left_pad(rows, [ids[:, start:] for ids in position_ids])
    valid = None if valid.all() else valid
    return Prefill(llm.model(embeds, padded_ids, valid, cache), valid, next_position)


def _continued(position_ids: Tensor, count: int) -> Tensor:
    """(3, L) with `count` more behind, (3, L + count)."""
    more = position_ids.max() + 1 + torch.arange(count).expand(3, -1)
    return torch.cat((position_ids, more), dim=1)
