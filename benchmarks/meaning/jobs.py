"""The rows of the meaning table, shared out among processes.

Not in `__main__`: a spawned process finds no function of a package's `__main__`.
"""

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch

from benchmarks.meaning.edits import GROUPS
from benchmarks.meaning.model import MeaningModel
from benchmarks.meaning.rows import Report
from blip3u_core.pipeline import Pipeline

# One after the other in one process: the last is computed from the pictures of the others.
CAPTION_ROWS = ("one", "several", "counting", "position", "never_seen", "derived")


def load(options: argparse.Namespace) -> MeaningModel:
    torch.set_num_threads(options.threads)
    settings = {"feature_steps": options.steps}
    if options.decoder_steps is not None:
        settings["decoder_steps"] = options.decoder_steps
    return MeaningModel(Pipeline.from_checkpoint(options.checkpoint), **settings)


def shares(rows: Sequence[str]) -> list[list[str]]:
    """Rows that must be measured together, the longest shares first."""
    captions = [row for row in CAPTION_ROWS if row in rows]
    others = [[row] for row in reversed(GROUPS) if row in rows and row not in CAPTION_ROWS]
    return ([captions] if captions else []) + others


def measure(options: argparse.Namespace, rows: Sequence[str]) -> Report:
    model, report = load(options), Report()
    for name in rows:
        GROUPS[name](model, options.cases, report)
    return report


def measure_all(options: argparse.Namespace) -> Report:
    if options.jobs == 1:
        return measure(options, options.rows)
    parts = shares(options.rows)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        reports = list(pool.map(partial(measure, options), parts))
    order = sorted(range(len(parts)), key=lambda i: tuple(GROUPS).index(parts[i][0]))
    whole = Report()
    for i in order:
        whole.rows += reports[i].rows
        whole.cards += reports[i].cards
    return whole
