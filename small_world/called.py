"""What people call an object of a picture: "the left one", "the bigger star", "whatever is on top".

For training alone; the benchmark's held-out sentences do not sample from here.
"""

import random
from collections.abc import Sequence

from small_world.free_edits import named
from small_world.language import plural, with_article
from small_world.names import nameable, reference
from small_world.wordings import RELATIONS_SAID, place_words
from small_world.world import COLORS, SHAPES, SIZES, Object, Scene, relations

MORE = {"big": ("bigger", "larger", "big"), "small": ("smaller", "little", "small")}
MOST = {"big": ("biggest", "largest", "big"), "small": ("smallest", "tiniest", "small")}
SIDES = {  # (row or column, whether it is the first): words before the noun, words for one there
    ("col", True): (("left",), ("the one on the left", "the left hand one",
                                "whatever is on the left", "the thing on the left")),
    ("col", False): (("right",), ("the one on the right", "the right hand one",
                                  "whatever is on the right", "the thing on the right")),
    ("row", True): (("upper", "top", "higher"), ("the one at the top", "the one on top",
                                                 "whatever is at the top", "the top thing")),
    ("row", False): (("lower", "bottom"), ("the one at the bottom", "the one below",
                                           "whatever is at the bottom", "the thing at the bottom")),
}  # fmt: skip
LINES = (
    ("row", 0, "top row"), ("row", 1, "middle row"), ("row", 2, "bottom row"),
    ("col", 0, "left column"), ("col", 1, "middle column"), ("col", 2, "right column"),
)  # fmt: skip
AT_SIDE = {"top row": "at the top", "bottom row": "at the bottom",
           "left column": "on the left", "right column": "on the right"}  # fmt: skip
NOUNS = ("one", "one", "thing", "object", "shape")
MANY = ("things", "objects", "shapes", "ones")


def by_side(things: Sequence[Object], thing: Object, noun: str) -> list[str]:
    """Where it alone is furthest to a side of these things: "the left star", "the one below"."""
    found = []
    for (line, first), (adjectives, whole) in SIDES.items():
        lines = sorted(getattr(o, line) for o in things)
        if not first:
            lines.reverse()
        if getattr(thing, line) == lines[0] != lines[1]:
            found += [f"the {adjective} {noun}" for adjective in adjectives]
            found += whole if noun in NOUNS else ()
    return found


def by_size(things: Sequence[Object], thing: Object, noun: str) -> list[str]:
    """Where it alone is big, or small, of these things."""
    if [o.size for o in things].count(thing.size) > 1:
        return []
    words = MORE if len(things) == 2 else MOST
    return [f"the {word} {noun}" for word in words[thing.size]]


def by_looks(scene: Scene, thing: Object) -> list[list[str]]:
    """All names of an object that do not say its place, those of one way together."""
    found = []
    alike = [o for o in scene.objects if o.shape == thing.shape]
    for things, nouns in ((scene.objects, NOUNS), (alike, (thing.shape,))):
        if len(things) > 1:
            for way in (by_side, by_size):
                found.append([name for noun in nouns for name in way(things, thing, noun)])
    if [o.color for o in scene.objects].count(thing.color) == 1:
        found.append([f"the {thing.color} {noun}" for noun in NOUNS])
    return [names for names in found if names]


def by_neighbor(rng: random.Random, scene: Scene, thing: Object) -> list[str]:
    """ "the one below the star", where nothing else is, by each object with a short name."""
    found = []
    for other in nameable(scene):
        for relation in relations(thing, other) if other != thing else ():
            there = [o for o in scene.objects if o != other and relation in relations(o, other)]
            if len(there) == 1:
                noun = rng.choice((*NOUNS, thing.shape, thing.shape))
                words = rng.choice(RELATIONS_SAID[relation])
                found.append(f"the {noun} {words} {reference(rng, scene, other)}")
    return found


def in_corner(scene: Scene, thing: Object) -> list[str]:
    """Where it alone is in a corner."""
    corners = [o for o in scene.objects if 1 not in o.cell]
    return [f"the {noun} in the corner" for noun in NOUNS] if corners == [thing] else []


def called(rng: random.Random, scene: Scene, thing: Object) -> str:
    """A name that means this object alone, or "it" where it is."""
    if len(scene.objects) == 1 or rng.random() < 0.5:
        name = named(rng, scene, thing)
        return name.replace("the ", "that ", 1) if rng.random() < 0.08 else name
    where = place_words(rng, *thing.cell)
    ways = [*by_looks(scene, thing), in_corner(scene, thing)]
    ways += [by_neighbor(rng, scene, thing)] if rng.random() < 0.5 else []
    by_place = f"{rng.choice(('the one', 'the thing', 'the object', 'what is'))} {where}"
    return rng.choice([*(rng.choice(way) for way in ways if way), by_place])


