"""One sample as tensors: its ids and positions, what is learned, and where taught heads look."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blip3u_core.language.prompt import PICTURE, open_turn_text
from small_world.language import Names
from small_world.samples import Drawn, Sample, Shown, Text, segment_text
from small_world.world import Scene

from .attention_targets import AttentionTarget, counted_targets, taught_heads
from .copying import REFUSED
from .grounding import PLACE_WORDS, cell_of_place
from .llm_config import FEATURE_GRID, NUM_QUERIES, PICTURE_TOKENS
from .rewriting import decisive_characters
from .tokenizer import load_tokenizer
from .tokens import Tokens

ANSWER_WEIGHT = 4.0
DECISIVE_WEIGHT = 8.0


def last_mentions(sample: Sample) -> dict[int, int]:
    """For each cell that the newest request tells of, the last character of what says it best.

    That is the object whose look it takes over, or else its last mention.
    """
    return named_cells(sample) | last_words(sample, sample.sources)


def named_cells(sample: Sample) -> dict[int, int]:
    """For each cell that the newest request names, the last character of its last mention.

    A cell is named by the words for its object, which may come after its place, or else by the
    place alone. What was said before the last picture is of that picture.
    """
    text = sample.text.lower()
    newest = newest_request(text)
    mentions = {
        cell_of_place(match[0]): match.end() - 1 for match in PLACE_WORDS.finditer(text, newest)
    }
    return mentions | last_words(sample, sample.names)


def last_words(sample: Sample, names: Names) -> dict[int, int]:
    """For each cell the last character of its words in the newest request."""
    text = sample.text.lower()
    newest, found = newest_request(text), {}
    for cell, words in names:
        start = text.rfind(words, newest)
        assert start >= 0, f"{words!r} is not in {text[newest:]!r}"
        found[cell] = start + len(words) - 1
    return found


def newest_request(text: str) -> int:
    """Where the last user turn begins, or what follows the last picture of the answer to it."""
    turn = text.rfind(open_turn_text("user"))
    answer = text.rfind(open_turn_text("assistant"))
    return max(turn, text.rfind(PICTURE, answer) if answer > turn else -1, 0)


@dataclass(frozen=True)
class Sequence_:
    """One sample, ready for the text model; queries are not in `ids`."""

    kind: str
    ids: Tensor  # (L,)
    positions: Tensor  # (3, L + queries)
    learned: Tensor  # (L,) bool: the token is a target
    weights: Tensor  # (L,) of the learned tokens
    starts: tuple[int, ...]  # where each picture's pads begin
    shown: tuple[Scene, ...]
    drawn: Scene | None
    mentions: Tensor  # (9,) token of the last mention of each cell, -1 where there is none
    anew: bool  # the drawing keeps nothing of the pictures before
    aims: dict[int, int]  # cell -> token that names it, if the drawing changes it
    attention_targets: dict[str, list[AttentionTarget]]  # of each taught head: see `taught_heads`
    counts: tuple[tuple[int, tuple[int, ...]], ...]  # (token, tokens): the answer is their number
    earlier: tuple["Sequence_", ...]  # drawings on the way, each of a beginning of `ids`

    @property
    def own_length(self) -> int:
        return self.positions.shape[1]

    @property
    def length(self) -> int:
        """With the queries of the earlier drawings, which stand behind its own."""
        return self.own_length + NUM_QUERIES * len(self.earlier)


def learned_spans(sample: Sample) -> list[tuple[int, int]]:
    """Character ranges of the sample's text that the LLM learns to write."""
    spans, place = [], 0
    for segment in sample.segments:
        end = place + len(segment_text(segment))
        if isinstance(segment, Text) and segment.loss:
            spans.append((place, end))
        place = end
    return spans


def first_characters(sample: Sample) -> list[int]:
    """Where the LLM begins to answer: the first token is the choice between words and a picture."""
    opened = open_turn_text("assistant")
    return [first for first, _ in learned_spans(sample) if sample.text[:first].endswith(opened)]


