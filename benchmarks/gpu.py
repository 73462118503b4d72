"""`python -m benchmarks.gpu`: every stage at the published sizes on this machine's card.

Needs the repository, what its requirements name and torch: no ComfyUI, no weights, no network.
Random weights are made on the device, in bfloat16. Each stage is timed as it is, as a CUDA graph,
with its matrices in 8 bits and in 4, and last, while the time lasts, compiled; a token of an answer
also by our kernel of few rows, in nvfp4 and int8, and its graph is the one that answers are written
by. Its share is of the roofline that this card's own matrix products and copies, measured first,
allow for the stage's counted work. What could not be tried is listed with the reason.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch

from .speed.counting import count
from .speed.device_stages import STAGES, Build, Sizes, published, small
from .speed.ways import (
    COMPILED,
    EAGER,
    GRAPH,
    SMALL,
    Built,
    Run,
    as_graph,
    compiled,
    shrink,
    why_not,
)

ROUNDS, WARM_UP = 5, 2
GIGA, TERA = 1e9, 1e12
MINUTES = 7.0  # no compilation begins later than COMPILING before this
COMPILING = 2.5  # minutes that the largest stage may take to compile
SHARED = ("decoder UNet", "VAE", "vision encoder")  # the same in all published sizes


@dataclass(frozen=True)
class Roof:
    """What a card can do at best, as measured."""

    flops: float  # a second, of large bfloat16 products
    num_bytes: float  # a second, read and written
    fp8_flops: float | None = None  # of scaled products, where the card has them

    def seconds(self, flops: float, num_bytes: float, fp8: bool = False) -> float:
        """The least time for so much work, with products in 8 bits or not."""
        rate = self.fp8_flops if fp8 and self.fp8_flops else self.flops
        return max(flops / rate, num_bytes / self.num_bytes)


@dataclass(frozen=True)
class Timed:
    """One line of the table."""

    name: str
    way: str
    seconds: float
    peak_bytes: int
    share: float  # of the roofline
    times: int  # in a picture, or in an answer of 64 tokens


def timed(run: Run, device: torch.device) -> float:
    """Median seconds of a call, after a warm-up."""
    seconds = []
    for i in range(WARM_UP + ROUNDS):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        if i >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    return median(seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_roof(device: torch.device, side: int, num_bytes: int) -> Roof:
    """Products of (side, side) matrices, and copies of so many bytes."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: a @ b, device)
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = timed(lambda: target.copy_(source), device)
    fp8 = None
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        left, right = (m.to(torch.float8_e4m3fn) for m in (a, b.t().contiguous()))
        one = torch.ones((), device=device)
        scaled = timed(
            lambda: torch._scaled_mm(left, right.t(), one, one, out_dtype=torch.bfloat16), device
        )
        fp8 = 2 * side**3 / scaled
    return Roof(2 * side**3 / product, 2 * num_bytes / copied, fp8)


