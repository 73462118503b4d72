"""What people call an object of a picture: "the left one", "the bigger star", "whatever is on top".

For training alone; the benchmark's held-out sentences do not sample from here.
"""

import random
from collections.abc import Sequence

from small_world.free_edits import named
from small_world.language import plural
from small_world.wordings import place_words
from small_world.world import Object, Scene

MORE = {"big": ("bigger", "larger", "big"), "small": ("smaller", "little", "small")}
MOST = {"big": ("biggest", "largest", "big"), "small": ("smallest", "tiniest", "small")}
SIDES = {  # (row or column, whether it is the first): words before the noun, words for one there
    ("col", True): (("left",), ("the one on the left", "the left hand one")),
    ("col", False): (("right",), ("the one on the right", "the right hand one")),
    ("row", True): (("upper", "top", "higher"), ("the one at the top", "the one on top")),
    ("row", False): (("lower", "bottom"), ("the one at the bottom", "the one below")),
}
NOUNS = ("one", "one", "thing", "object", "shape")


def by_side(rng: random.Random, things: Sequence[Object], thing: Object, noun: str) -> list[str]:
    """Where it alone is furthest to a side of these things."""
    found = []
    for (line, first), (adjectives, whole) in SIDES.items():
        lines = sorted(getattr(o, line) for o in things)
        if not first:
            lines.reverse()
        if getattr(thing, line) == lines[0] != lines[1]:
            found.append(f"the {rng.choice(adjectives)} {noun}")
            found += whole if noun in NOUNS else ()
    return found


def by_size(rng: random.Random, things: Sequence[Object], thing: Object, noun: str) -> list[str]:
    """Where it alone is big, or small, of these things."""
    if [o.size for o in things].count(thing.size) > 1:
        return []
    words = MORE if len(things) == 2 else MOST
    return [f"the {rng.choice(words[thing.size])} {noun}"]


def called(rng: random.Random, scene: Scene, thing: Object) -> str:
    """A name that means this object alone, or "it" where it is."""
    if len(scene.objects) == 1 or rng.random() < 0.5:
        return named(rng, scene, thing)
    noun = rng.choice(NOUNS)
    found = by_side(rng, scene.objects, thing, noun) + by_size(rng, scene.objects, thing, noun)
    alike = [o for o in scene.objects if o.shape == thing.shape]
    if len(alike) > 1:
        found += by_side(rng, alike, thing, thing.shape) + by_size(rng, alike, thing, thing.shape)
    if [o.color for o in scene.objects].count(thing.color) == 1:
        found += [f"the {thing.color} {noun}"] * 2
    where = place_words(rng, *thing.cell)
    found.append(f"{rng.choice(('the one', 'the thing', 'the object', 'what is'))} {where}")
    return rng.choice(found)


def several(rng: random.Random, scene: Scene) -> tuple[str, list[Object]] | None:
    """Words for two or three of the objects, and which they are: "both stars", "everything red"."""
    if len(scene.objects) < 2:
        return None
    trait = rng.choice(("shape", "shape", "color", "color", "size", "size", "all"))
    if trait == "all":
        words = ["all of them", "everything", "all the objects", "all the shapes", "them all"]
        if len(scene.objects) == 2:
            words = ["both", "both of them", "the two", "them both", "the two of them", *words]
        return rng.choice(words), list(scene.objects)
    value = getattr(rng.choice(scene.objects), trait)
    things = [o for o in scene.objects if getattr(o, trait) == value]
    if len(things) < 2:
        return None
    things_word = rng.choice(("things", "objects", "shapes", "ones"))
    noun = {"shape": plural(value), "color": f"{value} {things_word}",
            "size": f"{value} {things_word}"}[trait]  # fmt: skip
    words = [f"the {noun}", f"all the {noun}", f"all {noun}"]
    if len(things) == 2:
        words += [f"both {noun}", f"the two {noun}", f"both of the {noun}"]
    if trait == "color":
        words += [f"everything {value}", f"everything that is {value}"]
    if trait == "size":
        words += [f"everything {value}"]
    return rng.choice(words), things
