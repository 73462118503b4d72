"""A chat on disk: one JSON file, and its pictures as PNG files beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..atomic_files import remove_leftovers, save_picture, write_atomically
from ..language.prompt import literal_turn
from .chat import Chat, Turn, has_half_characters, make_turn

_FORMAT = "blip3u-chat"
_VERSION = 1


def save_chat(chat: Chat, path: Path) -> None:
    """Write a chat to `path` (.json) and its pictures beside it.

    Pictures are named by their content and the JSON comes last, each by a rename: whoever reads
    the file sees a whole chat, the old one or the new one.
    """
    remove_leftovers(path.parent)
    turns = []
    for turn in chat.turns:
        names = [save_picture(picture, path.parent, path.stem) for picture in turn.pictures]
        turns.append({"role": turn.role, "text": turn.text, "pictures": names})
    content = {"format": _FORMAT, "version": _VERSION, "turns": turns}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    write_atomically(path, lambda file: file.write(text.encode()))


def load_chat(path: Path) -> Chat:
    """Read a chat that `save_chat` wrote.

    Raises: FileNotFoundError if the file or a picture is missing; ValueError, naming the file and
        the turn, if something in it is broken.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there. Save a chat first, or choose another file.")
    chat = Chat()
    for index, entry in enumerate(_read_turns(path)):
        try:
            pictures = [_load_picture(path, name) for name in entry["pictures"]]
            silent = entry["role"] == "assistant" and entry["text"] == ""
            text = literal_turn(entry["text"], len(pictures))
            told = {**entry, "text": text, "pictures": pictures}
            turn = Turn("assistant", "") if silent else make_turn(**told)
            chat = chat.add(turn)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(_broken(path, f"turn {index + 1} lacks a part ({error})")) from error
        except ValueError as error:
            raise ValueError(_broken(path, f"turn {index + 1}: {error}")) from error
    return chat


def _read_turns(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_broken(path, f"it is not JSON ({error})")) from error
    if has_half_characters(content):
        raise ValueError(_broken(path, "it holds half a character (a lone UTF-16 surrogate)"))
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(_broken(path, f"it does not say format {_FORMAT!r}"))
    if content.get("version") != _VERSION:
        raise ValueError(
            _broken(path, f"its version is {content.get('version')!r}, known is {_VERSION}")
        )
    if not isinstance(content.get("turns"), list):
        raise ValueError(_broken(path, "it has no list of turns"))
    return content["turns"]


def _load_picture(chat_path: Path, name: str) -> Tensor:
    if Path(name).name != name or not name.endswith(".png"):
        raise ValueError(f"it names the picture {name!r}, expected a PNG file beside the chat")
    file = chat_path.with_name(name)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: {chat_path.name} names it. Copy a chat together with its pictures."
        )
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"its picture {name} cannot be read ({error})") from error


def _broken(path: Path, why: str) -> str:
    return f"{path} is not a chat that can be read: {why}. Load an older copy, or begin a new chat."
