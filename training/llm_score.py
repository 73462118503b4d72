"""How well LLM and DiT do on held-out samples, cheaply: no decoder, the tower's readers judge."""

from collections import defaultdict
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from blip3u_core.features.flow import sample_clip_features
from blip3u_core.features.grid import features_to_tokens

from .common import chance
from .llm import LlmTraining
from .llm_config import DIT
from .llm_data import Batch, collate, sample_sequences
from .scenes import render_batch


@cache
def cases(kind: str, count: int, seed: int, split: str) -> Batch:
    return collate(sample_sequences(chance(f"{seed}{kind}"), count, split, {kind: 1}))


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
        batch = cases(kind, count if kind != "caption" else 2 * count, seed, split)
        seen = torch.zeros(0, 9, training.text.hidden_size)
        if batch.shown:
            seen = training.eyes.encode_images(render_batch(batch.shown))
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
            drawn = tower.read(
                features_to_tokens(sample_clip_features(training.dit, tokens, noise, 15, 3.0))
            )
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
