"""What only some layouts have: an index with shards; one file a stage with its metadata."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .folders import read_safetensors, write_bytes, write_header, write_json

Changes = Iterator[tuple[str, Callable[[Path], object]]]
INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00002.safetensors"


def sharded_breaks() -> Changes:
    names: list[Any] = [
        "../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "",
        "a\\b.safetensors",
        "\ud800.safetensors", "a\0b.safetensors", "x" * 300 + ".safetensors", "gone.safetensors",
        "config.json", 5, None, [], {}, "CON", "model-00001-of-00002.bin",
    ]  # fmt: skip
    for name in names:
        yield f"{INDEX}:name={ascii(name)[:40]}", partial(_rename, name)
    for value in (None, [], "x", {}, 5, [["a", "b"]]):
        yield f"{INDEX}:weight_map={value!a}", partial(_weight_map, value)
    for name, content in (("empty", b""), ("half", b'{"weight_map": {'), ("deep", b"[" * 100_000)):
        yield f"{INDEX}~{name}", partial(_write, INDEX, content)
    yield f"{SHARD}~missing", lambda folder: (folder / SHARD).unlink()
    yield f"{SHARD}~twice", _twice
    yield f"{SHARD}~pipe", partial(_replace, SHARD, os.mkfifo)
    yield f"{SHARD}~folder", partial(_replace, SHARD, Path.mkdir)
    yield f"{SHARD}~dangling", partial(_replace, SHARD, lambda path: path.symlink_to("nowhere"))


def _rename(name: Any, folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {k: name if v == SHARD else v for k, v in index["weight_map"].items()}
    write_json(folder / INDEX, index)


def _weight_map(value: Any, folder: Path) -> None:
    write_json(folder / INDEX, {"weight_map": value})


def _write(file: str, content: bytes, folder: Path) -> None:
    write_bytes(folder / file, content)


def _replace(file: str, make: Callable[[Path], object], folder: Path) -> None:
    (folder / file).unlink()
    make(folder / file)


def _twice(folder: Path) -> None:
    (folder / SHARD).unlink()
    os.link(folder / "model-00001-of-00002.safetensors", folder / SHARD)


METADATA = {
    "llm": ("config", "generation_config", "assets"),
    "dit": ("config",),
    "unet": ("config", "scheduler_config"),
    "vae": ("config",),
    "vision_tower": ("config",),
}
TEXTS = {
    "number": "5",
    "null": "null",
    "list": "[]",
    "half": '{"a": ',
    "deep": "[" * 100_000,
    "deep-object": '{"a":' * 50_000,
    "empty": "",
    "odd-values": '{"vocab.json": {}, "tokenizer.json": 5}',
}


def converted_breaks() -> Changes:
    for stage, keys in METADATA.items():
        file = f"{stage}.safetensors"
        for key in keys:
            for name, text in TEXTS.items():
                if key != "config" or name != "odd-values":
                    yield f"{file}@{key}={name}", partial(_set_metadata, file, key, text)
            if (stage, key) != ("dit", "config"):  # the whole checkpoint's is the first stage's
                yield f"{file}@{key}=gone", partial(_set_metadata, file, key, None)
        yield f"{file}@metadata=null", partial(_no_metadata, file)
        if stage != "vision_tower":
            yield f"{file}~missing", lambda folder, file=file: (folder / file).unlink()


def _set_metadata(file: str, key: str, text: str | None, folder: Path) -> None:
    header, data = read_safetensors(folder / file)
    if text is None:
        header["__metadata__"].pop(key)
    else:
        header["__metadata__"][key] = text
    write_header(folder / file, header, data)


def _no_metadata(file: str, folder: Path) -> None:
    header, data = read_safetensors(folder / file)
    write_header(folder / file, {**header, "__metadata__": None}, data)
