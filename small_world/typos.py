"""Slips of the finger: "make teh circle biger". For training alone."""

import random
import re
from dataclasses import replace

from blip3u_core.language.prompt import CAPTION_REQUEST, TURN_END, open_turn_text
from small_world.samples import Sample, Text

WORD = re.compile(r"\b[a-z]{4,}\b", re.IGNORECASE)
TEMPLATE = frozenset(word.lower() for word in WORD.findall(CAPTION_REQUEST))


def slip(rng: random.Random, word: str) -> str:
    """A letter dropped, doubled, or two exchanged; the first one stays."""
    place = rng.randrange(1, len(word) - 1)
    a, b = word[place : place + 2]
    return word[:place] + rng.choice((b, b + a, a + a + b)) + word[place + 2 :]


def mistyped(rng: random.Random, sample: Sample) -> Sample:
    """With one or two words of the newest message misspelled, in the names for things as well."""
    number = max(i for i, part in enumerate(sample.segments) if is_message(part))
    text = sample.segments[number].text
    first = text.rfind(open_turn_text("user")) + 1
    message = text[first:]
    end = message.rfind(TURN_END)
    known = sorted({word.lower() for word in WORD.findall(message[:end])} - TEMPLATE - {"user"})
    count = min(len(known), 1 if rng.random() < 0.7 else 2)
    slips = {word: slip(rng, word) for word in rng.sample(known, count)}

    def typed(words: str) -> str:
        return WORD.sub(lambda match: slips.get(match[0].lower(), match[0]), words)

    def named(names: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
        return tuple((cell, typed(words)) for cell, words in names)

    segment = Text(text[:first] + typed(message[:end]) + message[end:])
    segments = (*sample.segments[:number], segment, *sample.segments[number + 1 :])
    return replace(
        sample, segments=segments, names=named(sample.names), sources=named(sample.sources)
    )


def is_message(part: object) -> bool:
    return isinstance(part, Text) and not part.loss and open_turn_text("assistant") in part.text
