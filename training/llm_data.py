"""Samples as tensors: ids, positions, what is learned, which pictures are seen or drawn."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from blip3u_core.prompt import SYSTEM_PROMPT, TURN_END, open_turn_text, turn_text

from .copying import copied_characters
from .dialogues import MIX, sample_any
from .grounding import grounded_spans
from .language import look_words, place_phrase
from .llm_config import FEATURE_GRID, NUM_QUERIES, PICTURE_TOKENS
from .samples import Drawn, Sample, Shown, Text, segment_text
from .tokenizer import load_tokenizer
from .world import PLACES, Scene

BLANK = "blank"  # the bare prompt " ", whose features are the decoder's negative: zero
EMPTY = Scene("day", ())  # stands for the blank's target, which is zero


PLACE_WORDS = re.compile(
    r"(?:top|middle|bottom) (?:left|middle|right)"
    r"|\b(?:in|at) the (?:center|middle)(?! (?:left|right))|\bto the center"
)
PLACE_NUMBERS = {place: 3 * i + j for i, row in enumerate(PLACES) for j, place in enumerate(row)}
CENTER = 4
ANSWER_WEIGHT = 4.0


def last_mentions(sample: Sample) -> dict[int, int]:
    """For each cell that the text names, the last character of its last mention.

    A cell is named by its place or, where no place is said, by the words for its object.
    """
    text = sample.text
    mentions = {
        PLACE_NUMBERS.get(match[0], CENTER): match.end() - 1 for match in PLACE_WORDS.finditer(text)
    }
    for cell, words in sample.names:
        start = text.lower().rfind(words)
        assert start >= 0, f"{words!r} is not in {text!r}"
        mentions.setdefault(cell, start + len(words) - 1)
    return mentions


@dataclass(frozen=True)
class Sequence_:
    """One sample, ready for the text model; queries are not in `ids`."""

    kind: str
    ids: Tensor  # (L,)
    positions: Tensor  # (3, L + queries)
    learned: Tensor  # (L,) bool: the token is a target
    starts: tuple[int, ...]  # where each picture's pads begin
    shown: tuple[Scene, ...]
    drawn: Scene | None
    mentions: Tensor  # (9,) token of the last mention of each cell, -1 where there is none

    looks: tuple[tuple[int, int], ...]  # (token, pad): the next word is said of that pad's cell
    grounds: tuple[tuple[int, int], ...]  # (token, pad): here ends a name of that pad's object
    repeats: tuple[tuple[int, int], ...]  # (token, token): the next word repeats that one
    counts: tuple[tuple[int, tuple[int, ...]], ...]  # (token, tokens): the answer is their number

    @property
    def length(self) -> int:
        return self.positions.shape[1]


def learned_spans(sample: Sample) -> list[tuple[int, int]]:
    """Character ranges of the sample's text that the LLM learns to write."""
    spans, place = [], 0
    for segment in sample.segments:
        end = place + len(segment_text(segment))
        if isinstance(segment, Text) and segment.loss:
            spans.append((place, end))
        place = end
    return spans


def described_spans(sample: Sample) -> list[tuple[int, int, int]]:
    """(first character, end, cell) of the words that are said of an object of the last picture."""
    spans, place, scene = [], 0, None
    for segment in sample.segments:
        if isinstance(segment, Shown):
            scene = segment.scene
        elif isinstance(segment, Text) and segment.loss and scene is not None:
            if segment.about is not None:
                end = place + len(segment.text.removesuffix(TURN_END))
                spans.append((place, end, segment.about))
            for thing in scene.objects:
                phrase = f"{look_words(thing)} {place_phrase(thing.place)}"
                found = segment.text.find(phrase)
                if found >= 0:
                    first = place + found
                    spans.append((first, first + len(phrase), 3 * thing.row + thing.col))
        place += len(segment_text(segment))
    return spans


