"""Rewritten descriptions: where they differ from the one before, and which object that is about.

All but a few words of them can be copied; those few decide, and an object's words are to be copied
if the instruction does not mean that object.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from blip3u_core.language.prompt import open_turn_text
from small_world.language import look_words, place_phrase
from small_world.samples import Sample, Shown, Text, segment_text
from small_world.world import Object, Scene
from training.copying import PHRASE

WORD = re.compile(r"[^\s,]+|,")


@dataclass(frozen=True)
class Rewriting:
    """A description that the LLM learns to write after an earlier one of the last picture."""

    start: int  # of `text` in the sample's text
    text: str
    before: str
    scene: Scene  # the last picture, which `before` describes

    @property
    def phrases(self) -> Iterator[tuple[int, int, Object | None]]:
        """(first character, end, object of the picture or None for a changed or new one)."""
        things = {phrase_of(thing): thing for thing in self.scene.objects}
        for match in PHRASE.finditer(self.text):
            yield self.start + match.start(), self.start + match.end(), things.get(match[0])

    @property
    def meant(self) -> Object | None:
        """The one object that is taken away or altered."""
        gone = [thing for thing in self.scene.objects if phrase_of(thing) not in self.text]
        return gone[0] if len(gone) == 1 else None


def phrase_of(thing: Object) -> str:
    return f"{look_words(thing)} {place_phrase(thing.place)}"


def rewritings(sample: Sample) -> list[Rewriting]:
    found: list[Rewriting] = []
    start, scene, before = 0, None, None
    for segment in sample.segments:
        if isinstance(segment, Shown):
            scene = segment.scene
        elif isinstance(segment, Text) and segment.loss and PHRASE.search(segment.text):
            if scene is not None and before is not None:
                found.append(Rewriting(start, segment.text, before, scene))
            before = segment.text
        start += len(segment_text(segment))
    return found


def told_characters(sample: Sample) -> list[tuple[int, int]]:
    """(start of a rewriting, end of its instruction): a story's prompt says all of them at once."""
    if sample.kind != "story":
        return []
    first = sample.text.index(open_turn_text("user"))
    last = sample.text.index("\n", first + len(open_turn_text("user")))
    ends = [first + match.start() for match in re.finditer(";", sample.text[first:last])]
    pairs = zip(rewritings(sample), [*ends[1:], last], strict=False)
    return [(rewriting.start, end) for rewriting, end in pairs]


def decisive_characters(sample: Sample) -> set[int]:
    """Of the words that differ from those before, or follow words that were left out."""
    result: set[int] = set()
    for rewriting in rewritings(sample):
        words = list(WORD.finditer(rewriting.text, PHRASE.search(rewriting.text).start()))
        before, after = WORD.findall(rewriting.before), [word[0] for word in words]
        for tag, _, _, first, end in SequenceMatcher(None, before, after, False).get_opcodes():
            if tag != "equal":
                for word in words[first : max(end, first + 1)]:
                    result |= {rewriting.start + place for place in range(*word.span())}
    return result
