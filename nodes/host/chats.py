"""Where chats lie: `chats/` in the output and input folders."""

import re
from pathlib import Path

import folder_paths

FOLDER = "chats"
LONGEST_NAME = 200  # bytes; file systems take 255, and a picture's name is longer than its chat's


def chat_names() -> list[str]:
    """All saved chats, those of the output folder first; one name counts once."""
    return list(_chats())


def chat_to_load(name: str) -> Path:
    """The file of a chat. Raises FileNotFoundError that says where was looked."""
    chats = _chats()
    name = name.removesuffix(".json")
    if name not in chats:
        raise FileNotFoundError(
            f"there is no chat {name!r}. Searched: {', '.join(map(str, _folders()))}. Save one "
            f"with Save Chat and press R to refresh. Found so far: {list(chats) or 'none'}."
        )
    return chats[name]


def chat_to_save(name: str) -> Path:
    """Where a chat of this name goes. Raises ValueError for a name that is not a file's."""
    name = name.removesuffix(".json")
    plain = name.strip() and Path(name).name == name and not name.startswith(".")
    if not plain or re.search(r"[\\\x00-\x1f]", name) or len(name.encode()) > LONGEST_NAME:
        raise ValueError(
            f"the chat's name is {name!r}, expected a plain file name such as 'my chat', without "
            f"folders and control characters, at most {LONGEST_NAME} bytes long. Rename it."
        )
    return _folders()[0] / f"{name}.json"


def _folders() -> list[Path]:
    parents = (folder_paths.get_output_directory(), folder_paths.get_input_directory())
    return [Path(parent) / FOLDER for parent in parents]


def _chats() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _folders():
        for file in sorted(folder.glob("*.json")):
            found.setdefault(file.stem, file)
    return found
