"""Batches: sequences padded to one length, and which pictures they see and draw."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from blip3u_core.language.prompt import SYSTEM_PROMPT, open_turn_text, turn_text
from small_world.dialogues import MIX, sample_any
from small_world.samples import Drawn, Sample, Text
from small_world.world import Scene

from .sequences import Sequence_, changed_cells, encode
from .tokenizer import load_tokenizer

BLANK = "blank"  # the bare prompt " ", whose features are the decoder's negative: zero
EMPTY = Scene("day", ())  # stands for the blank's target, which is zero


def blank_sequence() -> Sequence_:
    return encode(Sample(BLANK, (Text(" "), Drawn(EMPTY))))


def sample_sequences(
    rng: random.Random, count: int, split: str = "train", mix: dict[str, float] | None = None
) -> list[Sequence_]:
    """Random samples of the mix, the shortest first."""
    result = []
    for _ in range(count):
        result.append(encode(sample_any(rng, split, mix or MIX)))
    return sorted(result, key=lambda sequence: sequence.length)


@dataclass(frozen=True)
class Batch:
    """Sequences padded on the right to one length, without the `skipped` first tokens."""

    sequences: Sequence[Sequence_]
    ids: Tensor  # (B, L)
    positions: Tensor  # (3, B, L)
    targets: Tensor  # (B, L): the next token where it is learned, else -100
    valid: Tensor  # (B, L) bool
    pads: Tensor  # (P, 9) places in the flattened batch, a row a shown picture
    queries: Tensor  # (D, 9) places in the flattened batch, a row a drawn picture
    shown: list[Scene] = field(repr=False)
    drawn: list[Scene] = field(repr=False)
    skipped: int
    copied: Tensor  # (D, 9) place in its row of the pad that a query may copy from, -1 for none
    changed: Tensor  # (D, 9) bool, cells that differ from the last picture shown
    attention_targets: dict[str, Tensor]  # (N, 3) row, token, place in the row to attend to
    counts: Tensor  # (N, 2) row and token whose next word says how many there are
    counted: Tensor  # (N, L) shares of 1: the mark before the picture and the pads to be counted
    touched: Tensor  # (D, 9) place in its row of `[IMG]` for a changed cell, else of the cell's pad
    weights: Tensor  # (B, L) of the targets
    named: Tensor  # (D, 9) place in its row of the last mention of a query's cell, else of [IMG]


@cache
def shared_prefix() -> Tensor:
    """Ids of the system turn and the opened user turn."""
    text = turn_text("system", SYSTEM_PROMPT) + open_turn_text("user")
    return torch.tensor(load_tokenizer().encode(text, add_special_tokens=False).ids[:-1])


class QueryPlaces(NamedTuple):
    """Places in a drawing sequence's row that its nine queries shall look at, -1 for none."""

    copied: Tensor  # the pad of the query's own cell in the last picture
    named: Tensor  # the last mention of the cell, else `[IMG]`
    # `[IMG]`, or the pad to go back to, if the drawing changes it or keeps nothing, else its pad
    touched: Tensor
    changed: Tensor  # bool, which cells those are
    meant: int  # the pad of the one object that is taken or altered


def query_places(sequence: Sequence_, first: int) -> QueryPlaces:
    """Of a sequence with a drawing, of which the `first` tokens are left out."""
    nine, sign = torch.arange(9), len(sequence.ids) - first - 1
    last = sequence.starts[-1] - first + nine if sequence.starts else nine * 0 - 1
    changed, meant, earlier = torch.zeros(9, dtype=torch.bool), -1, []
    if sequence.shown:
        taken, cells = changed_cells(sequence.shown[-1], sequence.drawn)
        changed[cells] = True
        earlier = [i for i, scene in enumerate(sequence.shown[:-1]) if scene == sequence.drawn]
        meant = int(last[taken[0]]) if len(taken) == 1 else -1
    named = torch.where(sequence.mentions >= first, sequence.mentions - first, sign)
    # a changed cell is told by the words, or when it is undone by the picture that comes back
    source = sequence.starts[earlier[-1]] - first + nine if earlier else sign
    touched = torch.where((changed | sequence.anew) & (last >= 0), source, last)
    return QueryPlaces(last, named, touched, changed, meant)


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """(N, 9), also where N is 0."""
    return torch.stack(list(rows)) if rows else torch.zeros(0, 9, dtype=torch.long)


def collate(sequences: Sequence[Sequence_], skip: bool = True) -> Batch:
    """Pad to one length; with `skip` the shared prefix, which all must begin with, is left out."""
    first = len(shared_prefix()) if skip else 0
    length = max(sequence.length for sequence in sequences) - first
    count = len(sequences)
    ids = torch.zeros(count, length, dtype=torch.long)
    positions = torch.zeros(3, count, length, dtype=torch.long)
    targets, weights = torch.full((count, length), -100), torch.zeros(count, length)
    valid = torch.zeros(count, length, dtype=torch.bool)
    pads, queries, shown, drawn, places = [], [], [], [], []
    targeted, counts, counted = defaultdict(list), [], []
    nine = torch.arange(9)
    for row, sequence in enumerate(sequences):
        assert not skip or torch.equal(sequence.ids[:first], shared_prefix())
        words = len(sequence.ids) - first
        ids[row, :words] = sequence.ids[first:]
        positions[:, row, : sequence.length - first] = sequence.positions[:, first:]
        valid[row, : sequence.length - first] = True
        following = torch.where(sequence.learned[1:], sequence.ids[1:], -100)[first:]
        targets[row, : words - 1] = following
        weights[row, : words - 1] = sequence.weights[1:][first:]
        for name, pairs in sequence.attention_targets.items():
            targeted[name] += [(row, token - first, place - first) for token, place in pairs]
        for token, marks in sequence.counts:
            counts.append((row, token - first))
            share = torch.zeros(length)
            share[torch.tensor(marks) - first] = 1 / len(marks)
            counted.append(share)
        pads += [row * length + start - first for start in sequence.starts]
        shown += sequence.shown
        if sequence.drawn is not None:
            queries.append(row * length + words)
            drawn.append(sequence.drawn)
            places.append(query_places(sequence, first))
            if places[-1].meant >= 0:
                targeted["meant"].append((row, words - 1, places[-1].meant))
    return Batch(
        sequences=sequences,
        ids=ids,
        positions=positions,
        targets=targets,
        valid=valid,
        pads=torch.tensor(pads, dtype=torch.long)[:, None] + nine,
        queries=torch.tensor(queries, dtype=torch.long)[:, None] + nine,
        shown=shown,
        drawn=drawn,
        skipped=first,
        copied=stacked([place.copied for place in places]),
        changed=stacked([place.changed for place in places]).bool(),
        attention_targets={n: torch.tensor(found) for n, found in targeted.items() if found},
        counts=torch.tensor(counts, dtype=torch.long).view(-1, 2),
        counted=torch.stack(counted) if counted else torch.zeros(0, length),
        touched=stacked([place.touched for place in places]),
        weights=weights,
        named=stacked([place.named for place in places]),
    )
