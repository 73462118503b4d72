"""How time grows with the batch, the length of a dialogue and the size of the picture.

`python -m benchmarks.speed.growth` also draws `benchmarks/speed/growth.png` (needs matplotlib).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from blip3u_core.features.flow import item_noise, sample_clip_features
from blip3u_core.language.visual_tokens import visual_tokens

from .cost import GPUS, StageCost
from .decoder import MINIMAL as UNET_MINIMAL
from .decoder import UNET
from .dit import MINIMAL, NUM_QUERIES, SIZE, random_dit
from .llm import CACHE_BYTES, Dialogue
from .measure import Measurement, Times, alternate, threads
from .models import LANGUAGE, LANGUAGE_MINIMAL, language_model
from .stages import ModelWork

ROUNDS = 5
DIT_STEPS = 3
BATCHES = (1, 2, 4, 8)
TURNS = (1, 2, 4, 7, 10)
SIDES = (256, 512, 768, 1024)
SIDES_MINIMAL = (64, 128)
PLOT = Path(__file__).with_name("growth.png")


@dataclass
class Curve:
    """Seconds against one size; further curves show the same another way."""

    name: str
    axis: str
    sizes: tuple[int, ...]
    seconds: list[float]
    others: dict[str, list[float]] = field(default_factory=dict)

    def row(self) -> Measurement:
        """The largest size against the smallest, and all points."""
        points = ", ".join(
            f"{size}: {1000 * s:.0f} ms" for size, s in zip(self.sizes, self.seconds, strict=True)
        )
        parts = [points, *(f"{name} x{v[-1] / v[0]:.1f}" for name, v in self.others.items())]
        name = f"growth: {self.name}, {self.axis} {self.sizes[-1]} / {self.sizes[0]}"
        return Measurement(name, self.seconds[-1] / self.seconds[0], None, "; ".join(parts))


def rows(minimal: bool) -> Iterator[Measurement]:
    for curve in curves(minimal):
        yield curve.row()


def curves(minimal: bool) -> Iterator[Curve]:
    with threads(1):
        yield batch_curve(minimal)
        yield dialogue_curve(minimal)
        yield picture_curve(minimal)


def batch_curve(minimal: bool) -> Curve:
    """Sampling several pictures of one prompt; beside it, what the 8B would take on an H100."""
    config = MINIMAL if minimal else SIZE
    dit = random_dit(config, torch.float32)
    tokens = item_noise(1, 1, (NUM_QUERIES, config.condition_dim))
    shape = (config.in_channels, config.input_size, config.input_size)
    runs = {
        str(batch): partial(
            sample_clip_features, dit, tokens, item_noise(2, batch, shape), DIT_STEPS
        )
        for batch in BATCHES
    }
    curve = Curve("DiT", "batch", BATCHES, medians(runs, minimal))
    if not minimal:
        model = ModelWork("8b")
        stages = [StageCost("", model.dit_ours(DIT_STEPS, batch), 0.0) for batch in BATCHES]
        curve.others["8B on an H100, estimated"] = [stage.seconds(GPUS[0]) for stage in stages]
    return curve


def dialogue_curve(minimal: bool) -> Curve:
    """Visual tokens at a later turn, what came before remembered or not."""
    llm = language_model(LANGUAGE_MINIMAL if minimal else LANGUAGE, torch.float32)
    kept, forgotten = (dialogue_seconds(Dialogue(llm, size), minimal) for size in (CACHE_BYTES, 0))
    return Curve("visual tokens, cached", "turn", TURNS, kept, {"nothing kept": forgotten})


def dialogue_seconds(talk: Dialogue, minimal: bool) -> list[float]:
    ready = {}

    def prepare(turn: str) -> None:
        ready[turn] = talk.context(int(turn), for_drawing=True), talk.before(int(turn))

    def draw(turn: str) -> None:
        context, cache = ready[turn]
        visual_tokens(talk.llm, [context], cache)

    runs = {str(turn): partial(draw, str(turn)) for turn in TURNS}
    return medians(runs, minimal, prepare)


def picture_curve(minimal: bool) -> Curve:
    """One guided step of the decoder's UNet at a quarter of its width."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(**(UNET_MINIMAL if minimal else UNET)).requires_grad_(False)
    sides = SIDES_MINIMAL if minimal else SIDES
    width = unet.config.cross_attention_dim
    tokens = torch.randn(2, 64, width)
    added = {"text_embeds": torch.randn(2, width), "time_ids": torch.zeros(2, 6)}

    @torch.inference_mode()
    def step(side: int) -> None:
        x = torch.randn(2, 4, side // 8, side // 8)
        unet(x, 500, tokens, added_cond_kwargs=added)

    runs = {str(side): partial(step, side) for side in sides}
    return Curve("decoder step", "side", sides, medians(runs, minimal))


def medians(
    runs: dict[str, Callable[[], object]],
    minimal: bool,
    before: Callable[[str], None] | None = None,
) -> list[float]:
    times: Times = alternate(runs, 1 if minimal else ROUNDS, before=before)
    return [times.median(name) for name in runs]


def draw(found: list[Curve]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(4.2 * len(found), 3.4))
    for axis, curve in zip(axes, found, strict=True):
        lines = {curve.name: curve.seconds, **curve.others}
        for name, seconds in lines.items():
            relative = [value / seconds[0] for value in seconds]
            axis.plot(curve.sizes, relative, marker="o", label=name)
        axis.set(xlabel=curve.axis, ylabel=f"time, {curve.axis} {curve.sizes[0]} = 1")
        axis.set_xticks(curve.sizes)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=90)


if __name__ == "__main__":
    measured = list(curves(minimal=False))
    for curve in measured:
        print(f"{curve.row().name}: {curve.row().ratio:.2f} ({curve.row().detail})")
    draw(measured)
