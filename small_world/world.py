"""The world of blip3u-tiny: one to three flat shapes on a 3x3 grid before one of five backgrounds.

Everything that the model is taught is said about a `Scene`, and every picture is a rendered one,
so the ground truth is exact. The split is by hash: some colour-shape-relation triples never occur
in training at all ("never_seen"), and one in sixteen of all other scenes is kept back as well
("held_out").

The wide world is the same with a hundred things (`things.py`) besides the shapes. A sampler is in
the world of its source of chance: any sampler that is given a `WideRandom` speaks of things too.
Some pairs of a thing and something else never meet in training.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from zlib import crc32

import numpy as np

from small_world.emoji_art import thing_art
from small_world.things import THINGS

PICTURE_SIZE = 128
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = {
    "red": (215, 30, 35),
    "green": (30, 150, 50),
    "blue": (35, 70, 225),
    "yellow": (250, 220, 20),
    "orange": (250, 130, 15),
    "purple": (135, 45, 170),
    "pink": (245, 90, 180),
    "brown": (115, 65, 25),
}
SIZES = {"small": 11, "big": 17}  # radius in pixels
BACKGROUNDS = {
    "day": (160, 215, 250),
    "night": (18, 22, 62),
    "desert": (232, 206, 155),
    "snow": (248, 248, 250),
    "fog": (150, 152, 158),
}
PLACES = (
    ("top left", "top middle", "top right"),
    ("middle left", "center", "middle right"),
    ("bottom left", "bottom middle", "bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")
SPLITS = ("train", "held_out", "never_seen", "any")

CELL_CENTERS = (22, 64, 106)
MAX_JITTER = 1
SUPERSAMPLING = 8
HELD_OUT_ONE_IN = 16  # scenes that are kept back from training
NEVER_SEEN_ONE_IN = 24  # colour-shape-relation triples and pairs that training never shows
THING_SHARE = 0.65  # of the objects of the wide world


class WideRandom(random.Random):
    """Chance of the wide world: what draws from it draws things as well as shapes."""


class WideShapesRandom(random.Random):
    """Chance of the wide world for what speaks of shapes alone; yet a cat is known there."""


@dataclass(frozen=True, order=True)
class Object:
    """One shape or thing; a thing is as it is, its `color` is "".

    `row` and `col` in 0..2 from the top left, `dx` and `dy` its jitter in pixels.
    """

    shape: str
    color: str
    size: str
    row: int
    col: int
    dx: int = 0
    dy: int = 0

    @property
    def cell(self) -> tuple[int, int]:
        return self.row, self.col

    @property
    def place(self) -> str:
        return PLACES[self.row][self.col]

    @property
    def look(self) -> tuple[str, str, str]:
        return self.size, self.color, self.shape


@dataclass(frozen=True)
class Scene:
    """A background and its objects in reading order, every object in a cell of its own."""

    background: str
    objects: tuple[Object, ...]

    def with_objects(self, objects: tuple[Object, ...]) -> "Scene":
        return replace(self, objects=in_reading_order(objects))


def in_reading_order(objects: tuple[Object, ...]) -> tuple[Object, ...]:
    return tuple(sorted(objects, key=lambda thing: thing.cell))


def relations(a: Object, b: Object) -> tuple[str, ...]:
    """All that holds of `a` towards `b`: at most one of left/right and one of above/below."""
    found = []
    if a.col != b.col:
        found.append("left of" if a.col < b.col else "right of")
    if a.row != b.row:
        found.append("above" if a.row < b.row else "below")
    return tuple(found)


def stable_hash(text: str) -> int:
    """The same number in every run and on every machine (unlike `hash`)."""
    return (crc32(text.encode()) * 2654435761 >> 8) & 0xFFFFFF


def triples(scene: Scene) -> Iterator[tuple[str, str, str]]:
    """Every (colour, shape, relation) in the scene; a lone object is related to its place."""
    for thing in scene.objects:
        if len(scene.objects) == 1:
            yield thing.color, thing.shape, thing.place
        for other in scene.objects:
            for relation in relations(thing, other):
                yield thing.color, thing.shape, relation


def thing_pairs(scene: Scene) -> Iterator[tuple[str, str]]:
    """The names of every two objects that differ, where one of them is a thing; in their order."""
    names = sorted({thing.shape for thing in scene.objects})
    for a, b in combinations(names, 2):
        if a in THINGS or b in THINGS:
            yield a, b


@cache
def is_never_seen_pair(pair: tuple[str, str]) -> bool:
    return stable_hash(" with ".join(pair)) % NEVER_SEEN_ONE_IN == 0


@cache
def is_never_seen_triple(triple: tuple[str, str, str]) -> bool:
    return stable_hash(" ".join(triple)) % NEVER_SEEN_ONE_IN == 0


def split_of(scene: Scene) -> str:
    """ "train", "held_out" or "never_seen"; jitter does not matter."""
    if any(map(is_never_seen_triple, triples(scene))) or any(
        map(is_never_seen_pair, thing_pairs(scene))
    ):
        return "never_seen"
    words = [scene.background]
    words += [
        f"{thing.size} {thing.color} {thing.shape} {thing.place}"
        for thing in in_reading_order(scene.objects)
    ]
    return "held_out" if stable_hash("; ".join(words)) % HELD_OUT_ONE_IN == 0 else "train"


def sample_kind(rng: random.Random) -> tuple[str, str]:
    """Any shape and colour, or in the wide world more often a thing, whose colour is ""."""
    if isinstance(rng, WideRandom) and rng.random() < THING_SHARE:
        return rng.choice(tuple(THINGS)), ""
    return rng.choice(SHAPES), rng.choice(tuple(COLORS))


def sample_object(rng: random.Random, cell: tuple[int, int]) -> Object:
    shape, color = sample_kind(rng)
    return Object(
        shape=shape,
        color=color,
        size=rng.choice(tuple(SIZES)),
        row=cell[0],
        col=cell[1],
        dx=rng.randint(-MAX_JITTER, MAX_JITTER),
        dy=rng.randint(-MAX_JITTER, MAX_JITTER),
    )


def sample_scene(rng: random.Random, split: str = "train", num_objects: int | None = None) -> Scene:
    """A random scene of a split.

    Args:
        rng: the only source of chance.
        split: "train", "held_out" (not trained), "never_seen" (holds a triple that training lacks)
            or "any".
        num_objects: 1 to 3, or None for a random number.

    Raises: ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(
            f"split is {split!r}, expected one of {', '.join(SPLITS)}; choose one of them."
        )
    while True:
        cells = rng.sample(range(9), num_objects or rng.randint(1, 3))
        objects = tuple(sample_object(rng, divmod(cell, 3)) for cell in sorted(cells))
        if (
            len(objects) > 1 and rng.random() < 0.25
        ):  # alike objects, so that plurals and counts occur
            twin = objects[0]
            objects = (
                twin,
                replace(objects[1], shape=twin.shape, color=twin.color, size=twin.size),
                *objects[2:],
            )
        scene = Scene(rng.choice(tuple(BACKGROUNDS)), objects)
        if split in ("any", split_of(scene)):
            return scene


