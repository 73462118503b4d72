"""Prompt files of five benchmarks, and how their scorers want the pictures to lie.

The prompt files stay the user's. Where a name or a seed seems odd, the scorer reads or sets it so;
docs/benchmarks.md names the file of each.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ..atomic_files import write_atomically
from ..weights.json_files import read_json

SAMPLES = 4  # pictures a prompt, of GenEval and DPG-Bench
Save = Callable[[Sequence[Image.Image]], None]


@dataclass(frozen=True)
class Item:
    """One prompt, and what becomes of its pictures."""

    prompt: str
    last: Path  # the file that `save` writes last: where it lies, the item is whole
    save: Save
    count: int = 1
    source: Callable[[], Image.Image] | None = None  # the picture to edit


def geneval_items(prompts: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Iterator[Item]:
    """Of `evaluation_metadata.jsonl`: a folder a line, numbered, with the line in it."""
    for index, (where, row) in enumerate(_json_lines(prompts)):
        folder = out / f"{index:05}"
        line = json.dumps(row)
        save = partial(_save_samples, folder, line)
        yield Item(_text(row, "prompt", where), folder / "grid.png", save, SAMPLES)


def _save_samples(folder: Path, line: str, pictures: Sequence[Image.Image]) -> None:
    write_atomically(folder / "metadata.jsonl", lambda file: file.write(line.encode()))
    for index, picture in enumerate(pictures):
        save_png(folder / "samples" / f"{index:04}.png", picture)
    save_png(folder / "grid.png", two_by_two(pictures))


def dpg_items(prompts: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Iterator[Item]:
    """Of the folder `prompts/*.txt`, or of `dpg_bench.csv`: one picture of two by two, named as
    the prompt's file or item."""
    for path in prompts:
        rows = _dpg_table(path) if path.suffix == ".csv" else _dpg_files(path)
        for where, name, text in rows:
            target = out / f"{file_name({'item_id': name}, 'item_id', where)}.png"
            prompt = _text({"text": text}, "text", where)
            yield Item(prompt, target, partial(_save_dpg, target), SAMPLES)


def _dpg_files(path: Path) -> Iterator[tuple[str, str, str]]:
    for file in sorted(path.glob("*.txt")) if path.is_dir() else [path]:
        yield str(file), file.stem, file.read_text("utf-8")


def _dpg_table(path: Path) -> Iterator[tuple[str, str, str]]:
    """A row is a question; those of one prompt follow each other."""
    previous = None
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            name, text = row.get("item_id"), row.get("text")
            if name is None or text is None:
                raise ValueError(
                    f"{path}, row {number}, has no item_id or no text, expected both. Give "
                    "DPG-Bench's own dpg_bench.csv."
                )
            if name != previous:
                yield f"{path}, row {number},", name, text
            previous = name


def _save_dpg(target: Path, pictures: Sequence[Image.Image]) -> None:
    save_png(target, two_by_two(pictures))


