"""One shard after the other: read, ask the model, write."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..atomic_files import remove_leftovers, write_atomically
from ..pipeline import Pipeline
from ..run_settings import open_pipeline
from .plan import PLAN, error_line, rows_of, seed_of, shard_names
from .rows import Row
from .shards import SUFFIXES, Record, write_shard
from .tasks import SUFFIX, TASKS, Job, Ready, make_ready, to_bytes, with_context

ERRORS = "errors.jsonl"
HANDS = 4  # threads that read and pack pictures while the model works
OnRows = Callable[[int], object]


class ShardWorker:
    """Holds the model, and makes shards of a plan."""

    def __init__(self, job: Job, out: Path) -> None:
        self.job = job
        self.out = out
        torch.set_num_threads(job.threads)
        self.pipeline: Pipeline = open_pipeline(job.model)
        self.llm = self.pipeline.llm if job.task == "caption" else None  # for the threads
        self.has_worked = False

    def make(self, shard: str, on_rows: OnRows | None = None) -> int:
        """Write one shard, unless it is there; its bytes depend on plan and job alone.

        Returns: how many rows it holds, broken ones too.
        """
        rows = rows_of(self.out, shard)
        path = shard_path(self.out, shard, self.job)
        if path.exists():
            if on_rows is not None:
                on_rows(len(rows))
            return len(rows)
        errors: list[str] = []
        write_shard(path, self._records(shard, rows, errors, on_rows))
        return len(rows)

    def _records(
        self, shard: str, rows: Sequence[Row], errors: list[str], on_rows: OnRows | None
    ) -> Iterator[Record]:
        """Results in the order of the rows. While the model works, the next batch is read and
        the one before is packed."""
        size = self.job.batch_size
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(HANDS) as hands:
            read = [[hands.submit(self._read, row) for row in part] for part in parts[:1]]
            packed: list[Future[Record]] = []
            for index, part in enumerate(parts):
                good = self._good(read.pop(), errors)
                read = [
                    [hands.submit(self._read, row) for row in after]
                    for after in parts[index + 1 : index + 2]
                ]
                made = self._work(good, errors)
                for record in packed:
                    yield record.result()
                packed = [hands.submit(self._record, row, result) for row, result in made]
                if on_rows is not None:
                    on_rows(len(part))
            for record in packed:
                yield record.result()
        # Before the shard itself: where a shard is, its errors are.
        text = "".join(errors)
        write_atomically(
            self.out / PLAN / f"{shard}.{ERRORS}", lambda file: file.write(text.encode())
        )

    def _read(self, row: Row) -> Ready | tuple[str, ValueError]:
        try:
            ready = make_ready(self.job, row, seed_of(row.key, self.job.seed))
        except ValueError as error:
            return row.key, error
        return ready if self.llm is None else with_context(self.llm, ready)

    def _good(
        self, rows: Sequence[Future[Ready | tuple[str, ValueError]]], errors: list[str]
    ) -> list[Ready]:
        good = []
        for row in (future.result() for future in rows):
            if isinstance(row, Ready):
                good.append(row)
            else:
                errors.append(error_line(row[0], str(row[1])))
        return good

    def _work(self, rows: list[Ready], errors: list[str]) -> list[tuple[Ready, Any]]:
        """Results of a batch; if the model refuses it, of each row that it takes alone.

        Raises: ValueError if it never took a row yet: then the fault is in the settings.
        """
        if not rows:
            return []
        try:
            made = TASKS[self.job.task](self.pipeline, self.job, rows)
        except ValueError as error:
            if len(rows) > 1:
                return [pair for row in rows for pair in self._work([row], errors)]
            if not self.has_worked:
                raise
            errors.append(error_line(rows[0].row.key, str(error)))
            return []
        self.has_worked = True
        return list(zip(rows, made, strict=True))

    def _record(self, ready: Ready, result: Any) -> Record:
        job = self.job
        facts: dict[str, Any] = {"checkpoint": job.checkpoint, "dtype": job.model["dtype"]}
        if ready.text:
            facts["prompt"] = ready.text
        if SUFFIX[job.task] == "png":
            facts |= {"seed": ready.seed, "settings": dict(job.draw)}
        return Record(ready.row.key, SUFFIX[job.task], to_bytes(result), facts)


def shard_path(out: Path, shard: str, job: Job) -> Path:
    """Where a shard lies once it is whole."""
    return out / f"{shard}{SUFFIXES[job.format]}"


def missing_shards(out: Path, job: Job) -> list[str]:
    """The names of the shards that are still to be made."""
    return [name for name in shard_names(out) if not shard_path(out, name, job).exists()]


def run_here(out: Path, job: Job, on_rows: OnRows | None = None) -> None:
    """Make all shards that are missing, in this process."""
    if missing_shards(out, job):
        worker = ShardWorker(job, out)
        for shard in shard_names(out):
            worker.make(shard, on_rows)


def finish(out: Path, job: Job) -> int:
    """Gather what was wrong with rows in errors.jsonl, and clear away what killed writers left.

    Returns: how many rows were broken.
    """
    names = shard_names(out)
    assert not missing_shards(out, job)
    parts = [out / PLAN / ERRORS, *(out / PLAN / f"{name}.{ERRORS}" for name in names)]
    text = "".join(part.read_text("utf-8") for part in parts)
    write_atomically(out / ERRORS, lambda file: file.write(text.encode()))
    for folder in (out, out / PLAN):
        remove_leftovers(folder)
    return text.count("\n")
