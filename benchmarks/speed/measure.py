"""What all benchmarks share: times in alternation, memory, and the rows of the table.

A benchmark is a module of this folder with `rows(minimal: bool) -> Iterator[Measurement]`;
`minimal` runs the same code at a size that takes seconds and proves nothing, for the tests.
"""

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

ROUNDS = 7
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Measurement:
    """One line of the table. `ratio` is None where only `detail` says something."""

    name: str
    ratio: float | None
    goal: float | None = None  # the ratio shall not exceed it
    detail: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None or self.ratio is None:
            return ""
        return "met" if self.ratio <= self.goal else "MISSED"


@dataclass(frozen=True)
class Times:
    """Seconds of every function in every round; round i of one ran next to round i of another."""

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        return median(self.seconds[name])

    def ratio(self, name: str, to: str) -> float:
        """Median of the rounds' ratios: a machine that slows down for a while slows both."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        return median(one / other for one, other in pairs)

    def describe(self, name: str, to: str) -> str:
        """Both medians and the middle half of the ratios."""
        medians = f"{milliseconds(self.median(name))} / {milliseconds(self.median(to))}"
        return f"{medians}, {self.quartiles(name, to)}"

    def quartiles(self, name: str, to: str) -> str:
        """The middle half of the rounds' ratios, as text."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        ratios = sorted(one / other for one, other in pairs)
        quarter = len(ratios) // 4
        return f"{ratios[quarter]:.2f}..{ratios[-1 - quarter]:.2f}"


def clock() -> str:
    """The clock that `BENCHMARK_CLOCK` names.

    `wall` is the default. `cpu` counts what this process computed, whatever else the machine
    does: with one thread and nothing to wait for, the two agree on a calm machine.
    """
    name = os.environ.get("BENCHMARK_CLOCK", "wall")
    if name not in CLOCKS:
        raise ValueError(f"BENCHMARK_CLOCK is {name!r}, expected one of {list(CLOCKS)}.")
    return name


def alternate(
    functions: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    warm_up: int = 1,
    before: Callable[[str], None] | None = None,
) -> Times:
    """Run the functions one after the other, `rounds` times; every second round backwards.

    Backwards, because the first after a change of data finds colder caches. `before` is called
    with the name of what runs next, and is not timed.
    """
    now = CLOCKS[clock()]
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        for name in names if number % 2 == 0 else reversed(names):
            if before is not None:
                before(name)
            start = now()
            functions[name]()
            if number >= 0:
                seconds[name].append(now() - start)
    return Times({name: tuple(values) for name, values in seconds.items()})


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"


def peak_rss() -> int:
    """Most bytes this process ever held in RAM."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