def wise_items(prompts: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Iterator[Item]:
    """Of its JSON lists: `<prompt_id>.png`."""
    for path in prompts:
        for index, row in enumerate(_json_list(path)):
            where = f"{path}, entry {index},"
            target = out / f"{file_name(row, 'prompt_id', where)}.png"
            yield Item(_text(row, "Prompt", where), target, partial(_save_one, target))


def imgedit_items(prompts: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Iterator[Item]:
    """Of `basic_edit.json` or `UGE_edit.json`: `<key>.png`, of the pictures below `--images`."""
    root = options["images"]
    if root is None:
        raise ValueError(
            "the folder of the pictures to edit is missing, expected --images FOLDER: where the "
            "benchmark's pictures were unpacked."
        )
    for path in prompts:
        for key, row in read_json(path).items():
            where = f"{path}, {key},"
            target = out / f"{file_name({'key': key}, 'key', where)}.png"
            source = partial(open_picture, root / _text(row, "id", where))
            prompt = _text(row, "prompt", where)
            yield Item(prompt, target, partial(_save_one, target), source=source)


def gedit_items(prompts: Sequence[Path], out: Path, options: Mapping[str, Any]) -> Iterator[Item]:
    """Of its Parquet files, or JSON lines whose `input_image` is a path:
    `<model>/fullset/<task>/<en|cn>/<key>.png`, and the source beside it, which its scorer reads.
    """
    for where, row in _gedit_rows(prompts):
        parts = [file_name(row, part, where) for part in ("task_type", "instruction_language")]
        folder = out.joinpath(options["model_name"], "fullset", *parts)
        key = file_name(row, "key", where)
        source = partial(open_picture, row["input_image"])
        save = partial(_save_gedit, folder, key, source)
        yield Item(_text(row, "instruction", where), folder / f"{key}.png", save, source=source)


def _save_gedit(
    folder: Path, key: str, source: Callable[[], Image.Image], pictures: Sequence[Image.Image]
) -> None:
    save_png(folder / f"{key}_SRCIMG.png", source())
    save_png(folder / f"{key}.png", pictures[0])


def _gedit_rows(prompts: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Its rows, each with an `input_image` that `open_picture` takes."""
    for path in prompts:
        for file in sorted(path.rglob("*.parquet")) if path.is_dir() else [path]:
            rows = _parquet_rows(file) if file.suffix == ".parquet" else _json_lines([file])
            for where, row in rows:
                yield where, {**row, "input_image": _gedit_picture(row, file.parent, where)}


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet as pq  # an extra: `pip install '.[batch]'`

    table, start = pq.ParquetFile(file), 0
    wanted = ["task_type", "key", "instruction", "instruction_language", "input_image"]
    columns = [name for name in wanted if name in table.schema_arrow.names]
    for batch in table.iter_batches(16, columns=columns):
        for index, row in enumerate(batch.to_pylist(), start):
            yield f"{file}, row {index},", row
        start += len(batch)


def _gedit_picture(row: Mapping[str, Any], folder: Path, where: str) -> Path | bytes:
    """Of bytes, a path, or both in the datasets library's form."""
    given = row.get("input_image")
    if isinstance(given, dict):
        given = given.get("bytes") or given.get("path")
    if isinstance(given, bytes):
        return given
    return folder / _text({"input_image": given}, "input_image", where)


BENCHMARKS: dict[str, Callable[[Sequence[Path], Path, Mapping[str, Any]], Iterator[Item]]] = {
    "geneval": geneval_items,
    "dpg": dpg_items,
    "wise": wise_items,
    "imgedit": imgedit_items,
    "gedit": gedit_items,
}


def unique_items(items: Iterable[Item]) -> Iterator[Item]:
    """The same items. Raises ValueError if two would write the same file."""
    seen: set[Path] = set()
    for item in items:
        if item.last in seen:
            raise ValueError(
                f"two prompts would become {item.last}, expected each key once. Take one of them "
                "out of the prompt file."
            )
        seen.add(item.last)
        yield item


# -------------------------------------------------------------------------- pictures, rows


def two_by_two(pictures: Sequence[Image.Image]) -> Image.Image:
    """Four pictures of one size: the first two above the others."""
    width, height = pictures[0].size
    grid = Image.new("RGB", (2 * width, 2 * height))
    for index, picture in enumerate(pictures):
        grid.paste(picture, (index % 2 * width, index // 2 * height))
    return grid


def save_png(target: Path, picture: Image.Image) -> None:
    """Write a picture as PNG; the file appears whole."""
    write_atomically(target, lambda file: picture.save(file, "PNG"))


def _save_one(target: Path, pictures: Sequence[Image.Image]) -> None:
    save_png(target, pictures[0])


def open_picture(source: Path | bytes) -> Image.Image:
    """A picture in RGB. Raises ValueError or FileNotFoundError, naming it."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            return opened.convert("RGB")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{source} is missing, expected the picture to edit. Give the folder of the "
            "benchmark's pictures."
        ) from error
    except (UnidentifiedImageError, OSError) as error:
        name = "a picture of the prompt file" if isinstance(source, bytes) else source
        raise ValueError(
            f"{name} cannot be read ({error}), expected a picture. Download it again."
        ) from error


def _json_lines(paths: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number},", _object(line, f"{path}, line {number},")


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where} is no JSON ({error}). Download the prompt file again."
        ) from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {text[:40]!r}, expected a JSON object.")
    return row


def _json_list(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text("utf-8"))
    if not isinstance(rows, list):
        raise ValueError(f"{path} holds no list, expected one of prompts. Give WISE's own files.")
    return rows


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where} says {key} {value!r}, expected text. Give the benchmark's own prompt file."
        )
    return value.strip()


def file_name(row: Mapping[str, Any], key: str, where: str) -> str:
    """A value that may be part of a path. Raises ValueError for one that leads elsewhere."""
    name = str(row.get(key, ""))
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise ValueError(f"{where} says {key} {name!r}, expected a plain file name.")
    return name
