"""`python -m benchmarks.decoder_quality`: what fewer steps and less guidance cost on blip3u-tiny.

Held-out scenes go picture -> features -> picture; the scorer says which come back whole. Guidance
in the first part of the steps alone is what stock nodes do: Decoder Sigmas into SplitSigmas, and
two SamplerCustomAdvanced, the second with a guidance scale of 1.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.meaning.model import MeaningModel, as_pictures, in_batches
from benchmarks.meaning.rates import Rate
from benchmarks.meaning.rows import make_cases, read_all
from blip3u_core.decoder.decoder import Predict, UNetCondition, integrate_guided_diffusion
from blip3u_core.features.flow import item_noise
from blip3u_core.pipeline import Pipeline
from small_world.scorer import same_scene
from small_world.world import Scene, render, sample_scene

ROOT = Path(__file__).resolve().parent.parent
STEPS = (5, 8, 12, 18, 25, 50)
INTERVALS = (0.0, 0.25, 0.5)  # of the steps, from the first, in which guidance is on
GUIDANCE_SCALE = 3.0


def guided_until(predict: Predict, last: int) -> Predict:
    """Guidance in the steps before `last`; behind them the null estimate is the conditional."""

    def predicted(x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        conditional, null = predict(x, step)
        return conditional, null if step < last else conditional

    return predicted


@torch.no_grad()
def draw(model: MeaningModel, features: Tensor, steps: int, share: float, seed: int) -> Tensor:
    """Pictures of features (B, C, g, g), guided in that share of the steps."""
    decoder, size = model.pipeline.decoder, model.pipeline.decoder.picture_size
    negative = model.pipeline.negative_features(**model.settings).expand_as(features)
    sigmas = decoder.schedule.sigmas(steps, 1.0)
    predict = decoder.predictor(
        UNetCondition.of_features(features, size),
        UNetCondition.of_features(negative, size),
        sigmas,
        decoder.schedule.timesteps(steps, 1.0),
    )
    noise = item_noise(seed, len(features), decoder.latent_shape(size))
    latents = integrate_guided_diffusion(
        guided_until(predict, round(share * steps)),
        noise,
        noise * decoder.schedule.start_scale(float(sigmas[0])),
        sigmas,
        GUIDANCE_SCALE,
    )
    return decoder.to_pictures(latents)


def kept(model: MeaningModel, scenes: Sequence[Scene], features: Tensor, *how: float) -> Rate:
    """How many scenes are whole after decoding with (steps, share)."""
    steps, share = int(how[0]), how[1]
    pictures = []
    for part in in_batches(len(features)):
        pictures += as_pictures(draw(model, features[part], steps, share, 5000 + part.start))
    pairs = zip(read_all(pictures), scenes, strict=True)
    return Rate.of([same_scene(a, b) for a, b in pairs])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.decoder_quality", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models" / "blip3u-tiny")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = MeaningModel(Pipeline.from_checkpoint(options.checkpoint))
    scenes = make_cases("decoder", options.cases, lambda rng: sample_scene(rng, "held_out"))
    features = model.encode([render(scene) for scene in scenes])
    default = model.pipeline.settings().decoder_steps
    print("| steps | guided | UNet rows a picture | scenes kept (95 % interval) | seconds |")
    print("|--:|--:|--:|---|--:|")
    for steps, share in [(s, 1.0) for s in STEPS] + [(default, share) for share in INTERVALS]:
        start = time.process_time()
        rate = kept(model, scenes, features, steps, share)
        rows = steps + round(share * steps)
        seconds = time.process_time() - start
        print(f"| {steps} | {share:.0%} | {rows} | {rate} | {seconds:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
