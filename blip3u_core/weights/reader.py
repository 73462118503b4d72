"""Weights on disk: one safetensors file, shards with an index, or a variant; read by memory map."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself
MAX_JSON_BYTES = 64_000_000
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
VARIANT_ORDER = ("", "bf16", "fp16", "fp32", "non_ema")  # the published decoder is "bf16"


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies, known from the file's header alone."""

    file: Path
    key: str  # its name in the file
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises: FileNotFoundError if it is not there, ValueError if it is not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.name} is missing from {path.parent}. Copy the whole published folder there."
        )
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, expected a JSON file below "
            f"{MAX_JSON_BYTES} bytes. Download it again."
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}). Download it again.") from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} holds a JSON {type(value).__name__}, expected an object. Download it again."
        )
    return value


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Read names, shapes and dtypes of a safetensors file, and its metadata; no weights.

    Raises: FileNotFoundError if the file is missing, ValueError if it is a pickle, garbage or
        shorter than its header says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing from {path.parent}. Download it again.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(PICKLE_STARTS):
            raise ValueError(
                f"{path} is a pickle file, whatever its name says; expected safetensors. Pickles "
                "can run code and are never opened: get the safetensors version."
            )
        header_bytes = int.from_bytes(start, "little")
        if len(start) < 8 or header_bytes > min(size - 8, MAX_HEADER_BYTES):
            raise ValueError(_broken(path, f"its header does not fit into its {size} bytes"))
        header = file.read(header_bytes)
    try:
        entries = json.loads(header)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(_broken(path, f"its header is not JSON ({error})")) from error
    if not isinstance(entries, dict):
        raise ValueError(_broken(path, "its header is not a JSON object"))
    metadata = entries.pop("__metadata__", {})
    data_bytes = size - 8 - header_bytes
    return {key: _tensor_info(path, key, entries[key], data_bytes) for key in entries}, metadata


def _broken(path: Path, why: str) -> str:
    return (
        f"{path} is not a whole safetensors file: {why}. The download was probably interrupted; "
        "download it again."
    )


def _tensor_info(path: Path, key: str, entry: Any, data_bytes: int) -> TensorInfo:
    try:
        name = entry["dtype"]
        begin, end = (int(offset) for offset in entry["data_offsets"])
        shape = tuple(int(size) for size in entry["shape"])
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(_broken(path, f"the entry of {key!r} is malformed")) from error
    if name not in DTYPES:
        raise ValueError(
            f"{path}: {key!r} is stored as {name}, expected one of {', '.join(DTYPES)}. "
            "Use a bf16, fp16, fp32 or fp8 version of the weights."
        )
    info = TensorInfo(path, key, shape, DTYPES[name])
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= data_bytes:
        raise ValueError(
            _broken(path, f"{key!r} ends at byte {end} of {data_bytes} bytes of weights")
        )
    if info.num_bytes != end - begin:
        raise ValueError(_broken(path, f"{key!r} has {end - begin} bytes for shape {shape}"))
    return info


def scan_weights(folder: Path, base: str) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Find `base`'s weights in `folder` and read their headers.

    Args:
        base: "model" finds `model.safetensors`, `model.safetensors.index.json` with its shards,
            and the variants `model.bf16.safetensors`, `model.safetensors.index.bf16.json`.

    Returns: tensors by name, and the metadata of the file (of the first shard).
    Raises: FileNotFoundError if there are no such weights or a shard is missing, ValueError for
        a broken file, a pickle, or an index that leaves its folder.
    """
    files = _weight_files(folder, base)
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, file_metadata = read_header(file)
        tensors.update(found)
        metadata = metadata or file_metadata
    return tensors, metadata


def has_weights(folder: Path, base: str) -> bool:
    """Whether `folder` seems to hold safetensors weights called `base` (names only are read)."""
    return bool(_candidates(folder, base))


def _candidates(folder: Path, base: str) -> dict[str, Path]:
    """Weights of `base` by variant; one whole file goes before an index of the same variant."""
    pattern = re.compile(
        rf"{re.escape(base)}(?:\.(?P<variant>\w+))?\.safetensors"
        r"(?P<index>\.index(?:\.(?P<index_variant>\w+))?\.json)?"
    )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            found.setdefault(match["variant"] or match["index_variant"] or "", path)
    return found


def _weight_files(folder: Path, base: str) -> list[Path]:
    candidates = _candidates(folder, base)
    if not candidates:
        raise FileNotFoundError(_nothing_found(folder, base))
    known = [name for name in VARIANT_ORDER if name in candidates]
    chosen = candidates[(known or sorted(candidates))[0]]
    return [chosen] if chosen.suffix == ".safetensors" else _shards(chosen)


def _nothing_found(folder: Path, base: str) -> str:
    if not folder.is_dir():
        return f"The folder {folder} is missing. Copy the whole published checkpoint there."
    pickles = [p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLE_SUFFIXES]
    if pickles:
        return (
            f"{folder} holds {', '.join(pickles[:3])} but no {base}.safetensors. Pickle files "
            "can run code and are never opened: get the safetensors version."
        )
    return (
        f"No weights in {folder}: expected {base}.safetensors, {base}.<variant>.safetensors, or "
        f"{base}.safetensors.index.json with its shards. Download them again."
    )


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map from names to files. Download it again.")
    names = sorted({str(name) for name in weight_map.values()})
    shards = [_inside(index, name) for name in names]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(shards)} weight files named by {index} are missing: "
            f"{', '.join(missing[:3])}. Download them into {index.parent}."
        )
    return shards


def _inside(index: Path, name: str) -> Path:
    """The shard `name` of `index`, refused where it would lead out of the index' folder."""
    home = index.parent.resolve()
    shard = index.parent / name
    target = shard.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":  # the hub's cache links snapshots/<revision>/* to blobs/*
        allowed.append(home.parent.parent / "blobs")
    if Path(name).name != name or "\\" in name or target.parent not in allowed:
        raise ValueError(
            f"{index} names the weight file {name!r}, which lies outside its folder "
            f"({target}); expected plain file names. Do not use this checkpoint unless you know "
            "where it comes from, or put the file itself into the folder."
        )
    return shard


def read_tensors(tensors: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """Map the tensors into memory, by name: pages are read when they are used, and shared.

    Raises: ValueError if the library refuses a file.
    """
    by_file: dict[Path, list[str]] = {}
    for name, info in tensors.items():
        by_file.setdefault(info.file, []).append(name)
    out: dict[str, Tensor] = {}
    for file, names in by_file.items():
        try:
            with safe_open(file, framework="pt", device="cpu") as weights:
                out.update({name: weights.get_tensor(tensors[name].key) for name in names})
        except SafetensorError as error:
            raise ValueError(_broken(file, str(error))) from error
    return out


def match_keys(
    expected: Mapping[str, Iterable[int]], got: Mapping[str, Iterable[int]], where: str
) -> None:
    """Compare names and shapes of a network with those of its weights.

    Args:
        expected, got: shape by name.
        where: what `got` was read from, for the message.

    Raises: ValueError with counts and the first names if they differ.
    """
    want = {name: tuple(shape) for name, shape in expected.items()}
    have = {name: tuple(shape) for name, shape in got.items()}
    missing = [name for name in want if name not in have]
    unexpected = [name for name in have if name not in want]
    shapes = [
        f"{name} is {have[name]}, expected {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    groups = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    found = [f"{len(names)} {kind} ({'; '.join(names[:3])})" for kind, names in groups if names]
    if found:
        raise ValueError(
            f"The weights in {where} do not fit the network that their config describes: "
            f"{', '.join(found)}. Config and weights must come from the same checkpoint."
        )
