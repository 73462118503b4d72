"""`python -m benchmarks.meaning`: does blip3u-tiny draw, see and edit what is meant?

Every row is measured by the scorer (`small_world/scorer.py`) on held-out cases with fixed seeds;
the numbers in brackets are 95 % Wilson intervals.
"""

import argparse
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.meaning.contact_sheet import save_contact_sheet
from benchmarks.meaning.edits import GROUPS
from benchmarks.meaning.jobs import measure_all
from benchmarks.meaning.rows import Report
from blip3u_core.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[2]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.meaning", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models" / "blip3u-tiny")
    parser.add_argument("--rows", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--cases", type=int, default=200, help="held-out cases a row")
    parser.add_argument("--steps", type=int, default=30, help="of the feature sampler")
    parser.add_argument("--decoder-steps", type=int, default=None, help="default: the checkpoint's")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share out the rows")
    parser.add_argument("--threads", type=int, default=None, help="of each (all cores / jobs)")
    parser.add_argument("--sheet", type=Path, default=None, help="where the contact sheet goes")
    parser.add_argument("--table", type=Path, default=None, help="where the table goes (Markdown)")
    return parser.parse_args(arguments)


def markdown_table(report: Report) -> str:
    lines = ["| row | measured (95 % interval) | goal | cases |", "|---|---|---|---|"]
    for row in report.rows:
        goal = "report" if row.goal is None else f"{row.goal:.2f}"
        if row.goal is not None:
            goal += " reached" if row.rate.value >= row.goal else " missed"
        name = row.name.replace("  ", "&nbsp;&nbsp;")
        lines.append(f"| {name} | {row.rate} | {goal} | {row.rate.total} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    options.threads = options.threads or max(1, (os.cpu_count() or 1) // options.jobs)
    start = time.time()
    report = measure_all(options)
    pipeline = Pipeline.from_checkpoint(options.checkpoint)
    used = pipeline.settings(feature_steps=options.steps)
    decoder_steps = options.decoder_steps or used.decoder_steps
    summary = (
        f"{options.checkpoint.name}, {used.feature_steps} feature steps, "
        f"{decoder_steps} decoder steps; {time.time() - start:.0f} s, {options.jobs} processes of "
        f"{options.threads} threads, torch {torch.__version__}, {platform.machine()}"
    )
    table = f"{markdown_table(report)}\n\n{summary}\n"
    print("\n" + table)
    if options.table is not None:
        options.table.write_text(table)
    if options.sheet is not None and report.cards:  # questions alone draw nothing
        save_contact_sheet(report.cards, options.sheet)
        print(f"contact sheet: {options.sheet}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