def counted_spans(sample: Sample) -> list[tuple[int, tuple[int, ...]]]:
    """(first character, cells of the last picture) of the answers that a number decides."""
    spans, place = [], 0
    for segment in sample.segments:
        if isinstance(segment, Text) and segment.counted is not None:
            spans.append((place, segment.counted))
        place += len(segment_text(segment))
    return spans


def changed_cells(before: Scene, after: Scene) -> tuple[list[int], list[int]]:
    """Cells whose object an edit takes or alters, and all cells that it makes different."""
    old = {3 * thing.row + thing.col: thing for thing in before.objects}
    new = {3 * thing.row + thing.col: thing for thing in after.objects}
    cells = [cell for cell in range(9) if old.get(cell) != new.get(cell)]
    return [cell for cell in cells if cell in old], cells


def picture_positions(length: int, starts: Sequence[int], spatial: bool) -> Tensor:
    """(3, length): plain when drawing, three-dimensional when answering."""
    if not spatial or not starts:
        return torch.arange(length).expand(3, -1)
    steps = torch.ones(length, dtype=torch.long)
    for start in starts:  # nine tokens take three moments, and the next token comes after them
        steps[start + 1 : start + PICTURE_TOKENS] = 0
        if start + PICTURE_TOKENS < length:
            steps[start + PICTURE_TOKENS] = FEATURE_GRID
    positions = (steps.cumsum(0) - 1).expand(3, -1).clone()
    place = torch.arange(PICTURE_TOKENS)
    for start in starts:
        positions[1, start : start + PICTURE_TOKENS] += place // FEATURE_GRID
        positions[2, start : start + PICTURE_TOKENS] += place % FEATURE_GRID
    return positions


def encode(sample: Sample) -> Sequence_:
    tokenizer = load_tokenizer()
    pad = tokenizer.token_to_id("<|image_pad|>")
    encoded = tokenizer.encode(sample.text, add_special_tokens=False)
    spans = learned_spans(sample)
    ids, learned, starts = [], [], []
    mentions, named = torch.full((9,), -1), last_mentions(sample)
    described, looks = described_spans(sample), []
    names, grounds = grounded_spans(sample), []
    copied, repeats, token_of = copied_characters(sample), [], {}
    counted, counts = counted_spans(sample), []
    for token, (begin, end) in zip(encoded.ids, encoded.offsets, strict=True):
        if token == pad:
            starts.append(len(ids))
            ids += [pad] * PICTURE_TOKENS
            learned += [False] * PICTURE_TOKENS
        else:
            for cell, place in named.items():
                if begin <= place < end:
                    mentions[cell] = len(ids)
            for first, last, cell in described:
                if first <= begin < last and ids:
                    looks.append((len(ids) - 1, starts[-1] + cell))
            grounds += [(len(ids), starts[-1] + cell) for c, cell in names if begin <= c < end]
            counts += [  # -1: the mark before the picture, which is all that nothing leaves
                (len(ids) - 1, tuple(starts[-1] + cell for cell in (-1, *cells)))
                for place, cells in counted
                if begin <= place < end
            ]
            sources = [copied[c] for c in range(begin, end) if c in copied]
            if sources:
                repeats.append((len(ids) - 1, token_of[sources[0]]))
            token_of |= dict.fromkeys(range(begin, end), len(ids))
            ids.append(token)
            learned.append(any(first <= begin < last for first, last in spans))
    if learned[-1] is False and sample.draws and any(learned):
        learned[-1] = True  # after a reasoning or a story's words, the wish to draw
    shown = tuple(segment.scene for segment in sample.segments if isinstance(segment, Shown))
    # marks inside learned text (vision start, end) are put there by the machine, never written
    start_id = tokenizer.token_to_id("<|vision_start|>")
    end_id = tokenizer.token_to_id("<|vision_end|>")
    learned = [
        flag and token not in (start_id, end_id) for flag, token in zip(learned, ids, strict=True)
    ]
    drawn = sample.segments[-1].scene if isinstance(sample.segments[-1], Drawn) else None
    length = len(ids) + (NUM_QUERIES if sample.draws else 0)
    return Sequence_(
        kind=sample.kind,
        ids=torch.tensor(ids),
        positions=picture_positions(length, starts, spatial=not sample.draws),
        learned=torch.tensor(learned),
        starts=tuple(starts),
        shown=shown,
        drawn=drawn,
        mentions=mentions,
        looks=tuple(looks),
        grounds=tuple(grounds),
        repeats=tuple(repeats),
        counts=tuple(counts),
    )


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
    meant: Tensor  # (N, 3) row, `[IMG]` and the pad of the object that an edit is about
    changed: Tensor  # (D, 9) bool, cells that differ from the last picture shown
    looks: Tensor  # (N, 3) row, token and the pad that it may describe
    grounds: Tensor  # (N, 3) row, token and the pad of the object whose name ends there
    repeats: Tensor  # (N, 3) row, token and the earlier token that comes next again
    counts: Tensor  # (N, 2) row and token whose next word says how many there are
    counted: Tensor  # (N, L) shares of 1: the mark before the picture and the pads to be counted
    touched: Tensor  # (D, 9) place in its row of `[IMG]` for a changed cell, else of the cell's pad
    weights: Tensor  # (B,) of the row's learned tokens: short answers are few and decide all
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
    touched: Tensor  # `[IMG]` for a cell that the drawing changes, else the cell's pad
    changed: Tensor  # bool, which cells those are
    meant: int  # the pad of the one object that is taken or altered


