"""Shards as WebDataset tars or Parquet files, the same bytes for the same records."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from ..atomic_files import write_atomically

SUFFIXES = {"webdataset": ".tar", "parquet": ".parquet"}
ROWS_AT_ONCE = 64  # a row group of Parquet: bounds the memory


@dataclass(frozen=True)
class Record:
    """One result: `content` is a picture, features or a text; `suffix` says which."""

    key: str
    suffix: str  # png, npy or txt
    content: bytes
    facts: Mapping[str, Any]  # prompt, seed, settings, checkpoint ...


def write_shard(path: Path, records: Iterable[Record]) -> None:
    """Write the records as they come; the file appears when it is whole."""
    write = _write_tar if path.suffix == ".tar" else _write_parquet
    write_atomically(path, lambda file: write(file, records))


def _write_tar(file: BinaryIO, records: Iterable[Record]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for record in records:
            # WebDataset takes the name up to its first dot for the key.
            name = quote(record.key, safe="").replace(".", "%2E")
            facts = {"key": record.key, **record.facts}
            text = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()
            for suffix, content in ((record.suffix, record.content), ("json", text)):
                member = tarfile.TarInfo(f"{name}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _write_parquet(file: BinaryIO, records: Iterable[Record]) -> None:
    import pyarrow as pa  # an extra: `pip install '.[batch]'`
    import pyarrow.parquet as pq

    writer = None
    for group in _groups(records):
        table = pa.Table.from_pylist([_columns(record) for record in group])
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is None:  # every row was broken
        writer = pq.ParquetWriter(file, pa.schema([("key", pa.string())]))
    writer.close()


def _columns(record: Record) -> dict[str, Any]:
    """Pictures as the datasets library knows them; settings as JSON."""
    plain = {
        name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
        for name, value in record.facts.items()
    }
    if record.suffix == "png":
        return {"key": record.key, **plain, "image": {"bytes": record.content, "path": None}}
    name = {"npy": "features", "txt": "text"}[record.suffix]
    content = record.content.decode() if record.suffix == "txt" else record.content
    return {"key": record.key, **plain, name: content}


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        group.append(record)
        if len(group) == ROWS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group
