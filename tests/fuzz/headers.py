"""Safetensors files broken in their headers, and weights that are none."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .folders import change_weights, read_safetensors, write_bytes, write_header

Header = dict[str, Any]
Changes = Iterator[tuple[str, Callable[[Path], object]]]
SAME_WIDTH = {"F16": "I16", "BF16": "I16", "F32": "I32"}  # as many bytes, no longer fractions


def header_breaks(files: Iterable[str]) -> Changes:
    for file in files:
        for name, change in ENTRIES.items():
            yield f"{file}#{name}", partial(_change_header, file, change)
        for name, raw in RAW.items():
            yield f"{file}#{name}", partial(_raw_header, file, raw)
        for name, length in LENGTHS.items():
            yield f"{file}#{name}", partial(_header_length, file, length)


def weight_breaks(files: Iterable[str]) -> Changes:
    for file in files:
        for name, value in (("nan", float("nan")), ("inf", float("inf"))):
            yield f"{file}%all-{name}", partial(_fill, file, value)
        yield f"{file}%one-less", partial(_change, file, lambda weights: weights.popitem())
        yield f"{file}%one-more", partial(_change, file, _one_more)
        yield f"{file}%transposed", partial(_change, file, _transposed)
        yield f"{file}%none", partial(_change, file, lambda weights: weights.clear())
    model = "model.safetensors"
    named = {
        "latent-queries-1d": ("model.latent_queries", (192,)),
        "latent-queries-other": ("model.latent_queries", (1, 16, 192)),
        "embed-1d": ("model.embed_tokens.weight", (192,)),
        "dit-patch-scalar": ("model.dit.model.patch_embedder.proj.weight", ()),
        "dit-patch-empty": ("model.dit.model.patch_embedder.proj.weight", (0, 1)),
        "dit-gate-2d": ("model.dit.model.layers.0.gate", (1, 1)),
        "tower-positions-1d": ("pos_embed", (192,)),
        "tower-positions-empty": ("pos_embed", (0, 0, 0)),
        "tower-positions-odd": ("pos_embed", (1, 30, 96)),
        "tower-patch-1d": ("patch_embed.proj.weight", (3,)),
        "norm-empty": ("model.norm.weight", (0,)),
    }
    for name, (key, shape) in named.items():
        yield f"{model}%{name}", partial(_change, model, partial(_reshape, key, shape))
    for start in ("model.layers", "visual.blocks", "model.dit.model.layers", "blocks"):
        yield f"{model}%{start}.9999", partial(_change, model, partial(_far_layer, start))


def _first(header: Header) -> Header:
    return next(header[key] for key in header if key != "__metadata__")


def _integers(header: Header) -> None:
    for key, entry in header.items():
        if key != "__metadata__":
            entry["dtype"] = SAME_WIDTH.get(entry["dtype"], entry["dtype"])


ENTRIES: dict[str, Callable[[Header], object]] = {
    "dtype-integers": _integers,
    "dtype-integer": lambda h: _first(h).update(dtype=SAME_WIDTH[_first(h)["dtype"]]),
    "dtype-unknown": lambda h: _first(h).update(dtype="F99"),
    "dtype-wider": lambda h: _first(h).update(dtype="F64"),
    "dtype-object": lambda h: _first(h).update(dtype={}),
    "dtype-gone": lambda h: _first(h).pop("dtype"),
    "shape-negative": lambda h: _first(h).update(shape=[-1]),
    "shape-float": lambda h: _first(h).update(shape=[1.5]),
    "shape-text": lambda h: _first(h).update(shape="x"),
    "shape-huge": lambda h: _first(h).update(shape=[2**40, 2**40]),
    "shape-flat": lambda h: _first(h).update(shape=[torch.Size(_first(h)["shape"]).numel(), 1, 1]),
    "offsets-infinite": lambda h: _first(h).update(data_offsets=[0, float("inf")]),
    "offsets-negative": lambda h: _first(h).update(data_offsets=[-4, 4]),
    "offsets-beyond": lambda h: _first(h).update(data_offsets=[0, 10**15]),
    "offsets-one": lambda h: _first(h).update(data_offsets=[0]),
    "entry-list": lambda h: h.update(odd=[]),
    "entry-null": lambda h: h.update(odd=None),
    "entry-surrogate": lambda h: h.update({"\ud800": _first(h)}),
    "metadata-number": lambda h: h.update(__metadata__={"a": 5}),
    "metadata-text": lambda h: h.update(__metadata__="x"),
}
RAW = {
    "header-list": b"[1, 2, 3]",
    "header-null": b"null",
    "header-empty": b"{}",
    "header-not-utf8": b"\xff\xfe{}",
    "header-deep": b"[" * 100_000,
    "header-digits": b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b"]}}",
}
LENGTHS = {"length-0": 0, "length-short": 100, "length-beyond": 10**9, "length-huge": 2**64 - 1}


def _change_header(file: str, change: Callable[[Header], object], folder: Path) -> None:
    header, data = read_safetensors(folder / file)
    change(header)
    write_header(folder / file, header, data)


def _raw_header(file: str, raw: bytes, folder: Path) -> None:
    write_header(folder / file, raw, read_safetensors(folder / file)[1])


def _header_length(file: str, length: int, folder: Path) -> None:
    content = (folder / file).read_bytes()
    write_bytes(folder / file, length.to_bytes(8, "little") + content[8:])


Weights = dict[str, torch.Tensor]


def _change(file: str, change: Callable[[Weights], object], folder: Path) -> None:
    change_weights(folder / file, change)


def _fill(file: str, value: float, folder: Path) -> None:
    change_weights(folder / file, lambda weights: [w.fill_(value) for w in weights.values()])


def _one_more(weights: Weights) -> None:
    weights["model.dit.model.odd.weight"] = torch.ones(2, 2)


def _transposed(weights: Weights) -> None:
    name = next(n for n, w in weights.items() if w.ndim > 1 and w.shape[0] != w.shape[1])
    weights[name] = weights[name].transpose(0, 1).contiguous()


def _reshape(ending: str, shape: tuple[int, ...], weights: Weights) -> None:
    name = next(name for name in weights if name.endswith(ending))
    weights[name] = torch.ones(shape, dtype=weights[name].dtype)


def _far_layer(start: str, weights: Weights) -> None:
    name = next(name for name in weights if f"{start}.0." in name)
    weights[name.replace(f"{start}.0.", f"{start}.9999.")] = weights[name].clone()
