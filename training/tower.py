"""Stage 2: the EVA-CLIP tower, whose pooled tokens are the CLIP features of blip3u-tiny.

Input 126x126, patch 21, pooled 2x2: a token is one cell of the world. Taught by contrast with
captions, by what is in each cell, and by drawing the cell again; always through noise, so that what
DiT and LLM later get slightly wrong still reads the same.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip3u_core.features.eva_clip import EvaClip, EvaClipConfig
from small_world.world import BACKGROUNDS, COLORS, PLACES, SIZES, Scene

from .common import WIDE, Schedule, StepRng, chance, read_safetensors
from .scenes import (
    CELL_CLASSES,
    KINDS,
    augment,
    cell_labels,
    render_batch,
    sample_scenes,
    tower_pixels,
)

TOWER = EvaClipConfig(
    patch_size=21, num_patches=6, width=96, num_layers=4, num_heads=6, mlp_width=384, pooling=2
)
SCHEDULE = Schedule(steps=1300, lr=1.5e-3, batch=64, warmup=100)
if WIDE:  # from blip3u-tiny's tower, see `widen.py`
    SCHEDULE = Schedule(steps=1800, lr=4e-4, batch=64, warmup=100, flat=0.5)
LOSS_WEIGHTS = {
    "shape": 1.0,
    "color": 1.0,
    "size": 0.5,
    "dx": 0.25,
    "dy": 0.25,
    "occupied": 0.5,
    "background": 0.3,
    "index": 0.2,
}
SHAPES_ONLY = 24  # scenes of a wide step, of shapes alone: their features stay as they are
TAUGHT_WEIGHT = 6.0
COMMITTED_WEIGHTS = Path(__file__).parent.parent / "models" / "blip3u-tiny" / "model.safetensors"
TOWER_PREFIX = "model.gen_vision_tower.vision_tower.model."
MAX_NOISE = 0.7  # added to the standardised features, uniform in 0..MAX_NOISE a picture
DRAWN = 14  # pixels along a redrawn cell


def shapes_only(rng: random.Random) -> random.Random:
    """Chance of the small world, drawn from that of the wide one."""
    return random.Random(rng.getrandbits(64))


def principal_patches(pixels: Tensor, patch: int, count: int) -> tuple[Tensor, Tensor]:
    """The `count` main directions of patches, partly whitened, as a convolution and its bias."""
    patches = F.unfold(pixels, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    variances, directions = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    variances, directions = variances[-count:], directions[:, -count:]
    weight = (directions / (variances + 0.03 * variances.mean()).sqrt()).T
    return weight.unflatten(1, (3, patch, patch)), -(weight @ mean)


class CaptionWords(nn.Module):
    """A small text side for the contrast: phrases of bound words, summed over the scene."""

    def __init__(self, width: int = 96):
        super().__init__()
        self.vocabulary: dict[str, int] = {}
        self.words = nn.Embedding(160 if WIDE else 64, width)
        self.phrase = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.picture = nn.Sequential(
            nn.Linear(9 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.scale = nn.Parameter(torch.tensor(2.0))

        places = [place for row in PLACES for place in row]
        for word in (*KINDS, *COLORS, *SIZES, *places, *BACKGROUNDS, ""):
            self.vocabulary.setdefault(word, len(self.vocabulary))

    def embed(self, scenes: Sequence[Scene]) -> Tensor:
        ids, sums = [], torch.zeros(len(scenes), self.words.embedding_dim)
        owner = []
        for i, scene in enumerate(scenes):
            for thing in scene.objects:
                words = (thing.shape, thing.color, thing.size, thing.place)
                ids.append([self.vocabulary[w] for w in words])
                owner.append(i)
        phrases = self.phrase(self.words(torch.tensor(ids)).sum(1))
        backgrounds = torch.tensor([self.vocabulary[s.background] for s in scenes])
        return sums.index_add(0, torch.tensor(owner), phrases) + self.words(backgrounds)

    def contrast(self, tokens: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """InfoNCE both ways between pictures (B, 9, C) and their captions."""
        a = F.normalize(self.picture(tokens.flatten(1)), dim=-1)
        b = F.normalize(self.embed(scenes), dim=-1)
        logits = a @ b.T * self.scale.exp()
        target = torch.arange(len(scenes))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class TowerTraining(nn.Module):
    """The tower and what teaches it; only `tower` and the statistics are kept."""

    def __init__(self, config: EvaClipConfig = TOWER):
        super().__init__()
        self.tower = EvaClip(config)
        width = config.width
        self.heads = nn.ModuleDict({k: nn.Linear(width, n) for k, n in CELL_CLASSES.items()})
        self.draw = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, 3 * DRAWN**2)
        )
        self.captions = CaptionWords(width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("seen", torch.zeros(()))
        # the tower whose features of shapes are kept (a tuple: not a child, it is not trained)
        self.teacher = (small_tower(),) if WIDE else None

    def begin(self) -> None:
        pixels = tower_pixels(render_batch(sample_scenes(chance(0), 1500)))
        config = self.tower.config
        weight, bias = principal_patches(pixels, config.patch_size, config.width)
        with torch.no_grad():
            self.tower.cls_token.normal_(0, 0.02)
            self.tower.pos_embed.normal_(0, 0.3)
            self.tower.patch_embed.proj.weight.copy_(weight)
            self.tower.patch_embed.proj.bias.copy_(bias)

    def standardise(self, features: Tensor) -> Tensor:
        """Zero mean and unit variance a channel, by running statistics; tokens (B, 9, C)."""
        tokens = features.flatten(2).transpose(1, 2)
        if self.training and self.teacher is None:
            with torch.no_grad():
                rate = max(0.02, 1 / (float(self.seen) + 1))
                self.mean.lerp_(tokens.mean((0, 1)), rate)
                self.spread.lerp_(tokens.std((0, 1)), rate)
                self.seen += 1
        return (tokens - self.mean) / (self.spread + 1e-3)

    def losses(self, rng: StepRng, batch: int = SCHEDULE.batch) -> dict[str, Tensor]:
        scenes = sample_scenes(rng.python, batch)
        if self.teacher:
            scenes[:SHAPES_ONLY] = sample_scenes(shapes_only(rng.python), SHAPES_ONLY)
        pictures = render_batch(scenes)
        tokens = self.standardise(self.tower.clip_features(tower_pixels(augment(pictures, rng))))
        noise = rng.normal(*tokens.shape) * rng.uniform(batch, 1, 1) * MAX_NOISE
        noisy = tokens + noise
        labels = cell_labels(scenes)
        terms = {
            name: F.cross_entropy(head(noisy).flatten(0, 1), labels[name].flatten())
            for name, head in self.heads.items()
        }
        loss = sum(LOSS_WEIGHTS[name] * value for name, value in terms.items())
        terms["draw"] = F.mse_loss(self.draw(noisy), drawn_cells(pictures))
        terms["contrast"] = self.captions.contrast(noisy, scenes)
        # unit variance is kept near: the running statistics then need not chase the features
        loss = loss + 8 * terms["draw"] + 0.1 * terms["contrast"]
        if self.teacher:
            terms["taught"] = self.taught(pictures[:SHAPES_ONLY], tokens)
            loss = loss + TAUGHT_WEIGHT * terms["taught"]
        with torch.no_grad():
            accuracy = (self.heads["shape"](tokens).argmax(-1) == labels["shape"]).float()
            terms["shape_accuracy"] = accuracy[labels["occupied"] == 1].mean()
        return {"loss": loss, **terms}

    def taught(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        """How far the first tokens are from the teacher's of these pictures of shapes.

        And how much more than unit variance all tokens have, which would hide the noise.
        """
        with torch.no_grad():
            known = self.teacher[0].clip_features(tower_pixels(pictures))
        wanted = known.flatten(2).transpose(1, 2)
        excess = (tokens.square().mean((0, 1)) - 1).relu()
        return F.mse_loss(tokens[: len(wanted)], wanted) + excess.mean()


def small_tower() -> EvaClip:
    """The committed tower of the small world, at rest."""
    tower = EvaClip(TOWER)
    weights = read_safetensors(COMMITTED_WEIGHTS)
    tower.load_state_dict(
        {k.removeprefix(TOWER_PREFIX): v.float() for k, v in weights.items() if TOWER_PREFIX in k}
    )
    return tower.requires_grad_(False).eval()


def drawn_cells(pictures: Tensor) -> Tensor:
    """The cells of pictures (B, 3, 128, 128), small: (B, 9, 3 * 14 * 14)."""
    small = F.interpolate(pictures, (3 * DRAWN, 3 * DRAWN), mode="area") * 2 - 1
    return F.unfold(small, DRAWN, stride=DRAWN).transpose(1, 2)


@torch.no_grad()
def evaluate(training: TowerTraining, count: int = 512) -> dict[str, float]:
    """How often linear heads read what is in a cell of held-out scenes, without noise."""
    training.eval()
    scenes = sample_scenes(chance(7), count, "held_out")
    tokens = training.standardise(training.tower.clip_features(tower_pixels(render_batch(scenes))))
    labels = cell_labels(scenes)
    scores = {}
    for name, head in training.heads.items():
        known = labels[name] >= 0
        right = head(tokens).argmax(-1) == labels[name]
        scores[name] = right[known].float().mean().item()
    training.train()
    return scores


@torch.no_grad()
def fold_statistics(tower: EvaClip, pictures: Tensor, draws: int = 64) -> None:
    """Give the pooled features zero mean and unit variance, exactly, within the architecture.

    The residual stream is read by `qkv` and `fc1` only and written by affine norms, so a factor a
    channel moves through; a shift goes into the last norm, after which nothing reads the stream.
    """
    pooled = torch.cat([tower.clip_features(tower_pixels(part)) for part in pictures.split(draws)])
    mean, factor = pooled.mean((0, 2, 3)), 1 / pooled.std((0, 2, 3))
    projection = tower.patch_embed.proj
    projection.weight.mul_(factor[:, None, None, None])
    projection.bias.mul_(factor)
    tower.cls_token.mul_(factor)
    tower.pos_embed.mul_(factor)
    for block in tower.blocks:
        for norm in (block.norm1, block.norm2):
            norm.weight.mul_(factor)
            norm.bias.mul_(factor)
        block.attn.qkv.weight.div_(factor)
        block.mlp.fc1.weight.div_(factor)
    tower.blocks[-1].norm2.bias.sub_(mean * factor)
