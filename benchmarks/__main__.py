"""`python -m benchmarks [--only dit llm ...] [--minimal]`: measure, and print one table."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module

import torch

from .speed.measure import Measurement, clock

# In the order of the data; the slowest last.
BENCHMARKS = (
    "host_import",
    "dit",
    "sampler",
    "compiled",
    "llm",
    "decoder",
    "loading",
    "memory",
    "reuse",
    "decode",
    "conversation",
    "growth",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--minimal", action="store_true", help="tiny sizes: shows that all run")
    chosen = parser.parse_args(arguments)
    print(machine())
    print(f"| {'what':66} | ratio |  goal |        | detail |")
    print(f"|{'-' * 68}|------:|------:|--------|--------|")
    missed = 0
    for name in BENCHMARKS:
        if name in chosen.only:
            for row in import_module(f".speed.{name}", __package__).rows(chosen.minimal):
                print(line(row), flush=True)
                missed += row.verdict == "MISSED"
    print(f"\n{missed} goals missed" if missed else "\nall goals met")
    return 0


def machine() -> str:
    """Where and with what this was measured."""
    return (
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {clock()} clock, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )


def line(row: Measurement) -> str:
    def number(value: float | None) -> str:
        return " " * 5 if value is None else f"{value:5.2f}"

    return (
        f"| {row.name:66} | {number(row.ratio)} | {number(row.goal)} | {row.verdict:6} "
        f"| {row.detail} |"
    )


if __name__ == "__main__":
    sys.exit(main())
