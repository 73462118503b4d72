"""Which settings edit best? `python -m benchmarks.meaning.edit_settings`; the nodes' defaults.

Edits of scenes that the meaning table never sees. First by features alone: how near the changed
tokens come to those of the true target, how near the others stay to the source. Then, for the
settings given with --draw, the scorer's rates on decoded pictures.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.meaning.edits import EDIT_KINDS
from benchmarks.meaning.model import MeaningModel, Picture
from benchmarks.meaning.rates import Rate
from benchmarks.meaning.rows import make_cases, read_all
from blip3u_core.features.difference_mask import difference_mask, feature_difference
from blip3u_core.features.edit import edit_clip_features
from blip3u_core.pipeline import Pipeline
from small_world.edits import Edit, sample_edit
from small_world.language import describe
from small_world.scorer import judge_edit
from small_world.world import render

ROOT = Path(__file__).resolve().parents[2]
STRENGTHS = (0.5, 0.7, 0.85, 1.0)
SOURCE_SCALES = (1.0, 1.5, 2.5)
TARGET_SCALES = (1.5, 3.0, 4.5)
CHANGED = 0.2  # a token has changed if true source and target differ by more


@dataclass(frozen=True)
class Cases:
    """Edits with what the model makes of them before any setting matters."""

    edits: list[Edit]
    sources: list[Picture]
    before: Tensor  # features (B, C, g, g) of the source pictures
    after: Tensor  # of the true targets
    described: tuple[Tensor, Tensor]  # visual tokens of source and target captions


def prepare(model: MeaningModel, count: int, planned: bool) -> Cases:
    kinds = iter(EDIT_KINDS * (count // len(EDIT_KINDS) + 1))
    edits = make_cases("edit settings", count, lambda rng: sample_edit(rng, "train", next(kinds)))
    sources, targets = ([render(s) for s in side] for side in scenes_of(edits))
    captions = tuple([describe(s) for s in side] for side in scenes_of(edits))
    if planned:
        captions = model.plan_edits(sources, [edit.instruction for edit in edits])
    tokens = model.caption_tokens(captions[0]), model.caption_tokens(captions[1])
    return Cases(edits, sources, model.encode(sources), model.encode(targets), tokens)


def scenes_of(edits: Sequence[Edit]) -> tuple[list, list]:
    return [e.source for e in edits], [e.target for e in edits]


def edited(model: MeaningModel, cases: Cases, strength: float, scales: tuple) -> Tensor:
    steps = model.pipeline.settings(**model.settings).feature_steps
    return edit_clip_features(
        model.pipeline.dit, cases.before, *cases.described, 0, steps, *scales, strength
    )


def nearness(cases: Cases, features: Tensor) -> tuple[float, float]:
    """(how far changed tokens went towards the target, how well the others stayed), 1 is best."""
    asked = feature_difference(cases.before, cases.after)  # (B, g, g)
    changed = asked > CHANGED
    missing = feature_difference(features, cases.after)[changed] / asked[changed]
    moved = feature_difference(cases.before, features)[~changed]
    return 1 - missing.mean().item(), 1 - moved.mean().item()


def rates(cases: Cases, pictures: Sequence[Picture]) -> str:
    scenes = read_all(pictures)
    judged = [judge_edit(s, e) for s, e in zip(scenes, cases.edits, strict=True)]
    asked, kept = ([pair[i] for pair in judged] for i in range(2))
    both = [a and k for a, k in judged]
    return " ".join(f"{Rate.of(part).value:.3f}" for part in (asked, kept, both))


def search(model: MeaningModel, cases: Cases) -> None:
    print("strength  cfg_source  cfg_target   asked    kept   both", flush=True)
    for strength, source, target in product(STRENGTHS, SOURCE_SCALES, TARGET_SCALES):
        asked, kept = nearness(cases, edited(model, cases, strength, (source, target)))
        both = (asked + kept) / 2
        print(
            f"{strength:8} {source:11} {target:11} {asked:7.3f} {kept:7.3f} {both:6.3f}", flush=True
        )


def draw(model: MeaningModel, cases: Cases, strength: float, scales: tuple) -> None:
    """Ways b and c on pictures: asked, kept, both."""
    features = edited(model, cases, strength, scales)
    print(f"strength {strength}, cfg {scales}: b {rates(cases, model.decode(features, 0))}")
    height, width = model.pipeline.decoder.picture_size
    for threshold, blur in product((0.25, 0.4, 0.55, 0.7), (0.0, 0.1, 0.2)):
        mask = difference_mask(cases.before, features, width, height, threshold, blur)
        pictures = model.redraw_under(mask, features, cases.sources, 0)
        changed = float(np.mean(mask.numpy()))
        print(f"  threshold {threshold} blur {blur}: c {rates(cases, pictures)} ({changed:.2f})")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.meaning.edit_settings", description=__doc__
    )
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models" / "blip3u-tiny")
    parser.add_argument("--cases", type=int, default=90)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--planned", action="store_true", help="captions by the model, not true")
    parser.add_argument("--draw", nargs="*", default=[], help="strength,cfg_source,cfg_target")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = MeaningModel(Pipeline.from_checkpoint(options.checkpoint), feature_steps=options.steps)
    cases = prepare(model, options.cases, options.planned)
    if not options.draw:
        search(model, cases)
    for setting in options.draw:
        strength, source, target = (float(value) for value in setting.split(","))
        draw(model, cases, strength, (source, target))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