def changed_cells(before: Scene, after: Scene) -> tuple[list[int], list[int]]:
    """Cells whose object an edit takes or alters, and all cells that it makes different."""
    old = {3 * thing.row + thing.col: thing for thing in before.objects}
    new = {3 * thing.row + thing.col: thing for thing in after.objects}
    cells = [cell for cell in range(9) if old.get(cell) != new.get(cell)]
    return [cell for cell in cells if cell in old], cells


def exchanged_cells(before: Scene, after: Scene) -> dict[int, int]:
    """Of cells between which several objects change places: where what they hold came from."""
    _, cells = changed_cells(before, after)
    old, new = (
        {3 * o.row + o.col: (o.shape, o.color, o.size) for o in scene.objects}
        for scene in (before, after)
    )
    found = {}
    for cell in cells:
        origins = [c for c in cells if cell in new and old.get(c) == new[cell]]
        if len(origins) == 1:
            found[cell] = origins[0]
    return found if len(found) > 1 else {}


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


def token_weights(sample: Sample, tokens: Tokens) -> Tensor:
    """(L,) of the learned tokens: short answers and decisive words are few and decide all."""
    weights = torch.ones(len(tokens.ids))
    decisive = {tokens.of[character] for character in decisive_characters(sample)}
    if sample.kind in ("question", "converse"):
        weights *= ANSWER_WEIGHT
    if sample.kind == "converse":
        decisive |= {tokens.of[first] for first in first_characters(sample)}
        refused = [match.span(1) for match in REFUSED.finditer(sample.text)]
        decisive |= {tokens.of[place] for span in refused for place in range(*span)}
    weights[sorted(decisive)] = DECISIVE_WEIGHT
    return weights


def learned_tokens(sample: Sample, tokens: Tokens) -> Tensor:
    """(L,) bool; marks of pictures inside learned text are put there by the machine."""
    tokenizer = load_tokenizer()
    learned = torch.zeros(len(tokens.ids), dtype=torch.bool)
    for first, end in learned_spans(sample):
        learned[tokens.within(first, end)] = True
    if sample.draws and learned.any():
        learned[-1] = True  # after a reasoning or a story's words, the wish to draw
    for mark in ("<|vision_start|>", "<|vision_end|>"):
        learned &= torch.tensor(tokens.ids) != tokenizer.token_to_id(mark)
    return learned


def aims(sample: Sample, tokens: Tokens) -> dict[int, int]:
    """For each cell that an edit changes, the token that ends the words for it."""
    shown = [segment.scene for segment in sample.segments if isinstance(segment, Shown)]
    if not sample.draws or sample.anew or not shown:
        return {}
    _, changed = changed_cells(shown[-1], sample.segments[-1].scene)
    named = named_cells(sample).items()
    return {cell: tokens.of[place] for cell, place in named if cell in changed}


def encode(sample: Sample) -> Sequence_:
    tokens = Tokens.from_text(sample.text)
    mentions = torch.full((PICTURE_TOKENS,), -1)
    for cell, place in last_mentions(sample).items():
        mentions[cell] = tokens.of[place]
    length = len(tokens.ids) + (NUM_QUERIES if sample.draws else 0)
    aimed = aims(sample, tokens)
    return Sequence_(
        kind=sample.kind,
        ids=torch.tensor(tokens.ids),
        positions=picture_positions(length, tokens.starts, spatial=not sample.draws),
        learned=learned_tokens(sample, tokens),
        weights=token_weights(sample, tokens),
        starts=tuple(tokens.starts),
        shown=tuple(segment.scene for segment in sample.segments if isinstance(segment, Shown)),
        drawn=sample.segments[-1].scene if isinstance(sample.segments[-1], Drawn) else None,
        mentions=mentions,
        anew=sample.anew,
        aims=aimed,
        attention_targets=taught_heads(sample, tokens, aimed.values()),
        counts=tuple(counted_targets(sample, tokens)),
        earlier=tuple(encode(before) for before in sample.earlier),
    )
