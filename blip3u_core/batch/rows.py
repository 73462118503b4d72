"""Rows of JSON lines, Parquet, WebDataset tars and folders of pictures, one after the other.

A row tells where its picture lies and does not hold it, so that a million of them are a plan.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..chat.picture_folder import DAMAGE, FORMATS

TABLES = (".jsonl", ".parquet", ".tar")


@dataclass(frozen=True)
class Columns:
    """What the columns of JSON lines and Parquet are called."""

    key: str = "key"
    text: str = "prompt"
    image: str = "image"


@dataclass(frozen=True)
class Row:
    """A key, the text that came with it, and the place of its picture; plain values for JSON."""

    key: str
    text: str | None = None
    picture: Mapping[str, Any] | None = None


def read_rows(paths: Iterable[Path], columns: Columns) -> Iterator[Row | ValueError]:
    """All rows of files and folders, in order; for one that is broken, what is wrong with it.

    Raises: FileNotFoundError if a path is missing; ValueError for a kind that is not known.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, expected the rows to work on.")
        if path.is_dir():
            yield from _folder(path, columns)
        else:
            yield from _reader(path)(path, columns)


def _reader(path: Path) -> Callable[[Path, Columns], Iterator[Row | ValueError]]:
    readers = {".jsonl": _json_lines, ".parquet": _parquet, ".tar": _tar}
    if path.suffix not in readers:
        raise ValueError(
            f"{path} ends with {path.suffix!r}, expected {', '.join(TABLES)} or a folder of "
            "pictures. Convert it, or name its folder."
        )
    return readers[path.suffix]


def _folder(folder: Path, columns: Columns) -> Iterator[Row | ValueError]:
    """Its tables, or else its pictures, each with the text file beside it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    tables = [file for file in files if file.suffix in TABLES]
    for file in tables:
        yield from _reader(file)(file, columns)
    for file in [] if tables else files:
        if file.suffix.lower() in FORMATS:
            beside = file.with_suffix(".txt")
            text = beside.read_text("utf-8").strip() if beside.is_file() else None
            key = file.relative_to(folder).as_posix()
            yield Row(key, text, {"file": str(file.resolve())})


def _json_lines(path: Path, columns: Columns) -> Iterator[Row | ValueError]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number},"
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                yield ValueError(f"{where} is no JSON ({error})")
                continue
            yield _row(values, path, columns, where, None)


def _parquet(path: Path, columns: Columns) -> Iterator[Row | ValueError]:
    table = _parquet_file(str(path))
    known = set(table.schema_arrow.names)
    light = [name for name in (columns.key, columns.text) if name in known]
    images = columns.image in known
    for group in range(table.num_row_groups):
        for index, values in enumerate(table.read_row_group(group, light).to_pylist()):
            at = {"parquet": str(path.resolve()), "group": group, "row": index}
            picture = {**at, "column": columns.image} if images else None
            where = f"{path.name}, group {group}, row {index},"
            yield _row(values, path, columns, where, picture)


def _row(
    values: Any, path: Path, columns: Columns, where: str, picture: Mapping[str, Any] | None
) -> Row | ValueError:
    if not isinstance(values, dict) or values.get(columns.key) in (None, ""):
        return ValueError(f"{where} has no {columns.key!r}")
    text, image = values.get(columns.text), values.get(columns.image)
    if picture is None and isinstance(image, str):
        picture = {"file": str((path.parent / image).resolve())}
    return Row(str(values[columns.key]), text if isinstance(text, str) else None, picture)


def _tar(path: Path, columns: Columns) -> Iterator[Row | ValueError]:
    """Members that share a name up to its first dot are one row, and lie one behind the other."""
    key: str | None = None
    text: str | None = None
    picture: dict[str, Any] | None = None
    with tarfile.open(path) as tar:
        for member in tar:
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            this = f"{folder}/{stem}" if folder else stem
            if this != key:
                if key is not None:
                    yield Row(key, text, picture)
                key, text, picture = this, None, None
            if f".{suffix.lower()}" in FORMATS:
                start = member.offset_data
                picture = {"tar": str(path.resolve()), "offset": start, "size": member.size}
            elif suffix in ("txt", "json"):
                found = _text_of(tar, member, columns)
                text = text if found is None else found
    if key is not None:
        yield Row(key, text, picture)


def _text_of(tar: tarfile.TarFile, member: tarfile.TarInfo, columns: Columns) -> str | None:
    opened = tar.extractfile(member)
    text = opened.read().decode("utf-8", "replace").strip() if opened else ""
    if member.name.endswith(".txt"):
        return text
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        return None  # then the row has no text, and is reported as that
    found = values.get(columns.text) if isinstance(values, dict) else None
    return found if isinstance(found, str) else None


# -------------------------------------------------------------------------- pictures


def open_row_picture(at: Mapping[str, Any]) -> Image.Image:
    """The picture that lies there, in RGB. Raises ValueError if it cannot be read."""
    try:
        if "file" in at:
            with Image.open(at["file"]) as opened:
                return opened.convert("RGB")
        with Image.open(io.BytesIO(_bytes_at(at))) as opened:
            return opened.convert("RGB")
    except DAMAGE as error:
        raise ValueError(f"its picture cannot be read ({type(error).__name__}: {error})") from error


def _bytes_at(at: Mapping[str, Any]) -> bytes:
    if "tar" in at:
        with open(at["tar"], "rb") as file:
            file.seek(at["offset"])
            return file.read(at["size"])
    value = _column(at["parquet"], at["group"], at["column"])[at["row"]]
    if isinstance(value, dict):  # as the datasets library keeps pictures
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return (Path(at["parquet"]).parent / value).read_bytes()
    if not isinstance(value, bytes):
        raise ValueError(f"{at['column']} holds {type(value).__name__}, expected bytes or a path")
    return value


@lru_cache(maxsize=2)
def _column(path: str, group: int, column: str) -> list[Any]:
    return _parquet_file(path).read_row_group(group, [column]).column(column).to_pylist()


def _parquet_file(path: str) -> Any:
    import pyarrow.parquet as pq  # an extra, for those who have such files

    return pq.ParquetFile(path)
