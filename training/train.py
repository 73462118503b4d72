"""Make blip3u-tiny: `python -m training.train --stage all`. Stop and start it at any moment."""

import argparse
import os
from pathlib import Path

import torch

from . import llm, llm_score, tower, unet, vae, vision_encoder, widen
from .common import RUNS, WIDE, Run, chance, write_safetensors
from .half_products import use_half_products
from .restore import restore_runs
from .scenes import render_batch, sample_scenes

SEED = 2026


def train_tower(until: int | None = None) -> None:
    training = tower.TowerTraining()
    run = Run("tower", training, tower.SCHEDULE)
    if not run.resume():
        training.begin()
    run.go(training.losses, SEED, lambda: tower.evaluate(training), 250, until)
    if WIDE:  # its features are blip3u-tiny's, standard already
        write_safetensors(training.state_dict(), RUNS / "tower.safetensors", {})
    else:
        freeze_tower(training)


def freeze_tower(training: tower.TowerTraining) -> None:
    """Standard features from here on: the statistics go into the weights."""
    pictures = render_batch(sample_scenes(chance(3), 4000, "train"))
    tower.fold_statistics(training.tower, pictures)
    training.mean.zero_()
    training.spread.fill_(1 - 1e-3)
    write_safetensors(training.state_dict(), RUNS / "tower.safetensors", {})


def train_vision_encoder(until: int | None = None) -> None:
    training = vision_encoder.VisionEncoder()
    run = Run("eyes", training, vision_encoder.SCHEDULE)
    if not run.resume():
        training.begin()
    if WIDE:
        training.teacher = (widen.small_eyes(),)
    run.go(training.losses, SEED, lambda: vision_encoder.evaluate(training), 250, until)
    write_safetensors(training.state_dict(), RUNS / "eyes.safetensors", {})


def train_unet(until: int | None = None) -> None:
    training = unet.UNetTraining(unet.FrozenLatents(), vision_encoder.FeatureTower())
    run = Run("unet", training, unet.SCHEDULE, outer=unet.OUTER)
    run.resume()
    run.go(
        lambda rng: training.losses(rng, SEED, run.step),
        SEED,
        lambda: unet.evaluate(training),
        250,
        until,
    )


def train_llm(until: int | None = None) -> None:
    training = llm.LlmTraining(vision_encoder.FeatureTower())
    run = Run("llm", training, llm.SCHEDULE, outer=llm.OUTER)
    if not run.resume():
        training.begin()
    run.go(
        lambda rng: training.losses(rng, run.step),
        SEED,
        lambda: llm_score.evaluate(training),
        500,
        until,
    )


def train_vae(until: int | None = None) -> None:
    training = vae.VaeTraining()
    run = Run("vae", training, vae.SCHEDULE)
    if not run.resume():
        training.begin()
    run.go(
        lambda rng: training.losses(rng, step=run.step),
        SEED,
        lambda: vae.evaluate(training),
        250,
        until,
    )


STAGES = {
    "vae": train_vae,
    "tower": train_tower,
    "unet": train_unet,
    "eyes": train_vision_encoder,
    "llm": train_llm,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument(
        "--from-checkpoint", type=Path, help="first make runs of this exported model"
    )
    parser.add_argument("--until", type=int, help="stop after this step of each stage")
    parser.add_argument(
        "--half-products", action="store_true", help="for processors with avx512_bf16: faster"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.half_products:
        use_half_products()
    if args.from_checkpoint:
        restore_runs(args.from_checkpoint)
    for name in STAGES if args.stage == "all" else (args.stage,):
        torch.manual_seed(SEED)  # of the first weights; the steps draw from `StepRng`
        STAGES[name](args.until)


if __name__ == "__main__":
    main()
