"""Reads captions back and says whether they are true of a scene; shares no code with their writer.

It knows words and their order, no grammar: what stands before or behind a shape's name is said of
it, places belong to shapes in the order of their mention, a relation holds of its two neighbours.
"""

import re
from dataclasses import dataclass
from itertools import permutations

from small_world.things import THINGS, WORD_OF_THING
from small_world.world import Object, Scene

COLORS = {
    "red": "red crimson scarlet", "green": "green emerald", "blue": "blue azure",
    "orange": "orange", "yellow": "yellow golden", "purple": "purple violet",
    "pink": "pink rosy", "brown": "brown",
}  # fmt: skip
SIZES = {"small": "small little tiny", "big": "big large huge giant"}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COUNTS = {"two": 2, "2": 2, "pair": 2, "couple": 2, "three": 3, "3": 3}
BACKGROUNDS = (  # in this order: "a foggy day" is fog
    ("fog", r"fog|mist|gray background"),
    ("snow", r"snow|winter|white background"),
    ("desert", r"desert|\bsand"),
    ("night", r"night|dark"),
    ("day", r"\bday|sunny|sunshine"),
)
COLOR_OF = {word: color for color, words in COLORS.items() for word in words.split()}
SIZE_OF = {word: size for size, words in SIZES.items() for word in words.split()}
SHAPE_OF = {name: shape for shape in SHAPES for name in (shape, shape + "s", shape + "es")}
KIND_OF = SHAPE_OF | {thing.plural: name for name, thing in THINGS.items() if thing.plural}
KIND_OF |= {word + end: name for word, name in WORD_OF_THING.items() for end in ("", "s", "es")}
KIND_OF |= {word[:-1] + "ies": name for word, name in WORD_OF_THING.items() if word[-1] == "y"}
BEFORE = {"a", "an", "one", "the", "very", "exactly", "of", "colored", "and"}
BEHIND = {",", "in", "that", "which", "is", "and", "colored", "very"}
RELATION = re.compile(
    r"\b(?:(?:on |to )?(?:the )?(left|right)(?: side)? of|(above|over|on top of)|"
    r"(below|under|underneath|beneath)) (it\b|(?!the picture|a (?:blue|night) sky)(?=[a-z]))"
    r"|\b(?:to|on) its (left|right)(?: side)?()"
)
PLACE = re.compile(
    r"\b(top|upper|middle|center|bottom|lower) (left|middle|center|right)\b"
    r"|\b(top|upper|bottom|lower)\b|\b(left|right(?! in the (?:very |middle|center)))\b"
    r"|\b(middle|center)\b"
)
LINE = {
    "top": 0,
    "upper": 0,
    "middle": 1,
    "center": 1,
    "bottom": 2,
    "lower": 2,
    "left": 0,
    "right": 2,
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

Place = tuple[int | None, int | None]


@dataclass(frozen=True)
class Mention:
    """One or several alike objects as a text mentions them; None is not said."""

    shape: str
    color: str | None
    size: str | None
    count: int

    def fits(self, thing: Object) -> bool:
        return (
            thing.shape == self.shape
            and self.color in (None, thing.color)
            and self.size in (None, thing.size)
        )


def read_mentions(text: str, kind_of: dict[str, str]) -> list[tuple[int, Mention]]:
    """Every mention with the character at which its shape stands."""
    words = [(m[0], m.start()) for m in re.finditer(r"[a-z]+|\d|[^\sa-z\d]", text)]
    found, taken = [], -1  # the last word that an earlier mention took from behind
    for i, (word, start) in enumerate(words):
        if word not in kind_of:
            continue
        color = size = None
        count, j = 1, i - 1
        while (
            j > taken and words[j][0] in BEFORE | COLOR_OF.keys() | SIZE_OF.keys() | COUNTS.keys()
        ):
            color = color or COLOR_OF.get(words[j][0])
            size = size or SIZE_OF.get(words[j][0])
            count = max(count, COUNTS.get(words[j][0], 1))
            j -= 1
        j = i + 1
        behind: list[str] = []
        while j < len(words) and words[j][0] in BEHIND | COLOR_OF.keys() | SIZE_OF.keys():
            behind.append(words[j][0])
            j += 1
        if j < len(words) and words[j][0] in kind_of:  # the last words are the next one's
            while behind and behind[-1] not in (",", "and"):
                behind.pop()
        if color is None or size is None:
            taken = i + len(behind)
        color = color or next((COLOR_OF[w] for w in behind if w in COLOR_OF), None)
        size = size or next((SIZE_OF[w] for w in behind if w in SIZE_OF), None)
        found.append((start, Mention(kind_of[word], color, size, count)))
    return found


def read_background(text: str) -> str | None:
    return next((name for name, words in BACKGROUNDS if re.search(words, text)), None)


def read_relation(text: str, starts: list[int]) -> tuple[str, bool] | None:
    """(relation, whether it holds of the first mention towards the second)."""
    match = RELATION.search(text)
    if match is None or len(starts) != 2:
        return None
    side = match[1] or match[5]
    relation = side or ("above" if match[2] else "below")
    of_it = match[4] == "it" or match[5] is not None
    return relation, not of_it and match.start() > starts[0]


def read_places(text: str) -> list[Place]:
    found: list[Place] = []
    for match in PLACE.finditer(RELATION.sub(" ", text)):
        pair, row, col, center = match[1], match[3], match[4], match[5]
        if pair:
            found.append((LINE[match[1]], LINE[match[2]]))
        elif center:
            found.append((1, 1))
        else:
            found.append((LINE[row] if row else None, LINE[col] if col else None))
    return found


def related(a: Object, b: Object, relation: str) -> bool:
    return {
        "left": a.col < b.col,
        "right": a.col > b.col,
        "above": a.row < b.row,
        "below": a.row > b.row,
    }[relation]


def is_true(text: str, scene: Scene, wide: bool = False) -> bool:
    """Whether the scene has exactly what the text says, in all that it says.

    Args: wide: things are known too, and not only shapes.
    """
    text = text.lower()
    background = read_background(text)
    if background not in (None, scene.background):
        return False
    mentions = read_mentions(text, KIND_OF if wide else SHAPE_OF)
    single = [mention for _, mention in mentions for _ in range(mention.count)]
    if len(single) != len(scene.objects):
        return False
    relation = read_relation(text, [start for start, _ in mentions])
    places = read_places(text)
    if places and len(places) != len(single):
        return False
    for things in permutations(scene.objects):
        right = all(mention.fits(thing) for mention, thing in zip(single, things, strict=True))
        right = right and all(
            row in (None, thing.row) and col in (None, thing.col)
            for (row, col), thing in zip(places, things, strict=False)
        )
        if right and relation is not None:
            name, forward = relation
            right = related(*(things if forward else things[::-1]), name)
        if right:
            return True
    return False
