"""Which rows become which shard: written down once, before anything is drawn."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from ..atomic_files import write_atomically
from .rows import Row

PLAN = ".plan"  # in the output folder
SEED_BYTES = 8


def shard_names(out: Path) -> list[str]:
    """The shards of a plan that is whole; none if there is no such plan."""
    whole = out / PLAN / "shards.json"
    return json.loads(whole.read_text("utf-8")) if whole.exists() else []


def rows_of(out: Path, shard: str) -> list[Row]:
    """The rows of one shard."""
    with (out / PLAN / f"{shard}.jsonl").open(encoding="utf-8") as file:
        return [Row(**json.loads(line)) for line in file]


def write_plan(out: Path, rows: Iterable[Row | ValueError], shard_size: int) -> list[str]:
    """Write down which rows become which shard, and which are broken already.

    Returns: the shards' names, in order.
    Raises: ValueError for a key that comes twice, or if there are no rows.
    """
    if known := shard_names(out):
        return known
    folder = out / PLAN
    if folder.exists():
        shutil.rmtree(folder)  # of a run that was killed while it planned
    folder.mkdir(parents=True)
    names: list[str] = []
    with (folder / "errors.jsonl").open("w", encoding="utf-8") as errors:
        for number, part in enumerate(_parts(_good(rows, errors.write), shard_size)):
            names.append(f"{number:06}")
            lines = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in part)
            (folder / f"{names[-1]}.jsonl").write_text(lines, encoding="utf-8")
    if not names:
        shutil.rmtree(folder)
        raise ValueError("the input holds no rows that can be worked on. Look at --in and --help.")
    write_atomically(folder / "shards.json", lambda file: file.write(json.dumps(names).encode()))
    return names


def _good(rows: Iterable[Row | ValueError], report: object) -> Iterator[Row]:
    seen: set[bytes] = set()
    for row in rows:
        if isinstance(row, ValueError):
            report(error_line(None, str(row)))  # type: ignore[operator]
            continue
        short = hashlib.sha256(row.key.encode()).digest()[:16]  # a million keys are 100 MB
        if short in seen:
            raise ValueError(
                f"the key {row.key!r} comes twice, expected each once: it names the result and "
                "makes its seed. Rename one of the rows."
            )
        seen.add(short)
        yield row


def _parts(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def error_line(key: str | None, reason: str) -> str:
    """A line of errors.jsonl: which row, and why it was passed over."""
    return json.dumps({"key": key, "error": reason}, ensure_ascii=False) + "\n"


def seed_of(key: str, base: int) -> int:
    """The seed of a row: of its key alone, so that a retry on another machine draws the same."""
    digest = hashlib.sha256(f"{base}\0{key}".encode()).digest()
    return int.from_bytes(digest[:SEED_BYTES], "big") >> 1  # fits Parquet's signed 64 bits
