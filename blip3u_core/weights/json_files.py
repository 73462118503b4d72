"""Files of a checkpoint that are text: read whole, or said in one sentence why not."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 64_000_000
LFS_START = b"version https://git-lfs"
ADVICE = "Use the checkpoint's own file, unchanged: download it again."


class FileContent(dict[str, Any]):
    """What a file says or holds, by name, and which file it is: messages name it."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        super().__init__(values)
        self.source = source


def source_of(values: Any, otherwise: str) -> str:
    """The file that `values` come from, where they know it."""
    return getattr(values, "source", otherwise)


def parse_json(text: str | bytes, where: str) -> FileContent:
    """A JSON object from its text. Raises ValueError that names `where` for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, digits without end, deep
        raise ValueError(f"{where} is not JSON ({error}), expected an object. {ADVICE}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} holds {shown(value)}, expected a JSON object. {ADVICE}")
    return FileContent(value, where)


def read_json(path: Path) -> FileContent:
    """Read a JSON object.

    Raises: FileNotFoundError if it is not there, ValueError if it is not a JSON object.
    """
    return parse_json(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read a text file. Raises FileNotFoundError if it is missing, ValueError if unreadable."""
    size = check_file(path)
    if size > MAX_TEXT_BYTES:
        raise ValueError(
            f"{path} has {size} bytes, expected a text file below {MAX_TEXT_BYTES} bytes. {ADVICE}"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}), expected it. {ADVICE}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def check_file(path: Path) -> int:
    """The size of a plain file; nothing else is ever opened, for a pipe would wait for ever.

    Raises: FileNotFoundError if it is missing, ValueError if it is no plain file, cannot be read,
        or is the pointer that Git leaves in place of a large file.
    """
    try:
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(len(LFS_START))
            if start != LFS_START:
                return path.stat().st_size
            raise ValueError(
                f"{path} is a Git LFS pointer of {path.stat().st_size} bytes, expected the file "
                "that it stands for. Run `git lfs pull` in the folder, or download it by "
                "`hf download`."
            )
        if path.exists():
            raise ValueError(
                f"{path} is a folder, a pipe or a device, expected a plain file. Put the "
                "checkpoint's own file in its place."
            )
    except OSError as error:
        raise unreadable(path, error) from error
    dangling = " (a link to a file that is gone)" if path.is_symlink() else ""
    raise FileNotFoundError(
        f"{path.name} is missing from {path.parent}{dangling}. Copy the whole published folder "
        "there."
    )


def unreadable(path: Path, error: OSError) -> ValueError:
    """What to raise where the system refuses a file."""
    return ValueError(
        f"{path} cannot be read ({error.strerror or error}), expected a readable file. Let the "
        "user who runs this program read it, or download it again."
    )


def shown(value: Any) -> str:
    """A value as a message shows it: never longer than a line."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxdict = short.maxlist = short.maxtuple = 6
    return short.repr(value)
