"""What lies in the folders of models: checkpoints and vision towers, told by names and headers.

Nothing in such a folder may take the rest away. What cannot be read is passed over with the
reason; what looks like a model is listed, and whether it is whole shows when it is chosen.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .checkpoint import (
    DECODER_FOLDER,
    STAGES,
    TOWER_FOLDERS,
    TOWER_KEYS,
    Checkpoint,
    published_name,
    tower_config,
)
from .json_files import parse_json, read_text, unreadable
from .reader import PICKLE_SUFFIXES, has_weights, read_header, weight_names, weights_among

DEPTH = 4  # <cache>/models--org--name/snapshots/<revision>
MAX_FOLDERS = 2000  # a link to a whole disk must not be walked through
PARTS = (DECODER_FOLDER, *TOWER_FOLDERS)  # folders that belong to the checkpoint around them
MARKS = ("config.json", DECODER_FOLDER)
HUB_START = "models--"  # a folder of Hugging Face's cache: models--org--name
TOWER_PICKLE = "pytorch_model.bin"


@dataclass
class Found:
    """Models by the name that a list shows, and why other things are not among them."""

    places: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[Path, str] = field(default_factory=dict)

    def add(self, name: str, path: Path) -> None:
        """List a model; the first of a name stays, as everywhere in the host."""
        if not _is_text(name):
            self.pass_over(path, f"{path}: its name is not text. Rename it.")
        elif name in self.places:
            other = self.places[name]
            self.pass_over(path, f"{path} has the same name as {other}. Rename one of them.")
        else:
            self.places[name] = path

    def pass_over(self, path: Path, why: str) -> None:
        """Note why something is not listed, in words that can be written into any log."""
        self.passed_over[path] = why.encode("utf-8", "backslashreplace").decode()

    def test(self, path: Path, holds: Callable[[Path], bool]) -> bool:
        """Whether something holds of a path; not of one that cannot be read, and that is noted."""
        try:
            return holds(path)
        except (OSError, ValueError) as error:
            self.pass_over(path, _why_not(path, error))
        return False


@dataclass(frozen=True)
class _Folder:
    path: Path
    depth: int
    entries: tuple[Path, ...]  # all but hidden ones, by name

    def has(self, *bases: str) -> bool:
        return any(weights_among(self.entries, base) for base in bases)

    def named(self, *suffixes: str) -> list[Path]:
        return [path for path in self.entries if path.suffix in suffixes]


def find_checkpoints(roots: Iterable[Path]) -> Found:
    """Checkpoints below `roots`: <name>, <org>/<name>, in a hub's cache, or a root itself.

    The name is the path below the root, with slashes. A cached model is called <org>/<name>, and
    its revisions beside the one that the cache calls main <org>/<name>@<revision>.
    """
    found = Found()
    for root in roots:
        folders = list(_walk(root, lambda it: _is_checkpoint(it) or _is_part(it), found))
        listed = [folder.path for folder in folders if _is_checkpoint(folder)]
        for name, path in sorted((_checkpoint_name(root, path), path) for path in listed):
            found.add(name, path)
        for folder in folders:
            around = any(path.is_relative_to(folder.path) for path in listed)
            if folder.path not in listed and _seems_meant(folder, around, found):
                found.pass_over(
                    folder.path,
                    f"{folder.path} holds files but no checkpoint, expected config.json, "
                    "model*.safetensors, tokenizer files and diffusion-decoder/. Copy the whole "
                    "published folder there; a vision tower belongs into models/clip_vision.",
                )
    return found


def find_vision_towers(roots: Iterable[Path]) -> Found:
    """Towers below `roots`: folders with weights and their JSON, and converted files.

    What other programs keep there is no tower, and nothing is said of it.
    """
    found = Found()
    for root in roots:
        for folder in _walk(root, lambda folder: folder.has("model"), found):
            if folder.has("model") and found.test(folder.path, _says_tower):
                found.add(_name(root, folder.path), folder.path)
            for file in folder.named(".safetensors"):
                if found.test(file, is_tower_file):
                    found.add(_name(root, file), file)
            pickles = [file for file in folder.entries if file.name == TOWER_PICKLE]
            if pickles and not folder.has("model") and found.test(folder.path, _says_tower):
                found.pass_over(
                    folder.path,
                    f"{pickles[0]} is a vision tower as a pickle, expected safetensors. Convert "
                    "it: python -m blip3u_core.convert FOLDER NAME.safetensors",
                )
    return found


def find_inner_towers(checkpoints: Found) -> Found:
    """The checkpoints that hold a vision tower, by their own names."""
    found = Found()
    for name, path in checkpoints.places.items():
        if found.test(path, holds_vision_tower):
            found.add(name, path)
    return found


def is_tower_file(file: Path) -> bool:
    """Whether a safetensors file is a converted tower, read from its header alone.

    Raises: FileNotFoundError or ValueError for a file that cannot be read.
    """
    config = read_header(file)[1].get("config")
    return config is not None and not parse_json(config, str(file)).keys().isdisjoint(TOWER_KEYS)


def holds_vision_tower(path: Path) -> bool:
    """Whether `open_checkpoint(path).vision_tower` is one, read from an index or header alone.

    Raises: FileNotFoundError or ValueError if that cannot be told.
    """
    if Checkpoint(path).converted:
        return has_weights(path, "vision_tower")
    if any(has_weights(path / folder, "model") for folder in TOWER_FOLDERS):
        return True
    names = weight_names(path, "model")
    return any(published_name(name)[0] == "vision_tower" for name in names)


def fingerprint(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a model's files: another one when any of them changes.

    Links count as what they lead to. What cannot be read is left out, so that mending it makes
    another fingerprint.
    """
    walked = _walk(path, lambda _: False, Found()) if path.is_dir() else ()
    entries = [path, *(entry for folder in walked for entry in folder.entries)]
    return tuple(about for entry in entries if (about := _about(entry)) is not None)


