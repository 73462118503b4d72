"""The phrase book: what people say, written down by several hands, one template a line.

`phrases/<topic>.txt` holds lines of `kind: template`. What a kind means, and which words stand in
for its slots, is in the module that speaks it: `phrase_edits.py`, `phrase_questions.py`, ...
"""

import random
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Formatter

FOLDER = Path(__file__).with_name("phrases")
TOPICS = ("edits", "follow", "questions", "draw", "talk")
A_BEFORE_VOWEL = re.compile(r"\ba (?=[aeiou])")


@cache
def phrases(topic: str) -> Mapping[str, tuple[str, ...]]:
    """All templates of a topic by their kind."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (FOLDER / f"{topic}.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, _, template = line.partition(": ")
            found[kind].append(template)
    return {kind: tuple(templates) for kind, templates in found.items()}


@cache
def slots(template: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in Formatter().parse(template) if name)


def phrase(rng: random.Random, topic: str, kind: str, **words: str) -> tuple[str, frozenset[str]]:
    """A template of the kind, filled, and the slots that it has.

    `words` may say more than a template asks for; one that asks for more is not taken.
    """
    templates = phrases(topic)[kind]
    template = rng.choice([t for t in templates if slots(t) <= words.keys()])
    return A_BEFORE_VOWEL.sub("an ", template.format(**words)), slots(template)
