"""Read a picture of the wide world back: what stands at a place is what its picture is nearest to.

No model of ours takes part, and neither does the shapes' scorer. At each of the nine places the
picture's difference to its own background is compared with that of every shape in every colour and
of every thing, in both sizes and shifted by up to two pixels. What is near to none of them, or as
near to another, is "unknown".
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from small_world.scorer import UNKNOWN, as_pixels, border_color, nearest_name
from small_world.things import THINGS
from small_world.world import (
    BACKGROUNDS,
    CELL_CENTERS,
    COLORS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    blend_weights,
)

WINDOW = 41  # pixels around a place: the biggest thing has 37, its neighbours begin outside
REACH = 2  # pixels by which what is there may be off its place
SEEN_DISTANCE = 30  # from which a pixel differs from the background
MIN_PIXELS = 40  # of them below which a place is empty; the thinnest small thing has about 80
MAX_DISTANCE = 0.5  # of the best, in 0 (equal) to about 1 (nothing in common)
MIN_MARGIN = 0.02  # by which the next other kind is farther away

Kind = tuple[str, str, str]  # shape, colour, size


@dataclass(frozen=True)
class Templates:
    """Everything that can stand at a place, N of them, over no background yet.

    `paint` (N, W * W * 3) is colour times coverage, `cover` (N, W * W) the coverage; the other
    two are products that every comparison needs: of paint and cover a channel (N, 3), and of cover
    with itself (N,).
    """

    kinds: tuple[Kind, ...]
    paint: np.ndarray
    cover: np.ndarray
    paint_on_cover: np.ndarray
    cover_on_cover: np.ndarray


@cache
def templates() -> Templates:
    looks = [(shape, color) for shape in SHAPES for color in COLORS] + [(t, "") for t in THINGS]
    kinds = tuple((shape, color, size) for shape, color in looks for size in SIZES)
    paint = np.zeros((len(kinds), WINDOW, WINDOW, 3), np.float32)
    cover = np.zeros((len(kinds), WINDOW, WINDOW), np.float32)
    for i, (shape, color, size) in enumerate(kinds):
        keep, colors = blend_weights(shape, size, color)
        inner = slice(WINDOW // 2 - keep.shape[0] // 2, WINDOW // 2 + keep.shape[0] // 2 + 1)
        paint[i, inner, inner] = colors - 0.5  # without the half that rounds
        cover[i, inner, inner] = 1 - keep[..., 0]
    both = np.einsum("nyxc,nyx->nc", paint, cover)
    itself = np.einsum("nyx,nyx->n", cover, cover)
    n = len(kinds)
    return Templates(kinds, paint.reshape(n, -1), cover.reshape(n, -1), both, itself)


def distances(windows: np.ndarray, background: np.ndarray) -> np.ndarray:
    """How far each window is from each template, (N, K), 0 for equal ones.

    The squared error over the mean of both energies, of the differences to the background.

    Args:
        windows: (K, W, W, 3), pixels less the background's colour (3,).
    """
    t = templates()
    flat = windows.reshape(len(windows), -1)
    covered = np.einsum("kyxc,c->kyx", windows, background).reshape(len(windows), -1)
    product = t.paint @ flat.T - t.cover @ covered.T
    template_energy = (
        np.einsum("np,np->n", t.paint, t.paint)
        - 2 * t.paint_on_cover @ background
        + t.cover_on_cover * (background @ background)
    )[:, None]
    window_energy = np.einsum("kp,kp->k", flat, flat)
    error = np.maximum(template_energy + window_energy - 2 * product, 0)
    return 2 * error / np.maximum(template_energy + window_energy, 1)


def read_place(difference: np.ndarray, background: np.ndarray, row: int, col: int) -> Object | None:
    """What stands at a place; `difference` is the picture less its background, zeros around it."""
    shifts = [(dx, dy) for dy in range(-REACH, REACH + 1) for dx in range(-REACH, REACH + 1)]
    windows = []
    for dx, dy in shifts:  # the padding of half a window makes a centre the window's corner
        x, y = CELL_CENTERS[col] + dx, CELL_CENTERS[row] + dy
        windows.append(difference[y : y + WINDOW, x : x + WINDOW])
    middle = windows[len(windows) // 2]
    if (np.linalg.norm(middle, axis=-1) > SEEN_DISTANCE).sum() < MIN_PIXELS:
        return None
    kinds, found = templates().kinds, distances(np.stack(windows), background)
    nearest = found.min(1)
    best = int(nearest.argmin())
    shape, color, size = kinds[best]
    others = [d for d, kind in zip(nearest, kinds, strict=True) if kind[:2] != (shape, color)]
    if nearest[best] > MAX_DISTANCE or min(others) - nearest[best] < MIN_MARGIN:
        shape, color = UNKNOWN, UNKNOWN
    dx, dy = shifts[int(found[best].argmin())]
    return Object(shape, color, size, row, col, dx, dy)


def read_wide_scene(picture: np.ndarray) -> Scene:
    """Read a picture of the wide world.

    Args:
        picture: (128, 128, 3) uint8, or float in 0..1.

    Raises: ValueError for another size.
    """
    pixels = as_pixels(picture)
    background = border_color(pixels)
    half = WINDOW // 2
    difference = np.pad(pixels - background, ((half, half), (half, half), (0, 0)))
    places = [read_place(difference, background, row, col) for row in range(3) for col in range(3)]
    things = tuple(thing for thing in places if thing is not None)
    return Scene(nearest_name(background, BACKGROUNDS), things)
