"""Telegrams: "red star top left", without articles and prepositions. For training alone."""

import random
import re
from dataclasses import replace

from blip3u_core.language.prompt import TURN_END, open_turn_text
from small_world.samples import Sample, Text
from small_world.typos import is_message

ARTICLE = re.compile(r"\b(?:a|an|the) (?=\w)", re.IGNORECASE)
BEFORE_PLACE = re.compile(
    r"\b(?:at|in|on|near|to) (?:the )?(?=(?:top|upper|bottom|lower|middle|center) "
    r"(?:left|right|middle|center)\b)",
    re.IGNORECASE,
)


def tersely(rng: random.Random, sample: Sample) -> Sample:
    """The newest message without its articles, the prepositions before places, or both."""
    number = max(i for i, part in enumerate(sample.segments) if is_message(part))
    text = sample.segments[number].text
    first = text.rfind(open_turn_text("user")) + 1
    end = text.rfind(TURN_END)
    dropped = rng.choice(((BEFORE_PLACE,), (BEFORE_PLACE, ARTICLE), (BEFORE_PLACE, ARTICLE)))

    def shortened(words: str) -> str:
        for pattern in dropped:
            words = pattern.sub("", words)
        return words

    def named(names: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
        return tuple((cell, shortened(words)) for cell, words in names)

    segment = Text(text[:first] + shortened(text[first:end]) + text[end:])
    segments = (*sample.segments[:number], segment, *sample.segments[number + 1 :])
    return replace(
        sample, segments=segments, names=named(sample.names), sources=named(sample.sources)
    )