@dataclass
class Bench:
    """Measures stages on one device, and remembers what it could not."""

    device: torch.device
    roof: Roof
    ends: float = float("inf")  # on the clock of time.monotonic
    skipped: dict[str, list[str]] = field(default_factory=dict)  # stages by reason

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def rows(self, sizes: Sizes, stages: Sequence[tuple[str, Build, int]]) -> Iterator[Timed]:
        """Every stage of one size and each way to run it; each is built, timed, thrown away."""
        for stage in stages:
            for kind in (None, *SMALL):
                yield from self._kind(sizes, stage, kind)
        for stage in stages:
            yield from self._compiled(sizes, stage)

    @torch.no_grad()
    def _kind(
        self, sizes: Sizes, stage: tuple[str, Build, int], kind: str | None
    ) -> Iterator[Timed]:
        """A stage in bfloat16 or in few bits, eager and as a graph."""
        name, build, times = stage
        built = self._built(name, sizes, build, kind or EAGER)
        if built is None or (kind is not None and self._refused(name, kind, built)):
            return
        work = count(build(sizes, torch.device("meta")).run)
        flops, num_bytes = work.flops, float(work.num_bytes)
        if kind is not None:
            num_bytes -= shrink(built, kind) * (2 - SMALL[kind].num_bytes)
        least = self.roof.seconds(flops, num_bytes, fp8=kind == "fp8")
        for way in (EAGER, GRAPH):
            label = way if kind is None else f"{kind}, {way}"
            if self._refused(name, way, built):
                continue
            run = built.step if way == GRAPH and built.step else built.run
            seconds = self._timed(name, label, run, as_graph if way == GRAPH else None)
            if seconds is not None:
                peak = torch.cuda.max_memory_allocated() if self.on_cuda else work.peak_bytes
                yield Timed(name, label, seconds, peak, least / seconds, times)

    @torch.no_grad()
    def _compiled(self, sizes: Sizes, stage: tuple[str, Build, int]) -> Iterator[Timed]:
        name, build, times = stage
        if time.monotonic() > self.ends - 60 * COMPILING:
            self._skip(f"{COMPILED}: no time left", name)
            return
        built = self._built(name, sizes, build, COMPILED)
        if built is None or self._refused(name, COMPILED, built):
            return
        seconds = self._timed(name, COMPILED, built.run, compiled)
        if seconds is not None:
            work = count(build(sizes, torch.device("meta")).run)
            peak = torch.cuda.max_memory_allocated() if self.on_cuda else work.peak_bytes
            share = self.roof.seconds(work.flops, work.num_bytes) / seconds
            yield Timed(name, COMPILED, seconds, peak, share, times)

    def _built(self, name: str, sizes: Sizes, build: Build, way: str) -> Built | None:
        if self.on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            return build(sizes, self.device)
        except torch.OutOfMemoryError:
            self._skip(f"{way}: does not fit", name)
            return None

    def _refused(self, name: str, way: str, built: Built) -> bool:
        reason = why_not(way, built, self.device)
        if reason is not None:
            self._skip(f"{way}: {reason}", name)
        return reason is not None

    def _skip(self, reason: str, name: str) -> None:
        names = self.skipped.setdefault(reason, [])
        if name not in names:
            names.append(name)

    def _timed(
        self, name: str, label: str, run: Run, change: Callable[[Run], Run] | None
    ) -> float | None:
        """Seconds; None if torch or the card refuses, which costs one row and not the table."""
        try:
            return timed(run if change is None else change(run), self.device)
        except RuntimeError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._skip(f"{label}: {first[:150]}", name)
            return None


def line(row: Timed) -> str:
    return (
        f"| {row.name} | {row.way} | {1e3 * row.seconds:.3g} | {row.times} | "
        f"{row.times * row.seconds:.3g} | {row.peak_bytes / GIGA:.2f} | {row.share:.0%} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="default: %(default)s")
    parser.add_argument("--sizes", nargs="+", choices=("8b", "4b", "small"), default=None)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="default: %(default)s")
    options = parser.parse_args(arguments)
    started, device = time.monotonic(), torch.device(options.device)
    on_cuda = device.type == "cuda"
    chosen = options.sizes or (["8b", "4b"] if on_cuda else ["small"])
    roof = measure_roof(device, *((8192, 2**30) if on_cuda else (256, 2**22)))
    card = torch.cuda.get_device_name(device) if on_cuda else "the processor"
    print(f"{card}, torch {torch.__version__}: {roof.flops / TERA:.3g} TFLOP/s in bfloat16", end="")
    fp8 = f", {roof.fp8_flops / TERA:.3g} in fp8" if roof.fp8_flops else ""
    print(f"{fp8}, {roof.num_bytes / GIGA:.3g} GB/s\n")
    bench = Bench(device, roof, started + 60 * options.minutes)
    for index, name in enumerate(chosen):
        print(f"### {name}\n\n| stage | way | ms | times | seconds | peak GB | of the roofline |")
        print("|---|---|--:|--:|--:|--:|--:|")
        sizes = small() if name == "small" else published(name)
        stages = [stage for stage in STAGES if index == 0 or not stage[0].startswith(SHARED)]
        for row in bench.rows(sizes, stages):
            print(line(row), flush=True)
        print("\nLeft out:\n")
        print("".join(f"- {why} ({'; '.join(names)})\n" for why, names in bench.skipped.items()))
        bench.skipped.clear()
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
