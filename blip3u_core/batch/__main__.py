"""Draw, edit, caption or encode many rows into shards, on one machine or by Ray on many.

    python -m blip3u_core.batch generate --in prompts.jsonl --out shards
    python -m blip3u_core.batch caption  --in photos/       --out captions --format parquet
    python -m blip3u_core.batch edit     --in edits-000.tar --out edited
    python -m blip3u_core.batch features --in photos.parquet --out features --ray --actors 8

Started again with the same settings, it goes on. docs/batch.md tells of formats and clusters.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from ..run_settings import (
    add_draw_options,
    add_model_options,
    digest_of,
    draw_options,
    keep_settings,
    model_options,
)
from .plan import rows_of, write_plan
from .rows import Columns, read_rows
from .run import finish, missing_shards, run_here
from .shards import SUFFIXES
from .tasks import TASKS, Job

QUESTION = "Describe this picture."
TEXT_COLUMN = {"edit": "instruction", "caption": "question"}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; an error ends it with a message and status 1."""
    options = _parser().parse_args(arguments)
    job = Job(
        options.task,
        model_options(options),
        digest_of(options.checkpoint),
        draw_options(options),
        options.seed,
        options.question if options.task == "caption" else "",
        options.max_new_tokens,
        options.edit_by,
        options.batch_size,
        options.format,
        options.threads,
    )
    out: Path = options.out
    kept = {**asdict(job), "shard_size": options.shard_size, "input": _listing(options.inputs)}
    del kept["model"]  # paths of this machine; the weights are told by their digest
    kept["dtype"] = options.dtype
    keep_settings(out / "settings.json", kept)
    text = options.text_column or TEXT_COLUMN.get(options.task, "prompt")
    columns = Columns(options.key_column, text, options.image_column)
    names = write_plan(out, read_rows(options.inputs, columns), options.shard_size)
    _make(out, job, options, names)
    broken = finish(out, job)
    tqdm.write(f"{len(names)} shards in {out}, {broken} broken rows in {out / 'errors.jsonl'}")


def _make(out: Path, job: Job, options: argparse.Namespace, names: Sequence[str]) -> None:
    if not options.ray:
        total = (len(names) - 1) * options.shard_size + len(rows_of(out, names[-1]))
        with tqdm(total=total, unit="row") as bar:
            run_here(out, job, bar.update)
    elif missing_shards(out, job):
        from .on_ray import run_on_ray

        run_on_ray(out, job, options.actors, options.address)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m blip3u_core.batch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--in", dest="inputs", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--format", choices=SUFFIXES, default="webdataset")
    parser.add_argument("--shard-size", type=int, default=1000, help="rows; the unit of a retry")
    parser.add_argument("--key-column", default=Columns.key)
    parser.add_argument("--text-column", help="default: prompt, instruction or question")
    parser.add_argument("--image-column", default=Columns.image)
    parser.add_argument("--question", default=QUESTION, help="of rows that ask none themselves")
    parser.add_argument("--max-new-tokens", type=int, default=Job.max_new_tokens)
    parser.add_argument("--edit-by", choices=("instruction", "flow"), default=Job.edit_by)
    parser.add_argument("--seed", type=int, default=0, help="mixed into the seed of every row")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--ray", action="store_true", help="by Ray Data: pip install '.[batch]'")
    parser.add_argument("--actors", type=int, default=max(torch.cuda.device_count(), 1))
    parser.add_argument("--address", help="of a running Ray cluster; 'auto' finds this machine's")
    add_model_options(parser)
    add_draw_options(parser)
    return parser


def _listing(paths: Sequence[Path]) -> str:
    """Names and sizes of the input: enough to see that it is another one."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
