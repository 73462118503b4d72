"""Batches: sequences padded to one length, and which pictures they see and draw."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from blip3u_core.language.prompt import SYSTEM_PROMPT, open_turn_text, turn_text
from small_world.dialogues import MIX, sample_any
from small_world.samples import Drawn, Sample, Text
from small_world.world import Scene

from .llm_config import NUM_QUERIES
from .sequences import Sequence_, changed_cells, encode, exchanged_cells
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
    mask: Tensor  # (B, 1, L, skipped + L) bool, which tokens see which
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
    settled: Tensor  # (D, 9) place in its row of what a changed cell becomes, else of its pad


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
    settled: Tensor  # what a changed cell becomes, where that is said or seen; else its pad
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
    # a changed cell is told by the words, an undone one by the picture that comes back, and
    # exchanged ones by one another
    source = sequence.starts[earlier[-1]] - first + nine if earlier else torch.full((9,), sign)
    if sequence.shown and not earlier:
        for cell, origin in exchanged_cells(sequence.shown[-1], sequence.drawn).items():
            source[cell] = last[origin]
    touched = torch.where((changed | sequence.anew) & (last >= 0), source, last)
    told = torch.where(sequence.mentions >= first, named, touched)
    settled = torch.where((changed | sequence.anew) & (last >= 0), told, last)
    settled = torch.where(last >= 0, settled, named)
    return QueryPlaces(last, named, touched, settled, changed, meant)


def aimed(
    sequence: Sequence_, first: int, sign: int, places: QueryPlaces, row: int
) -> list[tuple[int, int, int]]:
    """(row, token, pad): `[IMG]` looks at all cells that an edit changes, their words at theirs."""
    if not sequence.shown or sequence.anew:
        return []
    pads = places.copied.tolist()
    cells = places.changed.nonzero().flatten().tolist()
    words = [(row, token - first, pads[cell]) for cell, token in sequence.aims.items()]
    return words + [(row, sign, pads[cell]) for cell in cells]


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """(N, 9), also where N is 0."""
    return torch.stack(list(rows)) if rows else torch.zeros(0, 9, dtype=torch.long)


def drawings(sequence: Sequence_, begin: int) -> Iterator[tuple[int, Sequence_]]:
    """What is drawn in a sequence, each with the place where its queries begin in the row."""
    for drawing in (sequence, *sequence.earlier) if sequence.drawn else ():
        assert torch.equal(drawing.ids, sequence.ids[: len(drawing.ids)])
        yield begin, drawing
        begin += NUM_QUERIES


def shared_evenly(length: int, places: Tensor) -> Tensor:
    """(L,) with a sum of 1 at these places."""
    return torch.zeros(length).index_fill(0, places, 1 / len(places))


def see_all_before(mask: Tensor, skipped: int, count: int) -> None:
    """In a row's mask (L, skipped + L) the first `count` tokens see what is before them."""
    mask[:count, : skipped + count] = torch.ones(count, skipped + count).tril(skipped) > 0


def see_up_to(mask: Tensor, skipped: int, sign: int, begin: int) -> None:
    """The queries of an earlier drawing, from `begin` on, see its text up to the token `sign`."""
    queries = slice(begin, begin + NUM_QUERIES)
    mask[queries, : skipped + sign + 1] = True
    own = mask[queries, skipped + begin : skipped + begin + NUM_QUERIES]
    own.copy_(torch.ones_like(own).tril())


def collate(sequences: Sequence[Sequence_], skip: bool = True) -> Batch:
    """Pad to one length; with `skip` the shared prefix, which all must begin with, is left out."""
    first = len(shared_prefix()) if skip else 0
    length = max(sequence.length for sequence in sequences) - first
    count = len(sequences)
    ids = torch.zeros(count, length, dtype=torch.long)
    positions = torch.zeros(3, count, length, dtype=torch.long)
    targets, weights = torch.full((count, length), -100), torch.zeros(count, length)
    mask = torch.zeros(count, 1, length, first + length, dtype=torch.bool)
    pads, queries, shown, drawn, places = [], [], [], [], []
    targeted, counts, counted = defaultdict(list), [], []
    nine = torch.arange(9)
    for row, sequence in enumerate(sequences):
        assert not skip or torch.equal(sequence.ids[:first], shared_prefix())
        words = len(sequence.ids) - first
        ids[row, :words] = sequence.ids[first:]
        positions[:, row, : sequence.own_length - first] = sequence.positions[:, first:]
        see_all_before(mask[row, 0], first, sequence.own_length - first)
        following = torch.where(sequence.learned[1:], sequence.ids[1:], -100)[first:]
        targets[row, : words - 1] = following
        weights[row, : words - 1] = sequence.weights[1:][first:]
        for name, pairs in sequence.attention_targets.items():
            targeted[name] += [(row, token - first, place - first) for token, place in pairs]
        for token, marks in sequence.counts:
            counts.append((row, token - first))
            counted.append(shared_evenly(length, torch.tensor(marks) - first))
        pads += [row * length + start - first for start in sequence.starts]
        shown += sequence.shown
        for begin, drawing in drawings(sequence, words):
            sign = len(drawing.ids) - first - 1
            if drawing is not sequence:
                positions[:, row, begin : begin + NUM_QUERIES] = drawing.positions[:, -NUM_QUERIES:]
                see_up_to(mask[row, 0], first, sign, begin)
            queries.append(row * length + begin)
            drawn.append(drawing.drawn)
            places.append(query_places(drawing, first))
            if places[-1].meant >= 0:
                targeted["meant"].append((row, sign, places[-1].meant))
            targeted["aimed"] += aimed(drawing, first, sign, places[-1], row)
    return Batch(
        sequences=sequences,
        ids=ids,
        positions=positions,
        targets=targets,
        mask=mask | torch.eye(length, first + length, dtype=torch.bool).roll(first, 1),
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
        settled=stacked([place.settled for place in places]),
    )