def _about(path: Path) -> tuple[str, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return None if path.is_dir() else (str(path), stat.st_size, stat.st_mtime_ns)


def _walk(root: Path, is_whole: Callable[[_Folder], bool], found: Found) -> Iterator[_Folder]:
    """`root` and the folders below it; not those in a folder that `is_whole`, save the root."""
    waiting: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    num_folders = 0
    while waiting:
        path, above = waiting.pop()
        real = os.path.realpath(path)
        if real in above:
            continue  # a link back to where we came from
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            found.pass_over(path, _why_not(path, error))
            continue
        num_folders += 1
        if num_folders > MAX_FOLDERS:
            found.pass_over(
                root,
                f"{root} has more than {MAX_FOLDERS} folders below it; the rest was not looked at. "
                "Link the models' own folders there, not what lies around them.",
            )
            return
        shown = tuple(entry for entry in entries if not entry.name.startswith("."))
        folder = _Folder(path, len(above), shown)
        yield folder
        if folder.depth and is_whole(folder):
            continue
        below = [entry for entry in shown if found.test(entry, _is_folder)]
        if below and folder.depth == DEPTH:
            found.pass_over(
                path,
                f"{path} was not looked into: it lies {DEPTH} folders below {root}, the most that "
                "are searched. Move or link the model's own folder higher up.",
            )
        else:
            waiting += [(entry, (*above, real)) for entry in reversed(below)]


def _why_not(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return (
            f"{path} is a link to {os.readlink(path)}, where nothing is. Mount that disk, or "
            "remove the link."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return str(unreadable(path, error))
    return str(error)


def _is_folder(path: Path) -> bool:
    path.stat()  # unlike is_dir, it tells a link that leads nowhere
    return path.is_dir()


def _is_part(folder: _Folder) -> bool:
    return folder.path.name in PARTS


def _is_checkpoint(folder: _Folder) -> bool:
    """Told by names alone, so that a broken one is listed, and explained when it is chosen."""
    if _is_part(folder):
        return False
    names = {entry.name for entry in folder.entries}
    pickles = any(name.startswith("pytorch_model") for name in names)
    return pickles or not names.isdisjoint(MARKS) or folder.has("model", *STAGES)


def _seems_meant(folder: _Folder, has_checkpoints: bool, found: Found) -> bool:
    """Whether the user may look for this folder in the list and wonder."""
    if folder.named(".safetensors", ".gguf", *PICKLE_SUFFIXES):
        return True
    files = any(found.test(entry, Path.is_file) for entry in folder.entries)
    return files and folder.depth == 1 and not has_checkpoints


def _says_tower(folder: Path) -> bool:
    return tower_config(folder) is not None


def _name(root: Path, path: Path) -> str:
    return root.name if path == root else path.relative_to(root).as_posix()


def _checkpoint_name(root: Path, path: Path) -> str:
    cache = path.parent.parent
    if path.parent.name != "snapshots" or not cache.name.startswith(HUB_START):
        return _name(root, path)
    name = cache.name.removeprefix(HUB_START).replace("--", "/")
    if cache.parent != root:
        name = f"{_name(root, cache.parent)}/{name}"
    revisions = [entry for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    return name if len(revisions) == 1 or _is_main(cache, path) else f"{name}@{path.name}"


def _is_main(cache: Path, snapshot: Path) -> bool:
    try:
        return read_text(cache / "refs" / "main").strip() == snapshot.name
    except (FileNotFoundError, ValueError):
        return False


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