def groups(scene: Scene) -> list[tuple[list[str], list[Object]]]:
    """Names of two or three of the objects: "both stars", "everything red", "all of them"."""
    if len(scene.objects) < 2:
        return []
    found = [(every(len(scene.objects)), list(scene.objects))]
    for trait in ("shape", "color", "size"):
        for value in dict.fromkeys(getattr(o, trait) for o in scene.objects):
            things = [o for o in scene.objects if getattr(o, trait) == value]
            if len(things) > 1:
                nouns = [f"{value} {word}" for word in MANY]
                nouns = [plural(value)] if trait == "shape" else nouns
                names = [name for noun in nouns for name in grouped(noun, len(things))]
                names += every_one(value) if trait == "shape" else whatever_is(value)
                found.append((names, things))
            others = [o for o in scene.objects if getattr(o, trait) != value]
            if others:
                word = with_article(value) if trait == "shape" else value
                found.append((whatever_is_not(word), others))
    return found + in_lines(scene)


def every_one(shape: str) -> list[str]:
    return [f"every {shape}", f"each {shape}"]


def whatever_is(look: str) -> list[str]:
    words = ("everything", "anything", "whatever is", "everything that is", "everything that's",
             "whatever's", "all that is", "everything which is")  # fmt: skip
    return [f"{word} {look}" for word in words]


def whatever_is_not(word: str) -> list[str]:
    words = ("everything that is not", "everything that isn't", "anything that isn't",
             "whatever is not", "all that isn't")  # fmt: skip
    return [f"{some} {word}" for some in words]


def in_line(line: str) -> list[str]:
    words = ("everything in the", "the ones in the", "whatever is in the", "all in the")
    side = AT_SIDE.get(line)
    at = ("everything", "the ones", "the things", "all the things", "whatever is")
    return [f"{word} {line}" for word in words] + [f"{word} {side}" for word in at if side]


def in_lines(scene: Scene) -> list[tuple[list[str], list[Object]]]:
    """Two or more that share a row or a column: "everything in the top row"."""
    found = []
    for line, number, name in LINES:
        things = [o for o in scene.objects if getattr(o, line) == number]
        if len(things) > 1:
            found.append((in_line(name), things))
    return found


def every(count: int) -> list[str]:
    words = ["all of them", "everything", "all the objects", "all the shapes", "them all"]
    two = ["both", "both of them", "the two", "them both", "the two of them"]
    return words + two if count == 2 else words


def grouped(noun: str, count: int) -> list[str]:
    words = [f"the {noun}", f"all the {noun}", f"all {noun}"]
    two = [f"both {noun}", f"the two {noun}", f"both of the {noun}"]
    return words + two if count == 2 else words


def several(rng: random.Random, scene: Scene) -> tuple[str, list[Object]] | None:
    """One of these names and what it means; None where there is no group."""
    found = groups(scene)
    if not found:
        return None
    if len(scene.objects) == 3 and rng.random() < 0.2:
        pair = rng.sample(scene.objects, 2)
        return " and ".join(called(rng, scene, thing) for thing in pair), pair
    names, things = rng.choice(found[1:] if found[1:] and rng.random() < 0.75 else found)
    return rng.choice(names), things


def all_names(scene: Scene) -> dict[str, tuple[Object, ...]]:
    """Every name above with what it means, longer ones first."""
    names = {"it": scene.objects} if len(scene.objects) == 1 else {}
    for thing in scene.objects:
        names |= {name: (thing,) for way in by_looks(scene, thing) for name in way}
    for words, things in groups(scene):
        names |= dict.fromkeys(words, tuple(things))
    return names


def every_name() -> list[str]:
    """All that `all_names` may say of any scene, longer ones first."""
    adjectives = {*COLORS, *(word for line in SIDES.values() for word in line[0])}
    adjectives |= {word for words in (*MORE.values(), *MOST.values()) for word in words}
    found = {f"the {word} {noun}" for word in adjectives for noun in (*NOUNS, *SHAPES)}
    found |= {"it", *(name for line in SIDES.values() for name in line[1]), *every(2)}
    found |= {name for shape in SHAPES for name in grouped(plural(shape), 2)}
    for look in (*COLORS, *SIZES):
        found |= {name for word in MANY for name in grouped(f"{look} {word}", 2)}
        found |= {*whatever_is(look), *whatever_is_not(look)}
    for shape in SHAPES:
        found |= {*every_one(shape), *whatever_is_not(with_article(shape))}
    found |= {name for *_, line in LINES for name in in_line(line)}
    return sorted(found, key=len, reverse=True)


EVERY_NAME = every_name()
