"""One sample as tensors: its ids and positions, what is learned, and where taught heads look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from blip3u_core.language.prompt import PICTURE, TURN_END, open_turn_text
from small_world.language import Names, look_words, place_phrase
from small_world.questions import cell_of
from small_world.samples import Drawn, Sample, Shown, Text, segment_text
from small_world.world import Scene

from .copying import REFUSED, copied_characters
from .grounding import PLACE_WORDS, cell_of_place, grounded_spans
from .llm_config import FEATURE_GRID, NUM_QUERIES, PICTURE_TOKENS
from .rewriting import decisive_characters, rewritings, told_characters
from .tokenizer import load_tokenizer

AttentionTarget = tuple[int, int]  # a token, and the one that it is to attend to

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


@dataclass(frozen=True)
class Tokens:
    """A sample's tokens and where they stand in its text; a picture's pads begin nowhere."""

    ids: list[int]
    begins: list[int]  # first character, -1 for a pad
    of: dict[int, int]  # character -> token
    starts: list[int]  # where each picture's pads begin

    @classmethod
    def from_text(cls, text: str) -> "Tokens":
        tokenizer = load_tokenizer()
        pad = tokenizer.token_to_id("<|image_pad|>")
        encoded = tokenizer.encode(text, add_special_tokens=False)
        ids, begins, of, starts = [], [], {}, []
        for token, (begin, end) in zip(encoded.ids, encoded.offsets, strict=True):
            of |= dict.fromkeys(range(begin, end), len(ids))
            if token == pad:
                starts.append(len(ids))
                ids += [pad] * PICTURE_TOKENS
                begins += [-1] * PICTURE_TOKENS
            else:
                ids.append(token)
                begins.append(begin)
        return cls(ids, begins, of, starts)

    def within(self, first: int, end: int) -> list[int]:
        """Tokens that begin between these characters."""
        return [token for token, begin in enumerate(self.begins) if first <= begin < end]

    def pad(self, token: int, cell: int) -> int:
        """The picture token of a cell in the last picture before a token; -1 is the mark before."""
        return max(start for start in self.starts if start < token) + cell


def described_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    for first, end, cell in described_spans(sample):
        for token in tokens.within(first, end):
            yield token - 1, tokens.pad(token, cell)


def grounded_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    for last, cell in grounded_spans(sample):
        yield tokens.of[last], tokens.pad(tokens.of[last], cell)


def repeated_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    copied = {}
    for character, source in copied_characters(sample).items():
        copied.setdefault(tokens.of[character], tokens.of[source])
    for token, source in copied.items():
        yield token - 1, source


def compared_targets(tokens: Tokens) -> Iterator[AttentionTarget]:
    """From each cell of a picture to the same one of the picture before: has it changed?"""
    for before, after in pairwise(tokens.starts):
        for cell in range(PICTURE_TOKENS):
            yield after + cell, before + cell


def counted_targets(sample: Sample, tokens: Tokens) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The mark before the picture is one of the tokens: it is all that nothing leaves."""
    for first, cells in counted_spans(sample):
        token = tokens.of[first]
        yield token - 1, tuple(tokens.pad(token, cell) for cell in (-1, *cells))


def meant_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    """From where a rewriting begins to the object that it is about."""
    for rewriting in rewritings(sample):
        opener = tokens.of[rewriting.start] - 1
        if rewriting.meant is not None:
            yield opener, tokens.pad(opener, cell_of(rewriting.meant))


def told_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    for start, end in told_characters(sample):
        yield tokens.of[start] - 1, tokens.of[end]


def touched_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    """A rewriting's words look as the queries of a drawing do.

    Those of what stays look at its picture token, those of what changes where the writing began,
    which knows the instruction.
    """
    for rewriting in rewritings(sample):
        opener = tokens.of[rewriting.start] - 1
        for first, end, thing in rewriting.phrases:
            for token in tokens.within(first, end):
                kept = opener if thing is None else tokens.pad(token, cell_of(thing))
                yield token - 1, kept


def taught_heads(sample: Sample, tokens: Tokens) -> dict[str, list[AttentionTarget]]:
    """Of each head: where the words of a text shall look."""
    return {
        "described": list(described_targets(sample, tokens)),  # at the object they tell of
        "grounded": list(grounded_targets(sample, tokens)),  # the end of a name, at its object
        "compared": list(compared_targets(tokens)),
        "repeated": list(repeated_targets(sample, tokens)),  # at the word that comes again next
        "meant": list(meant_targets(sample, tokens)),
        "touched": list(touched_targets(sample, tokens)),
        "told": list(told_targets(sample, tokens)),  # a story's sentence, at its instruction
    }


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
        aims=aims(sample, tokens),
        attention_targets=taught_heads(sample, tokens),
        counts=tuple(counted_targets(sample, tokens)),
        earlier=tuple(encode(before) for before in sample.earlier),
    )
