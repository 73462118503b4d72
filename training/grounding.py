"""Which words of a text mean which object of the picture before them.

A head of the LLM is taught to look from the last of these words at the object's picture token, and
from words for a background at the picture's last one; what is asked or to be changed is then found
before any answer is.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from small_world import wordings
from small_world.called import EVERY_NAME, all_names
from small_world.language import BACKGROUND_PHRASES, SIZE_WORDS
from small_world.questions import SETTING_CELL, cell_of
from small_world.samples import Sample, Shown, Text, segment_text
from small_world.things import WORD_OF_THING
from small_world.wordings import RELATIONS_SAID
from small_world.world import COLORS, PLACES, SHAPES, Object, Scene, relations

SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
PLACE_NAMES = [place for row in PLACES for place in row]
ANY_SHAPE = ("object", "thing", "shape")
SETTINGS = sorted(
    {
        phrase
        for words in (
            BACKGROUND_PHRASES,
            wordings.BACKGROUND_WORDS,
            wordings.SCENE_WORDS,
            wordings.STATE_WORDS,
        )
        for phrases in words.values()
        for phrase in phrases
    },
    key=len,
    reverse=True,
)
SETTING = re.compile(rf"\b(?:{'|'.join(SETTINGS)})\b")
PLACE_WORDS = re.compile(
    r"(?:top|upper|middle|center|bottom|lower) (?:left|middle|center|right)"
    r"|\b(?:in|at) the (?:center|middle)(?! (?:left|right))|\bto the center"
)
PLACE_NUMBERS = {place: 3 * i + j for i, row in enumerate(PLACES) for j, place in enumerate(row)}
CENTER = 4
SAME_ROW = {"upper": "top", "lower": "bottom", "center": "middle"}
RELATION_OF = {words: name for name, said in RELATIONS_SAID.items() for words in said}
NEIGHBOR_NOUNS = ("one", "thing", "object", "shape")
Spans = list[tuple[int, int]]
CALLED = re.compile(rf"\b(?:{'|'.join(EVERY_NAME)})\b")
NOUNS = "|".join((*SHAPES, *ANY_SHAPE, *WORD_OF_THING))
NAME = re.compile(
    rf"\b(?:({'|'.join(SIZE_OF)}) )?(?:({'|'.join(COLORS)}) )?({NOUNS})\b"
    rf"( (?:at|in|on) the ({'|'.join(PLACE_NAMES)}))?"
)
NEIGHBOR = re.compile(
    rf"\bthe ({'|'.join((*NEIGHBOR_NOUNS, *SHAPES))}) "
    rf"({'|'.join(sorted(RELATION_OF, key=len, reverse=True))}) the ([a-z ]+)"
)


@lru_cache(1000)
def known_names(scene: Scene) -> dict[str, tuple[Object, ...]]:
    return all_names(scene)


def cell_of_place(words: str) -> int:
    """Of words that match `PLACE_WORDS`."""
    row, _, column = words.partition(" ")
    place = f"{SAME_ROW.get(row, row)} {column.replace('center', 'middle')}"
    return PLACE_NUMBERS.get(place, CENTER)


def meant(match: re.Match, scene: Scene, place: str | None) -> Object | None:
    """The only object that the words fit; None if there is none or more than one."""
    size, color, shape = match[1], match[2], WORD_OF_THING.get(match[3], match[3])
    found = [
        thing
        for thing in scene.objects
        if size in (None, *SIZE_WORDS[thing.size])
        and color in (None, thing.color)
        and shape in (*ANY_SHAPE, thing.shape)
        and place in (None, thing.place)
    ]
    return found[0] if len(found) == 1 else None


def grounded_names(text: str, scene: Scene) -> list[tuple[int, int]]:
    """(last character, cell) of the names in `text` that mean one object, and of settings."""
    result = [(match.end() - 1, SETTING_CELL) for match in SETTING.finditer(text.lower())]
    for match in NAME.finditer(text.lower()):
        thing, last = meant(match, scene, match[5]), match.end() - 1
        if thing is None and match[4]:  # the place may be where the object shall go
            thing, last = meant(match, scene, None), match.start(4) - 1
        if thing is not None:
            result.append((last, 3 * thing.row + thing.col))
    ends = {last for last, _ in result}
    return result + [name for name in called_names(text.lower(), scene) if name[0] not in ends]


def called_names(text: str, scene: Scene) -> list[tuple[int, int]]:
    """(last character, cell) of "the left one", "what is at the top left", "both stars", "it".

    A name of several has each of their cells.
    """
    names, found = known_names(scene), []
    for match in CALLED.finditer(text):
        things = names.get(match[0], ())
        found += [(match.end() - 1, cell_of(thing)) for thing in things]
    there = {cell_of(thing) for thing in scene.objects}
    for match in PLACE_WORDS.finditer(text):
        cell = cell_of_place(match[0])
        if cell in there:
            found.append((match.end() - 1, cell))
    return found


def neighbor_names(text: str, scene: Scene) -> list[tuple[int, int]]:
    """(last character, cell) of "the one below the star", where it means one object."""
    found = []
    for match in NEIGHBOR.finditer(text.lower()):
        relation = RELATION_OF[match[2]]
        other = NAME.match(match[0], match.start(3) - match.start())
        thing = meant(other, scene, None) if other else None
        there = [
            o
            for o in scene.objects
            if thing is not None
            and o != thing
            and match[1] in (*NEIGHBOR_NOUNS, o.shape)
            and relation in relations(o, thing)
        ]
        if len(there) == 1:
            found.append((match.start() + other.end() - 1, cell_of(there[0])))
    return found


def spans(sample: Sample, names: Callable[[str, Scene], list[tuple[int, int]]]) -> Spans:
    """(last character, cell) of all names that others say of the last picture before them."""
    result, start, scene = [], 0, None
    for segment in sample.segments:
        if isinstance(segment, Shown):
            scene = segment.scene
        elif isinstance(segment, Text) and not segment.loss and scene is not None:
            result += [(start + last, cell) for last, cell in names(segment.text, scene)]
        start += len(segment_text(segment))
    return result


def grounded_spans(sample: Sample) -> Spans:
    return spans(sample, grounded_names)


def neighbor_spans(sample: Sample) -> Spans:
    return spans(sample, neighbor_names)
