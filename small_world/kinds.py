"""Which shapes, colours and things may be asked about and put in place of another."""

import random
from collections.abc import Sequence

from small_world.things import WORD_OF_THING
from small_world.world import (
    COLORS,
    SHAPES,
    Object,
    Scene,
    WideRandom,
    WideShapesRandom,
    sample_kind,
)


def colored(scene: Scene) -> list[Object]:
    """The objects that have a colour of their own: shapes, no things."""
    return [thing for thing in scene.objects if thing.color]


def random_look(rng: random.Random) -> tuple[str, str]:
    """Any colour and shape of the world, "" and a thing in the wide one."""
    if isinstance(rng, WideRandom):
        shape, color = sample_kind(rng)
        return color, shape
    return rng.choice(tuple(COLORS)), rng.choice(SHAPES)


def random_shape(rng: random.Random) -> str:
    return random_look(rng)[1] if isinstance(rng, WideRandom) else rng.choice(SHAPES)


def without_known(rng: random.Random, words: Sequence[str]) -> list[str]:
    """The words of `words` that name nothing in the world."""
    known = WORD_OF_THING if isinstance(rng, WideRandom | WideShapesRandom) else ()
    return [word for word in words if word not in known]
