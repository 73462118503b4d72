"""Stage 4: language model, latent queries and DiT together, on features of the frozen tower.

Learned at once: the text that the model writes, the velocity of the features that it draws, and
(for training only) what every picture token and every query says of its cell.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip3u_core.embeddings import grid_rotations
from blip3u_core.embeddings import rotate as rotate_pairs
from blip3u_core.language_config import TextConfig, VisionConfig
from blip3u_core.nextdit import NextDiT
from blip3u_core.text_model import TextModel, rotate
from blip3u_core.vision_model import VisionModel

from .common import RUNS, Chance, Schedule, read_safetensors
from .dialogues import MIX
from .llm_config import DIT, NUM_QUERIES, language_config
from .llm_data import Batch, blank_sequence, collate, sample_sequences, shared_prefix
from .scenes import (
    CELL_CLASSES,
    cell_labels,
    render_batch,
    sample_scenes,
    tower_pixels,
    worn,
)
from .tower import LOSS_WEIGHTS as CELL_WEIGHTS
from .tower import Tower, TowerTraining, principal_patches
from .world import Scene

VISION_SCHEDULE = Schedule(steps=500, lr=1.5e-3, batch=48, warmup=50)
SCHEDULE = Schedule(
    steps=2000, lr=1.2e-3, batch=36, warmup=100, ema=0.99, flat=0.55, save_every=50
)
# The first steps teach the short forms, which cost least, those from LONG_FROM on all of them
# (the committed model had long ones from step 1,430 to 1,600 only).
SHORT_MIX = {
    "caption": 10.0,
    "edit": 11.0,
    "reconstruct": 1.0,
    "question": 8.0,
    "describe": 5.0,
    "edit_plan": 2.0,
    "riddle": 4.0,
    "dialogue": 1.0,
    "story": 0.5,
    "talk": 0.5,
}
LONG_FROM = 2200
WEIGHTS = {"text": 1.0, "flow": 1.0, "regress": 1.0, "cells": 0.4, "seen": 0.3, "kept": 0.5}
WEIGHTS |= {"copied": 0.15, "named": 0.15, "routed": 0.2, "described": 0.15, "meant": 0.15}
CHANGED_WEIGHT = 4.0  # of the cells that an edit changes, against 1 for all others
ROUTING_HEADS = 2  # of each cross-attention of the DiT are taught to look at the place's own token
# (layer, head) of the text model whose attention is taught where to look
COPYING, NAMING, DESCRIBING, MEANING = (2, 0), (3, 3), (3, 0), (2, 3)
NULL_SHARE = 0.1
NOISE_DRAWS = 3
CHUNKS = 3  # parts of a step, each of samples of about one length
SEEN_NAMES = ("shape", "color", "size", "dx", "dy", "occupied", "background")


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


class Eyes(nn.Module):
    """The language model's vision tower and the heads that teach it to see before it can speak."""

    def __init__(self, config: dict | None = None):
        super().__init__()
        self.vision = VisionConfig.from_dict(config or language_config())
        self.visual = VisionModel(self.vision)
        self.heads = cell_heads(self.vision.out_size, SEEN_NAMES)

    def begin(self) -> None:
        pixels = tower_pixels(render_batch(sample_scenes(random.Random(1), 1000)))
        weight, _ = principal_patches(pixels, self.vision.patch_size, self.vision.hidden_size)
        frames = weight[:, :, None].expand(-1, -1, self.vision.frames, -1, -1) / self.vision.frames
        with torch.no_grad():
            self.visual.patch_embed.proj.weight.copy_(frames.flatten(1))

    def look(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, 128, 128) in 0..1 to image embeddings (B, 9, D)."""
        patches = cut_patches(tower_pixels(pictures), self.vision)
        side = 3 * self.vision.merge_size
        tokens = self.visual(patches.flatten(0, 1), [(side, side)] * len(pictures))
        return tokens.unflatten(0, (len(pictures), -1))

    def losses(self, chance: Chance, batch: int = VISION_SCHEDULE.batch) -> dict[str, Tensor]:
        scenes = sample_scenes(chance.python, batch)
        tokens = self.look(worn(render_batch(scenes), chance))
        return {"loss": cell_loss(self.heads, tokens, scenes)}


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
def evaluate_eyes(eyes: Eyes, count: int = 512) -> dict[str, float]:
    scenes = sample_scenes(random.Random(8), count, "held_out")
    tokens = eyes.look(render_batch(scenes))
    labels = cell_labels(scenes)
    return {
        name: (head(tokens).argmax(-1) == labels[name])[labels[name] >= 0].float().mean().item()
        for name, head in eyes.heads.items()
    }


class FeatureTower(nn.Module):
    """The frozen tower with its folded statistics, and the heads that read its features."""

    def __init__(self, folder=RUNS):
        super().__init__()
        weights = read_safetensors(folder / "tower.safetensors")
        training = TowerTraining()
        training.load_state_dict(weights)
        self.tower: Tower = training.tower
        self.heads = training.heads
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """CLIP features as tokens (B, 9, C)."""
        return self.tower(tower_pixels(pictures)).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def read(self, tokens: Tensor) -> dict[str, Tensor]:
        """What is in each cell of features (B, 9, C)."""
        return {name: head(tokens).argmax(-1) for name, head in self.heads.items()}


class LlmTraining(nn.Module):
    """All that is trained; names as published, but for `eyes` and the heads."""

    def __init__(self, tower: FeatureTower, config: dict | None = None):
        super().__init__()
        config = config or language_config()
        self.text = TextConfig.from_dict(config)
        width = self.text.hidden_size
        self.model = TextModel(self.text)
        self.eyes = Eyes(config)
        self.latent_queries = nn.Parameter(torch.randn(1, NUM_QUERIES, width) * 0.1)
        self.dit = NextDiT(DIT)
        self.regress = nn.Linear(width, DIT.in_channels)
        self.kept = nn.Linear(width, DIT.in_channels)
        self.cells = cell_heads(width)
        self.frozen = (tower,)  # not a child: it is not trained
        nn.init.normal_(self.model.embed_tokens.weight, std=0.06)
        begin_dit(self.dit)
        self.routes = Routes(self.dit)
        self.watched: dict[int, tuple[Tensor, tuple[Tensor, Tensor]]] = {}
        for layer in (COPYING[0], NAMING[0]):
            self.model.layers[layer].self_attn.register_forward_pre_hook(
                lambda _, arguments, layer=layer: self.watched.update({layer: arguments[:2]})
            )

    def looking(
        self, place: tuple[int, int], rows: Tensor, columns: Tensor, wanted: Tensor
    ) -> Tensor:
        """Cross-entropies of one head's attention to the wanted tokens of the last pass, (N, K).

        Args: rows: (N,) of the batch; columns: (N, K), the tokens that look; wanted: (N, K), the
            places in the same rows that they shall look at, -1 for none.
        """
        layer, head = place
        attention = self.model.layers[layer].self_attn
        x, (cos, sin) = self.watched[layer]
        size = attention.head_dim
        group = self.text.num_heads // self.text.num_kv_heads

        def part(linear: nn.Linear, index: int) -> Tensor:
            span = slice(index * size, (index + 1) * size)
            y = F.linear(x, linear.weight[span], linear.bias[span])
            return rotate(y, cos[:, :, 0], sin[:, :, 0])[rows]

        q = part(attention.q_proj, head).gather(1, columns[..., None].expand(-1, -1, size))
        scores = q @ part(attention.k_proj, head // group).transpose(1, 2) / size**0.5
        later = torch.arange(x.shape[1]) > columns[..., None]
        scores = scores.masked_fill(later, float("-inf"))
        known = wanted >= 0
        return F.cross_entropy(scores[known], wanted[known], reduction="none")

    def looks(self, batch: Batch) -> dict[str, list[Tensor]]:
        """What the taught heads of the pass just done miss, where the batch has such looks."""
        found = defaultdict(list)
        if batch.drawn:
            rows = batch.queries[:, 0] // batch.ids.shape[1]
            columns = batch.queries % batch.ids.shape[1]
            found["copied"].append(self.looking(COPYING, rows, columns, batch.copied))
            found["named"].append(self.looking(NAMING, rows, columns, batch.named))
        for name, place, looks in (
            ("described", DESCRIBING, batch.looks),
            ("meant", MEANING, batch.meant),
        ):
            if len(looks):
                row, token, pad = looks.T
                found[name].append(self.looking(place, row, token[:, None], pad[:, None]))
        return found

    def begin(self, folder=RUNS) -> None:
        self.eyes.load_state_dict(read_safetensors(folder / "eyes.safetensors"))

    def read_prefix(self) -> "SharedPrefix":
        """The system turn, which begins every sample, is read once for all of a step."""
        ids = shared_prefix()
        cache = SharedPrefix()
        positions = torch.arange(len(ids)).expand(3, 1, -1)
        self.model(self.model.embed_tokens(ids)[None], positions, cache=cache)
        return cache

    def hidden(self, batch: Batch, seen: Tensor, prefix: "SharedPrefix") -> Tensor:
        """Hidden states (B * L, D); `seen` are the image embeddings (P, 9, D)."""
        embeds = self.model.embed_tokens(batch.ids)
        shape = embeds.shape
        flat = embeds.flatten(0, 1)
        if len(batch.shown):
            flat = flat.index_copy(0, batch.pads.flatten(), seen.flatten(0, 1))
        if len(batch.drawn):
            queries = self.latent_queries.expand(len(batch.drawn), -1, -1).flatten(0, 1)
            flat = flat.index_copy(0, batch.queries.flatten(), queries)
        if batch.skipped:
            known = torch.ones(len(batch.ids), batch.skipped, dtype=torch.bool)
            valid = torch.cat([known, batch.valid], 1)
            return self.model(flat.view(shape), batch.positions, valid, prefix.view()).flatten(0, 1)
        return self.model(flat.view(shape), batch.positions, batch.valid).flatten(0, 1)

    def losses(
        self, chance: Chance, step: int = 0, count: int = SCHEDULE.batch
    ) -> dict[str, Tensor]:
        mix = SHORT_MIX if step < LONG_FROM else MIX
        sequences = sample_sequences(chance.python, count, mix=mix)
        size = -(-count // CHUNKS)
        batches = [collate(sequences[i : i + size]) for i in range(0, count, size)]
        batches.append(collate([blank_sequence()], skip=False))
        prefix = self.read_prefix()
        shown = [scene for batch in batches for scene in batch.shown]
        drawn = [scene for batch in batches for scene in batch.drawn]
        pictures = render_batch(shown + drawn)
        features = self.frozen[0].features(pictures)
        blank = [len(scene.objects) == 0 for scene in drawn]
        features[len(shown) :][torch.tensor(blank, dtype=torch.bool)] = 0
        seen = self.eyes.look(worn(pictures[: len(shown)], chance))
        terms = {"seen": cell_loss(self.eyes.heads, seen, shown)}
        parts = seen.split([len(batch.shown) for batch in batches])
        states, looks = [], defaultdict(list)
        for part, own in zip(batches, parts, strict=True):
            states.append(self.hidden(part, own, prefix))
            for name, missed in self.looks(part).items():
                looks[name] += missed
        for name in ("copied", "named", "described", "meant"):
            terms[name] = torch.cat([*looks[name], torch.zeros(1)]).mean()
        terms |= self.text_terms(batches, states)
        kept = torch.cat([s[b.pads] for s, b in zip(states, batches, strict=True)])
        terms["kept"] = F.mse_loss(self.kept(kept), features[: len(shown)])
        tokens = torch.cat([s[b.queries] for s, b in zip(states, batches, strict=True)])
        told = torch.tensor([not empty for empty in blank])
        changed = torch.cat([batch.changed for batch in batches])
        weights = torch.where(changed, CHANGED_WEIGHT, 1.0)
        terms |= self.drawing_terms(tokens, features[len(shown) :], drawn, told, weights, chance)
        loss = sum(weight * terms[name] for name, weight in WEIGHTS.items())
        return {"loss": loss, **terms}

    def text_terms(self, batches: Sequence[Batch], states: Sequence[Tensor]) -> dict[str, Tensor]:
        picked, targets = [], []
        for batch, state in zip(batches, states, strict=True):
            flat = batch.targets.flatten()
            places = (flat >= 0).nonzero().flatten()
            picked.append(state[places])
            targets.append(flat[places])
        target = torch.cat(targets)
        logits = self.model.embed_tokens.project(torch.cat(picked))
        right = (logits.detach().argmax(-1) == target).float().mean()
        return {"text": F.cross_entropy(logits, target), "token_accuracy": right}

    def drawing_terms(
        self,
        tokens: Tensor,
        features: Tensor,
        drawn: Sequence[Scene],
        told: Tensor,
        weights: Tensor,
        chance: Chance,
    ) -> dict[str, Tensor]:
        missed = (self.regress(tokens) - features).square().mean(-1)
        terms = {"regress": (missed * weights).sum() / weights.sum()}
        scenes = [scene for scene, is_told in zip(drawn, told.tolist(), strict=True) if is_told]
        terms["cells"] = cell_loss(self.cells, tokens[told], scenes, weights[told])
        null = chance.uniform(len(tokens), 1, 1) < NULL_SHARE
        context = torch.where(null, 0.0, tokens).repeat(NOISE_DRAWS, 1, 1)
        clean = features.transpose(1, 2).unflatten(2, (3, 3)).repeat(NOISE_DRAWS, 1, 1, 1)
        timestep = torch.randint(1, 1001, (len(clean),), generator=chance.torch)
        sigma = (timestep / 1000)[:, None, None, None]
        noise = chance.normal(*clean.shape)
        velocity = self.dit((1 - sigma) * clean + sigma * noise, timestep, context)
        terms["flow"] = F.mse_loss(velocity, noise - clean)
        terms["routed"] = self.routes.loss(~null.flatten().repeat(NOISE_DRAWS))
        return terms


class Routes:
    """Watches the DiT's cross-attentions: place j of the features shall look at visual token j."""

    def __init__(self, dit: NextDiT):
        self.config = dit.config
        self.queries: dict[int, Tensor] = {}
        self.keys: dict[int, Tensor] = {}
        for number, layer in enumerate(dit.layers):
            for norm, kept in ((layer.attn2.norm_q, self.queries), (layer.attn2.norm_k, self.keys)):
                norm.register_forward_hook(
                    lambda *call, number=number, kept=kept: kept.update({number: call[2]})
                )

    def loss(self, told: Tensor) -> Tensor:
        """Cross-entropy of the taught heads' attention over the rows that have a condition."""
        size, side = self.config.head_dim, self.config.input_size
        turns = grid_rotations(side, side, size, self.config.rope_theta, told.device)
        losses = []
        for number, queries in self.queries.items():
            q = rotate_pairs(queries[told].unflatten(-1, (-1, size)), turns)[:, :, :ROUTING_HEADS]
            k = self.keys[number][told].unflatten(-1, (-1, size))[:, :, :ROUTING_HEADS]
            scores = torch.einsum("bthd,bshd->bhts", q, k) / size**0.5
            place = torch.arange(side**2).expand(scores.shape[:-1])
            losses.append(F.cross_entropy(scores.flatten(0, 2), place.flatten()))
        return torch.stack(losses).mean()