def query_places(sequence: Sequence_, first: int) -> QueryPlaces:
    """Of a sequence with a drawing, of which the `first` tokens are left out."""
    nine, sign = torch.arange(9), len(sequence.ids) - first - 1
    last = sequence.starts[-1] - first + nine if sequence.starts else nine * 0 - 1
    changed, meant = torch.zeros(9, dtype=torch.bool), -1
    if sequence.shown:
        taken, cells = changed_cells(sequence.shown[-1], sequence.drawn)
        changed[cells] = True
        meant = int(last[taken[0]]) if len(taken) == 1 else -1
    named = torch.where(sequence.mentions >= first, sequence.mentions - first, sign)
    touched = torch.where(changed & (last >= 0), sign, last)
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
    targets = torch.full((count, length), -100)
    valid = torch.zeros(count, length, dtype=torch.bool)
    pads, queries, shown, drawn, places = [], [], [], [], []
    looks, grounds, repeats, meant, counts, counted = [], [], [], [], [], []
    nine = torch.arange(9)
    for row, sequence in enumerate(sequences):
        assert not skip or torch.equal(sequence.ids[:first], shared_prefix())
        words = len(sequence.ids) - first
        ids[row, :words] = sequence.ids[first:]
        positions[:, row, : sequence.length - first] = sequence.positions[:, first:]
        valid[row, : sequence.length - first] = True
        following = torch.where(sequence.learned[1:], sequence.ids[1:], -100)[first:]
        targets[row, : words - 1] = following
        looks += [(row, token - first, pad - first) for token, pad in sequence.looks]
        grounds += [(row, token - first, pad - first) for token, pad in sequence.grounds]
        repeats += [(row, token - first, old - first) for token, old in sequence.repeats]
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
                meant.append((row, words - 1, places[-1].meant))
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
        meant=torch.tensor(meant, dtype=torch.long).view(-1, 3),
        changed=stacked([place.changed for place in places]).bool(),
        looks=torch.tensor(looks, dtype=torch.long).view(-1, 3),
        grounds=torch.tensor(grounds, dtype=torch.long).view(-1, 3),
        repeats=torch.tensor(repeats, dtype=torch.long).view(-1, 3),
        counts=torch.tensor(counts, dtype=torch.long).view(-1, 2),
        counted=torch.stack(counted) if counted else torch.zeros(0, length),
        touched=stacked([place.touched for place in places]),
        weights=torch.tensor([ANSWER_WEIGHT if s.kind == "question" else 1.0 for s in sequences]),
        named=stacked([place.named for place in places]),
    )
