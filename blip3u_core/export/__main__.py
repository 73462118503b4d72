"""Draw a benchmark's prompts into the folder that its official scorer reads.

    python -m blip3u_core.export geneval --prompts evaluation_metadata.jsonl --out runs/geneval
    python -m blip3u_core.export dpg     --prompts dpg_bench/dpg_bench.csv   --out runs/dpg
    python -m blip3u_core.export wise    --prompts data/*.json               --out runs/wise
    python -m blip3u_core.export imgedit --prompts basic_edit.json --images Benchmark --out runs/ie
    python -m blip3u_core.export gedit   --prompts GEdit-Bench/data          --out results

A run that was stopped goes on where it was; its settings lie beside the folder.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..atomic_files import PART_NAMES, remove_leftovers
from ..run_settings import (
    add_draw_options,
    add_model_options,
    digest_of,
    draw_options,
    keep_settings,
    model_options,
    open_pipeline,
)
from .draw import export
from .items import BENCHMARKS, unique_items

SEED = 42  # as GenEval sets it before every prompt; the other scorers leave it open


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; an error ends it with a message and status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m blip3u_core.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--prompts", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="imgedit: where its pictures lie")
    parser.add_argument("--model-name", default="BLIP3-U", help="gedit: the folder of the model")
    parser.add_argument("--edit-by", choices=("instruction", "flow"), default="instruction")
    parser.add_argument("--seed", type=int, default=SEED)
    add_model_options(parser)
    add_draw_options(parser)
    options = parser.parse_args(arguments)
    for path in options.prompts:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, expected the benchmark's own prompts.")

    read = BENCHMARKS[options.benchmark]
    items = list(unique_items(read(options.prompts, options.out, vars(options))))
    if not items:
        raise ValueError(
            f"{', '.join(map(str, options.prompts))} hold no prompts, expected the files of "
            f"{options.benchmark}. Name the files themselves, or the folder they lie in."
        )
    settings = draw_options(options)
    keep_settings(
        options.out.with_name(f"{options.out.name}.{options.benchmark}.json"),
        {
            "benchmark": options.benchmark,
            "prompts": digest_of(*options.prompts),
            "checkpoint": digest_of(options.checkpoint),
            "seed": options.seed,
            "edit_by": options.edit_by,
            "dtype": options.dtype,
            "batch_size": options.batch_size,
            "settings": settings,
        },
    )
    pipeline = open_pipeline(model_options(options))
    with tqdm(total=len(items), unit="prompt") as bar:
        export(
            pipeline,
            items,
            options.seed,
            settings,
            options.edit_by,
            options.batch_size,
            bar.update,
        )
    for part in [*options.out.parent.glob(PART_NAMES), *options.out.rglob(PART_NAMES)]:
        remove_leftovers(part.parent)  # of runs that were killed; a scorer would list them


if __name__ == "__main__":
    main(sys.argv[1:])
