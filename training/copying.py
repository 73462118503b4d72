"""Which earlier words a description repeats, for a head of the LLM that is taught to copy them.

A rewritten description is mostly the one before it; what differs stands in the instruction between.
"""

import re

from small_world.language import place_phrase
from small_world.samples import Sample, Text, segment_text
from small_world.things import THINGS
from small_world.world import COLORS, PLACES, SHAPES, SIZES

PLACE_PHRASES = [place_phrase(place) for row in PLACES for place in row]
THING_NAMES = "|".join(THINGS)
PHRASE = re.compile(
    rf"\ban? ({'|'.join(SIZES)}) (?:({'|'.join(COLORS)}) (?!{THING_NAMES})|(?={THING_NAMES}))"
    rf"({'|'.join((*SHAPES, *THINGS))}) ({'|'.join(PLACE_PHRASES)})"
)
GROUPS = (1, 2, 3, 4)  # size, colour (of a thing: None), shape, place
REFUSED = re.compile(r", not (?:an? )?(\w+)\.")  # what is not known is named as it was asked for
LIKE = 2  # so many of the four must agree


def likeness(one: re.Match, other: re.Match) -> tuple[int, bool]:
    same = [one[group] == other[group] for group in GROUPS]
    return sum(same), same[-1]


def copied_words(text: str, first: int, last: int) -> dict[int, int]:
    """Character -> earlier character, for the words of the phrases in text[first:last].

    A word comes from the phrase before that is most like its own, or else from the words since.
    """
    earlier = [match for match in PHRASE.finditer(text) if match.end() <= first]
    result: dict[int, int] = {}
    for match in REFUSED.finditer(text, first, last):
        begin = text.lower().rfind(match[1], 0, first)
        if begin >= 0:  # else it was mistyped
            result |= {match.start(1) + i: begin + i for i in range(len(match[1]))}
    for match in PHRASE.finditer(text, first, last) if earlier else ():
        best = max(reversed(earlier), key=lambda other: likeness(match, other))
        alike = likeness(match, best)[0] >= LIKE
        if alike:
            result[match.start()] = best.start()
        for group in GROUPS:
            if match[group] is None:
                continue
            begin = best.start(group)
            if not alike or best[group] != match[group]:
                begin = text.rfind(match[group], earlier[-1].end(), first)
                if begin < 0:  # a story's instructions stand before all its sentences
                    begin = text.rfind(match[group], 0, first)
            if begin >= 0:
                result |= {match.start(group) + i: begin + i for i in range(len(match[group]))}
    return result


def copied_characters(sample: Sample) -> dict[int, int]:
    """Of all texts that the LLM learns to write."""
    text, start = sample.text, 0
    result: dict[int, int] = {}
    for segment in sample.segments:
        end = start + len(segment_text(segment))
        if isinstance(segment, Text) and segment.loss:
            result |= copied_words(text, start, end)
        start = end
    return result
