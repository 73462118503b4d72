"""The short names by which an object of a scene is meant: "the star", "the big red star"."""

import random

from small_world.language import place_phrase, spaced
from small_world.world import Object, Scene


def references(scene: Scene, thing: Object) -> list[str]:
    """All short names that mean this object alone: "star", "red star", "big red star", ..."""
    names = {
        "{shape}": (thing.shape,),
        "{color} {shape}": (thing.color, thing.shape),
        "{color} object": (thing.color,),
        "{size} {shape}": (thing.size, thing.shape),
        "{size} {color} {shape}": thing.look,
    }
    found = []
    for form, words in names.items():
        if "" in words:  # a thing has no colour
            continue
        alike = [o for o in scene.objects if set(words) <= set(o.look)]
        if alike == [thing]:
            found.append(form.format(size=thing.size, color=thing.color, shape=thing.shape))
    return found


def reference(rng: random.Random, scene: Scene, thing: Object) -> str:
    """A name of the object with its article; by its place where no shorter one is its own."""
    found = references(scene, thing)
    if not found:
        return f"the {spaced(thing.color, thing.shape)} {place_phrase(thing.place)}"
    return "the " + rng.choice(found[:2] if rng.random() < 0.7 else found)


def without_color(scene: Scene, thing: Object) -> list[str]:
    """Names that do not give away the colour."""
    names = [name for name in references(scene, thing) if thing.color not in name]
    return [f"the {name}" for name in names] + [f"the object {place_phrase(thing.place)}"]


def nameable(scene: Scene) -> list[Object]:
    """The objects that have a name of their own, without their place."""
    return [thing for thing in scene.objects if references(scene, thing)]
