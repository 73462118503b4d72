"""What one sampling prepares of a conditioning, carried to every step by the host's own conds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import comfy.conds
import torch

from ...blip3u_core.features.nextdit import Condition, Modulation

if TYPE_CHECKING:
    from ...blip3u_core.features.nextdit import NextDiT

MAX_TABLE_STEPS = 200  # 0.3 MB a step for the published weights


class PreparedTokens:
    """One conditioning's visual tokens, after all that no step changes."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self._repeated: dict[int, Condition] = {}
        self._steps: dict[int, Modulation] = {}

    def repeated(self, batch: int) -> Condition:
        """The condition for `batch` rows."""
        if batch not in self._repeated:
            self._repeated[batch] = self.condition.expand(batch)
        return self._repeated[batch]

    def modulation(
        self, network: NextDiT, timesteps: list[int], schedule: Callable[[], Sequence[int]]
    ) -> Modulation:
        """The modulation of one row a timestep; those of a whole schedule are made at once.

        The schedule is asked for only then: to read it, a GPU must finish what it does.
        """
        first, batch = timesteps[0], len(timesteps)
        if first not in self._steps:
            known = schedule()
            if first in known and len(known) <= MAX_TABLE_STEPS:
                self._steps.update(self._modulate_all(network, known))
        step = self._steps.get(first)
        if step is None or timesteps.count(first) != batch:
            pooled = self.repeated(batch).pooled
            return network.modulate(torch.tensor(timesteps, device=pooled.device), pooled)
        rows = [row % step.out.shape[0] for row in range(batch)]
        return step if batch == step.out.shape[0] else Modulation(*(part[rows] for part in step))

    def _modulate_all(self, network: NextDiT, schedule: Sequence[int]) -> dict[int, Modulation]:
        once = list(dict.fromkeys(schedule))
        pooled = self.condition.pooled
        steps = torch.tensor(once, device=pooled.device)[:, None]  # (S, 1)
        return dict(zip(once, network.modulate(steps, pooled).steps(), strict=True))


class Rows(NamedTuple):
    """So many rows of a batch, all conditioned by the same tokens."""

    tokens: PreparedTokens
    batch: int


def repeated(conditions: tuple[Rows, ...]) -> tuple[Condition, ...]:
    """Each tokens' condition, for as many rows as it has."""
    return tuple(rows.tokens.repeated(rows.batch) for rows in conditions)


class PreparedCond(comfy.conds.CONDRegular):
    """A cond of the host whose value is rows, in the order of the batch.

    Any two of them share a batch, whatever their lengths: each row is answered by its own tokens.
    """

    cond: tuple[Rows, ...]

    def process_cond(self, batch_size: int, **_) -> PreparedCond:
        return self._copy_with(fill_batch(self.cond, batch_size))

    def can_concat(self, other: comfy.conds.CONDRegular) -> bool:
        return isinstance(other, PreparedCond)

    def concat(self, others: Sequence[PreparedCond]) -> tuple[Rows, ...]:
        return sum((other.cond for other in others), self.cond)

    def size(self) -> list[int]:
        return [sum(rows.batch for rows in self.cond)]


def fill_batch(rows: tuple[Rows, ...], batch: int) -> tuple[Rows, ...]:
    """Repeat the rows in order, and cut them, until they are `batch`."""
    if len(rows) == 1:
        return (Rows(rows[0].tokens, batch),)
    total = sum(part.batch for part in rows)
    repeated = rows * -(-batch // total)
    ends = accumulate(part.batch for part in repeated)
    cut = [
        Rows(part.tokens, min(part.batch, part.batch + batch - end))
        for part, end in zip(repeated, ends, strict=True)
    ]
    return tuple(part for part in cut if part.batch > 0)
