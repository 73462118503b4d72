"""Stage 4a: the language model's vision tower learns what is in each cell before it can speak.

Also here: the frozen EVA-CLIP tower that gives the features, and the readers of cells.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip3u_core.features.grid import features_to_tokens
from blip3u_core.language.config import VisionConfig
from blip3u_core.language.vision_model import VisionModel
from small_world.world import Scene

from .common import RUNS, WIDE, Schedule, StepRng, chance, read_safetensors
from .llm_config import language_config
from .scenes import (
    CELL_CLASSES,
    augment,
    cell_labels,
    render_batch,
    sample_scenes,
    tower_pixels,
)
from .tower import LOSS_WEIGHTS as CELL_WEIGHTS
from .tower import SHAPES_ONLY, TAUGHT_WEIGHT, TowerTraining, principal_patches, shapes_only

SCHEDULE = Schedule(steps=500, lr=1.5e-3, batch=48, warmup=50)
if WIDE:  # from blip3u-tiny's, see `widen.py`
    SCHEDULE = Schedule(steps=500, lr=1e-3, batch=48, warmup=30)
SEEN_NAMES = ("shape", "color", "size", "dx", "dy", "occupied", "background", "index")


def cell_heads(width: int, names: Sequence[str] = tuple(CELL_CLASSES)) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(width, CELL_CLASSES[name]) for name in names})


def cell_loss(
    heads: nn.ModuleDict, tokens: Tensor, scenes: Sequence[Scene], weights: Tensor | None = None
) -> Tensor:
    """Weighted cross-entropies of what is in each cell; tokens (B, 9, D), weights (B, 9)."""
    labels = cell_labels(scenes)
    weights = torch.ones(tokens.shape[:2]) if weights is None else weights
    total = torch.zeros(())
    for name, head in heads.items():
        known = labels[name] >= 0
        missed = F.cross_entropy(head(tokens)[known], labels[name][known], reduction="none")
        total = total + CELL_WEIGHTS[name] * (missed * weights[known]).sum() / weights[known].sum()
    return total


class VisionEncoder(nn.Module):
    """The language model's vision tower and the heads that teach it to see before it can speak."""

    def __init__(self, config: dict | None = None):
        super().__init__()
        self.vision = VisionConfig.from_dict(config or language_config())
        self.visual = VisionModel(self.vision)
        self.heads = cell_heads(self.vision.out_size, SEEN_NAMES)
        self.teacher: tuple[VisionEncoder, ...] = ()  # whose embeddings of shapes are kept

    def begin(self) -> None:
        pixels = tower_pixels(render_batch(sample_scenes(chance(1), 1000)))
        weight, _ = principal_patches(pixels, self.vision.patch_size, self.vision.hidden_size)
        frames = weight[:, :, None].expand(-1, -1, self.vision.frames, -1, -1) / self.vision.frames
        with torch.no_grad():
            self.visual.patch_embed.proj.weight.copy_(frames.flatten(1))

    def encode_images(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, 128, 128) in 0..1 to image embeddings (B, 9, D)."""
        patches = cut_patches(tower_pixels(pictures), self.vision)
        side = 3 * self.vision.merge_size
        tokens = self.visual(patches.flatten(0, 1), [(side, side)] * len(pictures))
        return tokens.unflatten(0, (len(pictures), -1))

    def losses(self, rng: StepRng, batch: int = SCHEDULE.batch) -> dict[str, Tensor]:
        scenes = sample_scenes(rng.python, batch)
        if self.teacher:
            scenes[:SHAPES_ONLY] = sample_scenes(shapes_only(rng.python), SHAPES_ONLY)
        pictures = render_batch(scenes)
        tokens = self.encode_images(augment(pictures, rng))
        terms = {"cells": cell_loss(self.heads, tokens, scenes)}
        terms["loss"] = terms["cells"]
        if self.teacher:
            with torch.no_grad():
                wanted = self.teacher[0].encode_images(pictures[:SHAPES_ONLY])
            terms["taught"] = F.mse_loss(tokens[:SHAPES_ONLY], wanted) / wanted.var()
            terms["loss"] = terms["loss"] + TAUGHT_WEIGHT * terms["taught"]
        return terms


def cut_patches(pixels: Tensor, vision: VisionConfig) -> Tensor:
    """(B, 3, H, W) to (B, N, 3 * frames * patch^2), square of merged patches by square."""
    batch, channels, height, _ = pixels.shape
    patch, merge = vision.patch_size, vision.merge_size
    squares = height // patch // merge
    x = pixels.view(batch, channels, squares, merge, patch, squares, merge, patch)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # (B, rows, columns, merge, merge, C, p, p)
    x = x.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, vision.frames, -1, -1)
    return x.reshape(batch, -1, vision.patch_values)


@torch.no_grad()
def evaluate(encoder: VisionEncoder, count: int = 512) -> dict[str, float]:
    scenes = sample_scenes(chance(8), count, "held_out")
    tokens = encoder.encode_images(render_batch(scenes))
    labels = cell_labels(scenes)
    return {
        name: (head(tokens).argmax(-1) == labels[name])[labels[name] >= 0].float().mean().item()
        for name, head in encoder.heads.items()
    }


class FeatureTower(nn.Module):
    """The frozen tower with its folded statistics, and the heads that read its features."""

    def __init__(self, folder: Path = RUNS):
        super().__init__()
        weights = read_safetensors(folder / "tower.safetensors")
        training = TowerTraining()
        training.load_state_dict(weights)
        self.tower = training.tower
        self.heads = training.heads
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """CLIP features as tokens (B, 9, C)."""
        return features_to_tokens(self.tower.clip_features(tower_pixels(pictures)))

    @torch.no_grad()
    def read(self, tokens: Tensor) -> dict[str, Tensor]:
        """What is in each cell of features (B, 9, C)."""
        return {name: head(tokens).argmax(-1) for name, head in self.heads.items()}
