"""Tokens of answers, step by step: read the last ones, choose the next.

`PlainSteps` issues each kernel of each step. `RecordedSteps` computes in tensors that stay where
they are, so that a step can be recorded once, as a CUDA graph, and replayed without Python.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .choose import TokenChooser
from .context import Context
from .model import LanguageModel
from .prefill import prefill
from .prefix_cache import PrefixCache
from .text_model import KeyValueCache

ROOM = 256  # tokens that a recording can write at most: all its room is attended to at every step
ALIGNED = 64  # tokens by which room is rounded up; kernels of attention want masks of whole blocks
PAYS = 32  # tokens that an answer may still have, for a recording, which takes a few steps' time

log = logging.getLogger(__name__)

Step = Callable[[], object]
Record = Callable[[Step], Step]  # takes one step, and returns what takes the same step again


class CannotRecord(RuntimeError):
    """A step could be taken, but not be recorded."""


class ContextReader:
    """Feeds contexts and then single tokens to the text model; keeps positions and padding."""

    def __init__(
        self, llm: LanguageModel, contexts: Sequence[Context], known: PrefixCache | None
    ) -> None:
        self.llm = llm
        self.contexts = contexts
        found = None if known is None else known.take(contexts[0].keys())
        self.cache = found or KeyValueCache(llm.config.num_layers)

    def read_contexts(self) -> Tensor:
        """Hidden states behind each context, (B, D)."""
        hidden, self.valid, self.next = prefill(self.llm, self.contexts, self.cache)
        return hidden[:, -1]

    def read_tokens(self, tokens: Tensor) -> Tensor:
        """Hidden states behind one more token each, (B,) to (B, D)."""
        if self.valid is not None:
            self.valid = torch.nn.functional.pad(self.valid, (0, 1), value=True)
        hidden = _read(self.llm, tokens, self.next, self.valid, self.cache)
        self.next = self.next + 1
        return hidden


class PlainSteps:
    """Steps over a cache that grows with them."""

    def __init__(self, reader: ContextReader, chooser: TokenChooser, tokens: Tensor) -> None:
        self.reader, self.chooser, self.tokens = reader, chooser, tokens

    def write(self, count: int, left: int) -> None:
        """`count` more tokens of every answer, of `left` that may still come."""
        for _ in range(count):
            logits = self.reader.llm.logits(self.reader.read_tokens(self.tokens))
            self.tokens = self.chooser.choose(logits)

    def close(self) -> None:
        """Give back what was only there for further steps."""


class RecordedSteps:
    """Steps in tensors that stay where they are, from where `plain` has come to.

    What a step reads and changes it finds on the device: the last tokens, their position, their
    place in the cache, the place of what is chosen. When its room is full, there is a larger one
    and another recording; the one before is gone by then.
    """

    def __init__(self, plain: PlainSteps, record: Record) -> None:
        self.llm, self.cache, self.chooser = plain.reader.llm, plain.reader.cache, plain.chooser
        self.tokens, self.next = plain.tokens.clone(), plain.reader.next.clone()
        self.valid = _valid(plain)
        self._record: Record | None = record
        self._step: Step | None = None
        self._room = 0

    def write(self, count: int, left: int) -> None:
        """`count` more tokens of every answer, of `left` that may still come."""
        for written in range(count):
            if self._step is None or self._room == 0:
                self._begin(left - written)
            else:
                self._step()
            self._room -= 1
            self.cache.length += 1

    def close(self) -> None:
        """Drop the recording, and the memory that it holds."""
        self._step = None

    def _begin(self, left: int) -> None:
        """Take a step in more room, and record it if that pays."""
        self.close()
        known = self.cache.length
        capacity = -(-(known + min(left, ROOM)) // ALIGNED) * ALIGNED
        self._room = capacity - known
        self.cache.pad(capacity)
        more = self.valid.new_zeros(len(self.valid), capacity - known)
        self.valid = torch.cat((self.valid[:, :known], more), dim=1)
        self._places = _Places(self.cache)
        if self._record is not None and left >= PAYS:
            try:
                self._step = self._record(self._compute)
                return
            except CannotRecord as error:
                log.warning("BLIP3-U: this answer is written without a CUDA graph: %s", error)
                self._record = None
        else:
            self._compute()
        self._step = self._compute

    def _compute(self) -> None:
        self.valid.index_fill_(1, self._places.place, True)
        hidden = _read(self.llm, self.tokens, self.next, self.valid, self._places)
        self.next += 1
        self.tokens.copy_(self.chooser.choose(self.llm.logits(hidden)))


class _Places(KeyValueCache):
    """The room of a cache, for one more token at a time, at a place that only the device knows."""

    def __init__(self, cache: KeyValueCache) -> None:
        super().__init__(len(cache.keys))
        self.keys, self.values = cache.keys, cache.values
        self.length = self.keys[0].shape[2] - 1  # what `valid` tells from empty room
        self.place = self.keys[0].new_full((1,), cache.length, dtype=torch.long)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put (B, Hkv, 1, d) in their place; all the room comes back."""
        return (
            self.keys[layer].index_copy_(2, self.place, keys),
            self.values[layer].index_copy_(2, self.place, values),
        )

    def advance(self, count: int) -> None:
        self.place += count


def _read(llm: LanguageModel, tokens: Tensor, position: Tensor, valid: Any, cache: Any) -> Tensor:
    """Hidden states behind one more token each, (B,) to (B, D)."""
    position_ids = position.expand(3, -1)[..., None]
    return llm.model(llm.embed(tokens[:, None]), position_ids, valid, cache)[:, -1]


def _valid(plain: PlainSteps) -> Tensor:
    """(B, known) bool, where nothing is padding all the same."""
    found, known = plain.reader.valid, plain.reader.cache.length
    if found is not None:
        return found
    return torch.ones(len(plain.tokens), known, dtype=torch.bool, device=plain.tokens.device)
