"""Where the taught heads of the text model shall look, token by token."""

from collections.abc import Collection, Iterator
from itertools import pairwise

from blip3u_core.language.prompt import TURN_END
from small_world.language import look_words, place_phrase
from small_world.questions import cell_of
from small_world.samples import Sample, Shown, Text, segment_text

from .copying import copied_characters
from .grounding import grounded_spans, neighbor_spans
from .llm_config import PICTURE_TOKENS
from .rewriting import rewritings, told_characters
from .tokens import Tokens

AttentionTarget = tuple[int, int]  # a token, and the one that it is to attend to


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


def described_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    for first, end, cell in described_spans(sample):
        for token in tokens.within(first, end):
            yield token - 1, tokens.pad(token, cell)


def grounded_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    for last, cell in grounded_spans(sample):
        yield tokens.of[last], tokens.pad(tokens.of[last], cell)


def neighbor_targets(
    sample: Sample, tokens: Tokens, told: Collection[int]
) -> Iterator[AttentionTarget]:
    """ "the one below the star" ends at that one's pad, unless its end is `told` another."""
    for last, cell in neighbor_spans(sample):
        if tokens.of[last] not in told:
            yield tokens.of[last], tokens.pad(tokens.of[last], cell)


def repeated_targets(sample: Sample, tokens: Tokens) -> Iterator[AttentionTarget]:
    copied = {}
    for character, source in copied_characters(sample).items():
        if character in tokens.of and source in tokens.of:  # "grey" is read as "gray"
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


def taught_heads(
    sample: Sample, tokens: Tokens, told: Collection[int]
) -> dict[str, list[AttentionTarget]]:
    """Of each head: where the words of a text shall look; `told` are those that aim already."""
    return {
        "described": list(described_targets(sample, tokens)),  # at the object they tell of
        "grounded": list(grounded_targets(sample, tokens)),  # the end of a name, at its object
        "aimed": list(neighbor_targets(sample, tokens, told)),
        "compared": list(compared_targets(tokens)),
        "repeated": list(repeated_targets(sample, tokens)),  # at the word that comes again next
        "meant": list(meant_targets(sample, tokens)),
        "touched": list(touched_targets(sample, tokens)),
        "told": list(told_targets(sample, tokens)),  # a story's sentence, at its instruction
    }
