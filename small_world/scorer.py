"""Read a picture back into a scene by classical computer vision: no model of ours takes part.

The background is the median of the border, objects are connected regions that differ from it,
their colour is the median of their core, shape and size are the template of best overlap. What
fits nothing is called "unknown", and touching objects are one region: both count as failures.
"""

from collections.abc import Iterable
from functools import cache
from itertools import permutations

import numpy as np
from scipy import ndimage

from small_world.edits import Edit
from small_world.language import ObjectWish, Wish
from small_world.world import (
    BACKGROUNDS,
    CELL_CENTERS,
    COLORS,
    PICTURE_SIZE,
    SHAPES,
    SIZES,
    Object,
    Scene,
    relations,
)

UNKNOWN = "unknown"
FOREGROUND_DISTANCE = 55  # half of the smallest distance of an object's colour to a background
COLOR_TOLERANCE = 70  # beyond it a colour has no name
MIN_PIXELS = 70  # the smallest object has about 155; smaller regions are specks
MIN_FIT = 0.6  # overlap below which a region has no shape
PATCH = 43  # side of the square in which a region is compared with the templates
ALL_ATTRIBUTES = frozenset(("shape", "color", "size", "place", "background", "relation"))

Fact = tuple[object, ...]


# ---------------------------------------------------------------- templates


def star_points() -> np.ndarray:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.44)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], 1)


