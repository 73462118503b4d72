"""Folders of pictures below the host's input folder."""

import re
from pathlib import Path, PurePosixPath

import folder_paths

LONGEST_NAME = 255  # bytes, of one folder


def picture_folder(name: str, new: bool = False) -> Path:
    """A folder below `input`; a link there to another place counts as one.

    Args: new: it need not be there yet.
    Raises: ValueError for a name that leads elsewhere, FileNotFoundError if it is not there.
    """
    parent = Path(folder_paths.get_input_directory())
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    if not parts or not all(map(_is_plain, parts)):
        raise ValueError(
            f"the folder is {name[:300]!r}, expected a folder below {parent}, such as "
            f"'my pictures', in plain characters, {LONGEST_NAME} bytes at most. Copy or link the "
            "pictures there."
        )
    folder = parent.joinpath(*parts)
    if not new and not folder.is_dir():
        found = sorted(path.name for path in parent.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"there is no folder {name!r} in {parent}. Put the pictures there. Found so far: "
            f"{found or 'none'}."
        )
    return folder


def _is_plain(part: str) -> bool:
    """Whether any file system takes it as a name, and it leads nowhere else."""
    if part in ("/", "..") or ":" in part or re.search("[\x00-\x1f\ud800-\udfff]", part):
        return False
    return len(part.encode()) <= LONGEST_NAME
