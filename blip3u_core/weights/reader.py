"""Weights on disk: one safetensors file, shards with an index, or a variant; read by memory map."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .json_files import check_file, read_json, shown, unreadable

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
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
SHARD_NAME = re.compile(r"[\w\-][\w.\- ]{0,200}\.safetensors", re.ASCII)
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
        """Size of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Read names, shapes and dtypes of a safetensors file, and its metadata; no weights.

    Raises: FileNotFoundError if the file is missing, ValueError if it is unreadable, a pickle,
        garbage or shorter than its header says.
    """
    check_file(path)
    with path.open("rb") as file:
        if file.read(8).startswith(PICKLE_STARTS):
            raise ValueError(
                f"{path} is a pickle file, whatever its name says; expected safetensors. Pickles "
                "can run code and are never opened: get the safetensors version."
            )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            entries = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no dict
            infos = {key: _tensor_info(path, key, entry) for key, entry in entries.items()}
            return infos, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(_broken(path, str(error))) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _broken(path: Path, why: str) -> str:
    return (
        f"{path} is not a whole safetensors file: {why[:200]}. The download was probably "
        "interrupted; download it again."
    )


def _tensor_info(path: Path, key: str, entry: Any) -> TensorInfo:
    name, shape = entry.get_dtype(), tuple(entry.get_shape())
    if name not in DTYPES:
        raise ValueError(
            f"{path}: {key!r} is stored as {name}, expected one of {', '.join(DTYPES)}. "
            "Use a bf16, fp16, fp32 or fp8 version of the weights."
        )
    return TensorInfo(path, key, shape, DTYPES[name])


def scan_weights(folder: Path, base: str) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Find `base`'s weights in `folder` and read their headers.

    Args:
        base: "model" finds `model.safetensors`, `model.safetensors.index.json` with its shards,
            and the variants `model.bf16.safetensors`, `model.safetensors.index.bf16.json`.

    Returns: tensors by name, and the metadata of the file (of the first shard).
    Raises: FileNotFoundError if there are no such weights or a shard is missing, ValueError for
        a broken or empty file, a pickle, or an index that leaves its folder.
    """
    files = _weight_files(folder, base)
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, file_metadata = read_header(file)
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise ValueError(
                f"{file} holds {twice[0]!r}, which {tensors[twice[0]].file.name} holds too; "
                "expected every weight in one file. Download all weight files again."
            )
        tensors.update(found)
        metadata = metadata or file_metadata
    if not tensors:
        raise ValueError(
            f"{files[0]} holds no weights at all, expected those of a network. Download it again."
        )
    return tensors, metadata


def has_weights(folder: Path, base: str) -> bool:
    """Whether `folder` seems to hold safetensors weights called `base` (names only are read)."""
    return bool(weights_among(_listed(folder), base))


def weight_names(folder: Path, base: str) -> list[str]:
    """The names of `base`'s weights, from the index alone where there is one.

    Raises: what `scan_weights` raises of the one file that is read.
    """
    chosen = _chosen(folder, base)
    return list(read_header(chosen)[0] if chosen.suffix == ".safetensors" else _weight_map(chosen))


def weights_among(files: Iterable[Path], base: str) -> dict[str, Path]:
    """Weights of `base` by variant, of the sorted files of a folder; only names are looked at.

    One whole file goes before an index of the same variant.
    """
    pattern = re.compile(
        rf"{re.escape(base)}(?:\.(?P<variant>\w+))?\.safetensors"
        r"(?P<index>\.index(?:\.(?P<index_variant>\w+))?\.json)?"
    )
    found: dict[str, Path] = {}
    for path in files:
        match = pattern.fullmatch(path.name)
        if match:
            found.setdefault(match["variant"] or match["index_variant"] or "", path)
    return found


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, in order; nothing in what is none. Raises ValueError if unreadable."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise unreadable(folder, error) from error


def _weight_files(folder: Path, base: str) -> list[Path]:
    chosen = _chosen(folder, base)
    return [chosen] if chosen.suffix == ".safetensors" else _shards(chosen)


def _chosen(folder: Path, base: str) -> Path:
    """The weights file or the index that counts, where there are several variants."""
    candidates = weights_among(_listed(folder), base)
    if not candidates:
        raise FileNotFoundError(_nothing_found(folder, base))
    known = [name for name in VARIANT_ORDER if name in candidates]
    return candidates[(known or sorted(candidates))[0]]


def _nothing_found(folder: Path, base: str) -> str:
    if not folder.is_dir():
        return f"The folder {folder} is missing. Copy the whole published checkpoint there."
    pickles = [p.name for p in _listed(folder) if p.suffix in PICKLE_SUFFIXES]
    if pickles:
        return (
            f"{folder} holds {', '.join(pickles[:3])} but no {base}.safetensors. Pickle files "
            "can run code and are never opened: get the safetensors version."
        )
    return (
        f"No weights in {folder}: expected {base}.safetensors, {base}.<variant>.safetensors, or "
        f"{base}.safetensors.index.json with its shards. Download them again."
    )


def _weight_map(index: Path) -> dict[str, Any]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f"{index} says weight_map {shown(weight_map)}, expected an object from names to "
            "files. Download it again."
        )
    return weight_map


def _shards(index: Path) -> list[Path]:
    values = _weight_map(index).values()
    shards = [_beside(index, name) for name in sorted(set(map(str, values)))]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(shards)} weight files named by {index} are missing: "
            f"{', '.join(missing[:3])}. Download them into {index.parent}."
        )
    return shards


def _beside(index: Path, name: str) -> Path:
    """The shard `name` in the folder of `index`, and nowhere else.

    A link that the user made there, as into the cache of a hub, may lead wherever it does; the
    index, which came from the net, may not.
    """
    if not SHARD_NAME.fullmatch(name):
        raise ValueError(
            f"{index} names the weight file {shown(name)}, which lies outside its folder or is no "
            "safetensors file; expected plain file names. Do not use this checkpoint unless you "
            "know where it comes from, or download its index again."
        )
    return index.parent / name


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
        except OSError as error:
            raise unreadable(file, error) from error
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
            f"{', '.join(found)}. Config and weights must come from the same checkpoint: download "
            "both again."
        )