OUTLINES = {
    "square": np.array([(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]),
    "triangle": np.array([(0, -1), (1, 0.82), (-1, 0.82)]),
    "star": star_points(),
    "cross": np.array(
        [
            *[(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)],
            *[(0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)],
        ]
    ),
}
RADII = {"circle": (0.0, 0.97), "ring": (0.52, 1.0)}


def is_inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Point in polygon by the even-odd rule, or between two radii."""
    if shape in RADII:
        inner, outer = RADII[shape]
        radius = np.sqrt(x * x + y * y)
        return (radius >= inner) & (radius <= outer)
    corners = OUTLINES[shape]
    odd = np.zeros(x.shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        odd ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


@cache
def templates() -> tuple[tuple[tuple[str, str, int, int], ...], np.ndarray]:
    """(shape, size, dx, dy) of every template, and their coverage (N, PATCH * PATCH).

    Each shape in each size, centred on the patch by its bounding box, and shifted by a pixel.
    """
    fine = (np.arange(PATCH * 5) + 0.5) / 5 - PATCH / 2
    keys, masks = [], []
    for shape in SHAPES:
        for size, radius in SIZES.items():
            lift = 0.09 * radius if shape == "triangle" else 0.05 * radius if shape == "star" else 0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    x, y = np.meshgrid((fine - dx) / radius, (fine - dy - lift) / radius)
                    covered = is_inside(shape, x, y).reshape(PATCH, 5, PATCH, 5)
                    keys.append((shape, size, dx, round(dy + lift)))
                    masks.append(covered.mean((1, 3)).ravel())
    return tuple(keys), np.array(masks, np.float32)


# ---------------------------------------------------------------- reading


def nearest_name(color: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    """The name of the nearest colour of the palette, "unknown" when none is near."""
    distances = {name: np.linalg.norm(color - np.array(rgb)) for name, rgb in palette.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= COLOR_TOLERANCE else UNKNOWN


def border_color(picture: np.ndarray) -> np.ndarray:
    frame = [picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]]
    return np.median(np.concatenate([part.reshape(-1, 3) for part in frame]), 0)


def core_color(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The median colour of the region without its edge (whole, where it is all edge)."""
    core = ndimage.binary_erosion(region, iterations=2)
    if core.sum() < 12:
        core = ndimage.binary_erosion(region)
    return np.median(picture[core if core.any() else region], 0)


def coverage(
    picture: np.ndarray, region: np.ndarray, color: np.ndarray, background: np.ndarray
) -> np.ndarray:
    """How far each pixel near the region lies on the way from background to colour, (H, W)."""
    way = color - background
    share = ((picture - background) @ way) / max(float(way @ way), 1.0)
    return np.clip(share, 0, 1) * ndimage.binary_dilation(region, iterations=2)


def best_template(covered: np.ndarray, region: np.ndarray) -> tuple[str, str, float, float, float]:
    """Shape, size, centre (x, y) and overlap of the template that fits best."""
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    y, x = (rows[0] + rows[-1]) // 2, (cols[0] + cols[-1]) // 2
    half = PATCH // 2
    padded = np.pad(covered, half)
    patch = padded[y : y + PATCH, x : x + PATCH].ravel().astype(np.float32)
    keys, masks = templates()
    both = np.minimum(masks, patch).sum(1)
    overlap = both / (masks.sum(1) + covered.sum() - both)
    best = int(overlap.argmax())
    shape, size, dx, dy = keys[best]
    return shape, size, x + dx, y + dy, float(overlap[best])


def read_object(picture: np.ndarray, region: np.ndarray, background: np.ndarray) -> Object:
    color = core_color(picture, region)
    covered = coverage(picture, region, color, background)
    shape, size, x, y, fit = best_template(covered, region)
    col, row = (int(np.argmin([abs(c - v) for c in CELL_CENTERS])) for v in (x, y))
    if fit < MIN_FIT:
        shape = UNKNOWN
    dx, dy = round(x - CELL_CENTERS[col]), round(y - CELL_CENTERS[row])
    return Object(shape, nearest_name(color, COLORS), size, row, col, dx, dy)


def as_pixels(picture: np.ndarray) -> np.ndarray:
    """(128, 128, 3) float32 in 0..255. Raises: ValueError for another size."""
    if picture.shape != (PICTURE_SIZE, PICTURE_SIZE, 3):
        raise ValueError(
            f"the picture is {picture.shape}, expected ({PICTURE_SIZE}, {PICTURE_SIZE}, 3); "
            "resize it before it is scored."
        )
    return picture.astype(np.float32) * (1 if picture.dtype == np.uint8 else 255)


def read_scene(picture: np.ndarray) -> Scene:
    """Read a picture of the world.

    Args:
        picture: (128, 128, 3) uint8, or float in 0..1.

    Raises: ValueError for another size.
    """
    pixels = as_pixels(picture)
    background = border_color(pixels)
    distance = np.linalg.norm(pixels - background, axis=-1)
    labels, _ = ndimage.label(distance > FOREGROUND_DISTANCE)
    sizes = np.bincount(labels.ravel())
    found = []
    for label in np.flatnonzero(sizes >= MIN_PIXELS):
        if label:
            found.append(read_object(pixels, labels == label, background))
    found.sort(key=lambda thing: thing.cell)
    return Scene(nearest_name(background, BACKGROUNDS), tuple(found))


# ---------------------------------------------------------------- comparing


def restrict(wish: ObjectWish, attributes: Iterable[str]) -> ObjectWish:
    """The wish with only the attributes that are asked about."""
    asked = set(attributes)
    return ObjectWish(
        wish.shape if "shape" in asked else None,
        wish.color if "color" in asked else None,
        wish.size if "size" in asked else None,
        wish.row if "place" in asked else None,
        wish.col if "place" in asked else None,
    )


def satisfies(scene: Scene, wish: Wish, attributes: Iterable[str] = ALL_ATTRIBUTES) -> bool:
    """Whether the scene has exactly the wished objects, in these attributes.

    The number of objects must always be right, and one assignment of the scene's objects to the
    wished ones must make all of them right at once.
    """
    asked = set(attributes)
    if len(scene.objects) != len(wish.objects):
        return False
    if "background" in asked and wish.background not in (None, scene.background):
        return False
    wishes = [restrict(each, asked) for each in wish.objects]
    for things in permutations(scene.objects):
        if not all(each.admits(thing) for each, thing in zip(wishes, things, strict=True)):
            continue
        if "relation" not in asked or wish.relation is None:
            return True
        if wish.relation in relations(things[0], things[1]):
            return True
    return False


def facts(scene: Scene) -> set[Fact]:
    """The scene as facts about its background and its nine cells."""
    found: set[Fact] = {("background", scene.background)}
    for row in range(3):
        for col in range(3):
            here = [o for o in scene.objects if o.cell == (row, col)]
            if not here:
                found.add((row, col, "empty"))
            elif len(here) == 1:
                found |= {(row, col, word) for word in here[0].look}
    return found


def same_scene(scene: Scene, expected: Scene) -> bool:
    """Equal in everything but jitter."""
    return len(scene.objects) == len(expected.objects) and facts(scene) == facts(expected)


def judge_edit(scene: Scene, edit: Edit) -> tuple[bool, bool]:
    """(asked change right, all that was not asked stays) of the picture after an edit."""
    before, after, now = facts(edit.source), facts(edit.target), facts(scene)
    return after - before <= now, after & before <= now
