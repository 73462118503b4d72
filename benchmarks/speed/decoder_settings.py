"""The ways to decode that are compared, and what they cost and keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field

REFERENCE_STEPS = 50
GUIDED_ROWS = 2  # of the UNet a picture and step: with the condition, and without


@dataclass(frozen=True)
class Setting:
    """How the Decoder and the nodes before it are set; those that we recommend have a name."""

    steps: int
    sampler_name: str = "euler"
    scheduler: str = "karras"
    interval: int = 1  # of Deep Cache
    depth: int = 0
    guided: float = 1.0  # guidance until this part of the schedule
    easy_cache: float = 0.0  # its threshold
    attention: float = 1.0  # cross-attention until this part of the schedule
    name: str = ""

    def __str__(self) -> str:
        words = [f"{self.sampler_name}, {self.scheduler}, {self.steps}"]
        if self.depth:
            words.append(f"Deep Cache {self.interval}, depth {self.depth}")
        if self.attention < 1:
            words.append(f"cross-attention until {self.attention:.0%}")
        if self.guided < 1:
            words.append(f"guidance until {self.guided:.0%}")
        if self.easy_cache:
            words.append(f"EasyCache {self.easy_cache}")
        return "; ".join(words)


EXACT = Setting(200, "dpmpp_2m")
REFERENCE = Setting(REFERENCE_STEPS, scheduler="checkpoint", name="reference")
SETTINGS = (
    REFERENCE,
    Setting(25, scheduler="checkpoint"),
    Setting(8, name="draft"),
    Setting(14, name="fast"),
    Setting(20),
    Setting(14, guided=0.5),
    Setting(14, guided=0.5, attention=0.5),
    Setting(20, easy_cache=0.1, name="fine"),
    Setting(13, "dpmpp_2m", "exponential", name="lean"),
    Setting(13, "dpmpp_2m", "exponential", attention=0.5),
    Setting(14, depth=2, interval=2, name="fast, cached"),
    Setting(14, depth=3, interval=3),
    Setting(14, depth=3, interval=4),
    Setting(13, "dpmpp_2m", "exponential", depth=3, interval=3, name="lean, cached"),
    Setting(13, "dpmpp_2m", "exponential", depth=3, interval=3, attention=0.5, name="lean, gated"),
)


@dataclass(frozen=True)
class Measured:
    """What a setting costs and keeps. Work is of the UNet, relative to the reference."""

    setting: Setting
    work: float
    work_8b: float
    to_exact: float  # PSNR, dB
    to_reference: float
    scenes: int
    cases: int
    features: float  # mean cosine, asked for and seen
    on_front: bool = field(default=False, compare=False)


def front(found: Sequence[Measured]) -> set[int]:
    """Those for which no other one is nearer to exact for as little work or less."""
    return {
        i
        for i, one in enumerate(found)
        if not any(
            other.to_exact >= one.to_exact
            and other.work <= one.work
            and (other.to_exact, other.work) != (one.to_exact, one.work)
            for other in found
        )
    }
