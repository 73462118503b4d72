"""Keys and values of dialogues read before, reused for the longest common prefix.

An entry is found by what was read (token ids, picture contents, kind of positions), never by a
name, and belongs to one state of the weights: after another one, everything is forgotten.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from .text_model import KeyValueCache

Keys = tuple[Hashable, ...]


@dataclass(eq=False)
class _Entry:
    keys: Keys
    cache: KeyValueCache


class PrefixCache:
    """A few dialogues, the latest used last, within a budget of bytes.

    Args:
        budget_bytes: at most so much is kept between calls; 0 keeps nothing.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._entries: list[_Entry] = []
        self._state: Hashable = None
        self.reused_tokens = 0  # of the last `take`, for reports and tests

    @property
    def num_bytes(self) -> int:
        """Size of all that is kept."""
        return sum(entry.cache.num_bytes for entry in self._entries)

    def bind(self, state: Hashable) -> None:
        """Forget everything unless `state` (weights, patches, device, dtype) is the last one."""
        if state != self._state:
            self.clear()
        self._state = state

    def clear(self) -> None:
        """Forget every dialogue."""
        self._entries.clear()

    def take(self, keys: Keys) -> KeyValueCache | None:
        """The longest known prefix of `keys`, at least one token short of them; the caller's own.

        An entry that is wholly a prefix is handed over; of one that goes on differently (a
        branch of the dialogue) the common part is copied.
        """
        self.reused_tokens = 0
        found = max(self._entries, key=lambda entry: common_length(entry.keys, keys), default=None)
        length = 0 if found is None else min(common_length(found.keys, keys), len(keys) - 1)
        if found is None or length < 1:
            return None
        self.reused_tokens = length
        if length == len(found.keys):
            self._entries.remove(found)
            return found.cache
        return found.cache.prefix(length)

    def keep(self, keys: Sequence[Hashable], cache: KeyValueCache) -> None:
        """Remember what was computed for `keys`; the oldest entries leave if room is short."""
        cache = cache if cache.length == len(keys) else cache.prefix(len(keys))
        entry = _Entry(tuple(keys), cache)
        others = [
            old for old in self._entries if common_length(old.keys, entry.keys) < len(old.keys)
        ]
        self._entries = [*others, entry]
        while self._entries and self.num_bytes > self.budget_bytes:
            self._entries.pop(0)


def common_length(first: Keys, second: Keys) -> int:
    """How many keys agree from the start on.

    By halves, since whole slices compare a hundred times as fast as key by key.
    """
    agree, differ = 0, min(len(first), len(second)) + 1
    while differ - agree > 1:
        middle = (agree + differ) // 2
        if first[agree:middle] == second[agree:middle]:
            agree = middle
        else:
            differ = middle
    return agree