# ---------------------------------------------------------------- rendering


def inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where the unit shape is; x to the right and y downwards, both about in -1..1."""
    radius = np.hypot(x, y)
    if shape == "circle":
        return radius <= 0.97
    if shape == "ring":
        return (radius <= 1.0) & (radius >= 0.52)
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.86
    if shape == "triangle":
        return (y <= 0.82) & (abs(x) <= (y + 1.0) * (1.0 / 1.82))
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1.0)
    if shape == "star":
        return radius <= star_radius(np.arctan2(x, -y))
    raise ValueError(f"shape is {shape!r}, expected one of {', '.join(SHAPES)}.")


def star_radius(angle: np.ndarray, points: int = 5, inner: float = 0.44) -> np.ndarray:
    """Distance from the centre to the edge of a star with one point upwards."""
    half = np.pi / points
    folded = abs((angle + half) % (2 * half) - half)
    tip, notch = np.array([1.0, 0.0]), inner * np.array([np.cos(half), np.sin(half)])
    normal = np.array([notch[1] - tip[1], tip[0] - notch[0]])
    return normal @ tip / (normal[0] * np.cos(folded) + normal[1] * np.sin(folded))


@cache
def shape_mask(shape: str, size: str) -> np.ndarray:
    """Coverage (n, n) float32 in 0..1 of a shape centred on the middle of an odd-sized patch."""
    radius = SIZES[size]
    count = (2 * radius + 3) * SUPERSAMPLING
    axis = ((np.arange(count) + 0.5) / SUPERSAMPLING - count / SUPERSAMPLING / 2) / radius
    covered = inside(shape, axis[None, :], axis[:, None]).astype(np.float32)
    n = count // SUPERSAMPLING
    return covered.reshape(n, SUPERSAMPLING, n, SUPERSAMPLING).mean((1, 3))


@cache
def blend_weights(shape: str, size: str, color: str) -> tuple[np.ndarray, np.ndarray]:
    """What stays of the background (n, n, 1), and the colour that is laid over it (n, n, 3)."""
    if shape in THINGS:
        mask, paint = thing_art(shape, size)
        return 1 - mask, paint + 0.5
    mask = shape_mask(shape, size)[..., None]
    return 1 - mask, mask * np.array(COLORS[color], np.float32) + 0.5


def object_center(thing: Object, size: int = PICTURE_SIZE) -> tuple[float, float]:
    """Centre (x, y) in pixels."""
    scale = size / PICTURE_SIZE
    return (CELL_CENTERS[thing.col] + thing.dx) * scale, (
        CELL_CENTERS[thing.row] + thing.dy
    ) * scale


def render(scene: Scene, size: int = PICTURE_SIZE) -> np.ndarray:
    """The picture (size, size, 3) uint8; `size` must be a multiple of 128."""
    if size < PICTURE_SIZE or size % PICTURE_SIZE:
        raise ValueError(f"size is {size}, expected a multiple of {PICTURE_SIZE}.")
    picture = np.empty((PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.objects:
        keep, paint = blend_weights(thing.shape, thing.size, thing.color)
        x, y = object_center(thing)
        half = keep.shape[0] // 2
        patch = picture[int(y) - half : int(y) + half + 1, int(x) - half : int(x) + half + 1]
        patch[:] = patch * keep + paint
    repeats = size // PICTURE_SIZE
    return picture if repeats == 1 else picture.repeat(repeats, 0).repeat(repeats, 1)
