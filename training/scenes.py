"""Scenes as tensors: pictures in batches, what is in every cell, and the towers' input pixels."""

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from small_world.things import THINGS
from small_world.world import BACKGROUNDS, COLORS, SHAPES, SIZES, Scene, render, sample_scene

from .common import WIDE, StepRng

TOWER_SIZE = 126  # both towers see 3x3 cells of 42 pixels: one token is one cell of the world
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
KINDS = (*SHAPES, *THINGS) if WIDE else SHAPES
COLOR_NAMES, SIZE_NAMES, BACKGROUND_NAMES = tuple(COLORS), tuple(SIZES), tuple(BACKGROUNDS)


def sample_scenes(rng: random.Random, count: int, split: str = "train") -> list[Scene]:
    return [sample_scene(rng, split) for _ in range(count)]


def render_batch(scenes: Sequence[Scene]) -> Tensor:
    """Pictures (B, 3, 128, 128) float32 in 0..1."""
    pictures = np.stack([render(scene) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255)


@cache
def resize_matrix(source: int, target: int) -> Tensor:
    """PIL's bicubic resize of one axis as a matrix (target, source)."""
    eye = Image.fromarray(np.eye(source, dtype=np.float32), mode="F")
    return torch.from_numpy(np.array(eye.resize((source, target), Image.Resampling.BICUBIC)))


def tower_pixels(pictures: Tensor, size: int = TOWER_SIZE) -> Tensor:
    """Pictures (B, 3, H, H) in 0..1 as the towers get them: PIL bicubic, CLIP mean and std."""
    matrix = resize_matrix(pictures.shape[-1], size)
    resized = (matrix @ pictures @ matrix.T).clamp(0, 1)
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return (resized - mean) / std


def augment(pictures: Tensor, rng: StepRng) -> Tensor:
    """Pictures (B, 3, H, W) as a decoder may give them back: softer, tinted, a little noisy."""
    batch = len(pictures)
    soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    result = torch.lerp(pictures, soft, rng.uniform(batch, 1, 1, 1))
    result = result + rng.normal(batch, 3, 1, 1) * 0.015
    noise = rng.normal(*pictures.shape) * rng.uniform(batch, 1, 1, 1) * 0.04
    return (result + noise).clamp(0, 1)


def cell_labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """What is in each of the nine cells, (B, 9) each; -100 where no object is."""
    names = ("shape", "color", "size", "dx", "dy")
    labels = {name: torch.full((len(scenes), 9), -100) for name in names}
    for i, scene in enumerate(scenes):
        for thing in scene.objects:
            cell = 3 * thing.row + thing.col
            labels["shape"][i, cell] = KINDS.index(thing.shape)
            if thing.color:  # a thing has none of its own
                labels["color"][i, cell] = COLOR_NAMES.index(thing.color)
            labels["size"][i, cell] = SIZE_NAMES.index(thing.size)
            labels["dx"][i, cell] = thing.dx + 1
            labels["dy"][i, cell] = thing.dy + 1
    labels["occupied"] = (labels["shape"] >= 0).long()
    backgrounds = torch.tensor([BACKGROUND_NAMES.index(scene.background) for scene in scenes])
    labels["background"] = backgrounds[:, None].expand(-1, 9)
    labels["index"] = torch.arange(9).expand(len(scenes), 9)
    return labels


CELL_CLASSES = {
    "shape": len(KINDS),
    "color": len(COLORS),
    "size": len(SIZES),
    "dx": 3,
    "dy": 3,
    "occupied": 2,
    "background": len(BACKGROUNDS),
    "index": 9,
}