class SharedPrefix:
    """Keys and values of a prefix, written once and set before those of every batch."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]] | None = None, length: int = 0):
        self.layers = layers or []
        self.length = length  # the text model counts on, so every batch has a view of its own

    def view(self) -> "SharedPrefix":
        return SharedPrefix(self.layers, len(shared_prefix()))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer == len(self.layers):  # the prefix itself
            self.layers.append((keys, values))
            return keys, values
        known = [known.expand(len(keys), -1, -1, -1) for known in self.layers[layer]]
        return torch.cat([known[0], keys], 2), torch.cat([known[1], values], 2)


@torch.no_grad()
def begin_dit(dit: NextDiT) -> None:
    """Open gates and a silent output, so that the first steps already move."""
    for layer in dit.layers:
        layer.gate.fill_(1.0)
        layer.norm1.linear.weight.mul_(0.1)
        layer.norm1.linear.bias.zero_()
        _, gate_attn, _, gate_ffn = layer.norm1.linear.bias.chunk(4)
        gate_attn.fill_(0.7)
        gate_ffn.fill_(0.7)
    dit.norm_out.linear_2.weight.zero_()
    dit.norm_out.linear_2.bias.zero_()


# ---------------------------------------------------------------- how well it does


@torch.no_grad()
def draw_features(dit: NextDiT, tokens: Tensor, noise: Tensor, steps: int, scale: float) -> Tensor:
    """Guided Euler as the sampler does it; tokens (B, 9, D) -> features (B, 9, C)."""
    sigmas = torch.cat([torch.linspace(1, 1 / steps, steps), torch.zeros(1)])
    x, context = noise, torch.cat([torch.zeros_like(tokens), tokens])
    for sigma, following in pairwise(sigmas):
        timestep = torch.full((2 * len(x),), int(sigma * 1000))
        null, told = dit(torch.cat([x, x]), timestep, context).chunk(2)
        x = x + (following - sigma) * (null + scale * (told - null))
    return x.flatten(2).transpose(1, 2)


@torch.no_grad()
def evaluate(
    training: LlmTraining, count: int = 96, seed: int = 9, split: str = "held_out"
) -> dict[str, float]:
    """On held-out samples, for each kind: regression, whole answers right, whole pictures right.

    Pictures are judged in feature space: sampled by the DiT and read by the tower's own heads.
    """
    tower = training.frozen[0]
    found: dict[str, list[float]] = defaultdict(list)
    for kind in ("caption", "edit", "question", "describe", "edit_plan", "riddle", "dialogue"):
        rng = random.Random(f"{seed}{kind}")
        sequences = sample_sequences(
            rng, count if kind != "caption" else 2 * count, split, {kind: 1}
        )
        batch = collate(sequences)
        seen = torch.zeros(0, 9, training.text.hidden_size)
        if batch.shown:
            seen = training.eyes.look(render_batch(batch.shown))
        states = training.hidden(batch, seen, training.read_prefix())
        texts = text_exact(training, batch, states)
        if texts:
            found[f"{kind}.text"] = texts
        if batch.drawn:
            tokens = states[batch.queries]
            features = tower.features(render_batch(batch.drawn))
            found[f"{kind}.regress"] = [F.mse_loss(training.regress(tokens), features).item()]
            noise = torch.randn(
                len(tokens), DIT.in_channels, 3, 3, generator=torch.Generator().manual_seed(seed)
            )
            drawn = tower.read(draw_features(training.dit, tokens, noise, 15, 3.0))
            wanted = tower.read(features)
            found[f"{kind}.picture"] = same_pictures(drawn, wanted)
    return {key: round(sum(v) / len(v), 4) for key, v in found.items()}


def same_pictures(drawn: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[float]:
    """Whether background, places, shapes, colours and sizes all agree."""
    there = wanted["occupied"] == 1
    right = (drawn["occupied"] == wanted["occupied"]) & (
        drawn["background"] == wanted["background"]
    )
    for name in ("shape", "color", "size"):
        right &= ~there | (drawn[name] == wanted[name])
    return right.all(-1).float().tolist()


def text_exact(training: LlmTraining, batch: Batch, states: Tensor) -> list[float]:
    """For each sample with an answer, whether greedy writing would give exactly it."""
    guesses = training.model.embed_tokens.project(states).argmax(-1).view(batch.ids.shape)
    learned = batch.targets >= 0
    right = (guesses == batch.targets) | ~learned
    return right.all(-1)[learned.any(-1)].float().tolist()
