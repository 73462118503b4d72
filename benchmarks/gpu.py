"""`python -m benchmarks.gpu`: every stage at the published sizes on this machine's card.

Needs the repository, what its requirements name and torch: no ComfyUI, no weights, no network.
Random weights are made on the device, in bfloat16. Each stage is timed as it is, and as a CUDA
graph where there are any; its share is of the roofline that this card's own matrix products
and copies, measured first, allow for the stage's counted work.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from .speed.counting import count
from .speed.device_stages import STAGES, Sizes, published, small

ROUNDS, WARM_UP = 5, 2
GIGA, TERA = 1e9, 1e12
Run = Callable[[], object]


@dataclass(frozen=True)
class Roof:
    """What a card can do at best, as measured."""

    flops: float  # a second, of large bfloat16 products
    num_bytes: float  # a second, read and written
    fp8_flops: float | None = None  # of scaled products, where the card has them

    def seconds(self, flops: int, num_bytes: int) -> float:
        """The least time for so much work."""
        return max(flops / self.flops, num_bytes / self.num_bytes)


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


def as_graph(run: Run) -> Run:
    """The same kernels, launched at once."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@torch.no_grad()
def measure(sizes: Sizes, device: torch.device, roof: Roof) -> Iterator[Timed]:
    """Every stage of one size; each is built, timed and thrown away."""
    on_cuda = device.type == "cuda"
    for name, build, times in STAGES:
        work = count(build(sizes, torch.device("meta")))
        least = roof.seconds(work.flops, work.num_bytes)
        if on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            run = build(sizes, device)
            seconds = timed(run, device)
        except torch.OutOfMemoryError:
            yield Timed(name, "does not fit", float("nan"), work.peak_bytes, 0.0, times)
            continue
        peak = torch.cuda.max_memory_allocated(device) if on_cuda else work.peak_bytes
        yield Timed(name, "eager", seconds, peak, least / seconds, times)
        if on_cuda:
            seconds = timed(as_graph(run), device)
            yield Timed(name, "CUDA graph", seconds, peak, least / seconds, times)
        del run


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
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    on_cuda = device.type == "cuda"
    chosen = options.sizes or (["8b", "4b"] if on_cuda else ["small"])
    roof = measure_roof(device, *((8192, 2**30) if on_cuda else (256, 2**22)))
    card = torch.cuda.get_device_name(device) if on_cuda else "the processor"
    print(f"{card}, torch {torch.__version__}: {roof.flops / TERA:.3g} TFLOP/s in bfloat16", end="")
    fp8 = f", {roof.fp8_flops / TERA:.3g} in fp8" if roof.fp8_flops else ""
    print(f"{fp8}, {roof.num_bytes / GIGA:.3g} GB/s\n")
    for name in chosen:
        print(f"### {name}\n\n| stage | way | ms | times | seconds | peak GB | of the roofline |")
        print("|---|---|--:|--:|--:|--:|--:|")
        for row in measure(small() if name == "small" else published(name), device, roof):
            print(line(row), flush=True)
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
