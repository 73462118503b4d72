"""Folders of pictures below the host's input folder."""

from pathlib import Path, PurePosixPath

import folder_paths


def picture_folder(name: str, new: bool = False) -> Path:
    """A folder below `input`; a link there to another place counts as one.

    Args: new: it need not be there yet.
    Raises: ValueError for a name that leads elsewhere, FileNotFoundError if it is not there.
    """
    parent = Path(folder_paths.get_input_directory())
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    if not parts or any(part in ("/", "..") or ":" in part for part in parts):
        raise ValueError(
            f"the folder is {name!r}, expected a folder below {parent}, such as 'my pictures'. "
            "Copy or link the pictures there."
        )
    folder = parent.joinpath(*parts)
    if not new and not folder.is_dir():
        found = sorted(path.name for path in parent.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"there is no folder {name!r} in {parent}. Put the pictures there. Found so far: "
            f"{found or 'none'}."
        )
    return folder
