"""A conversation: the user says something, the model answers in text, pictures, or both.

Nobody says which: a model that was taught `[IMG]` writes the token where it wants to draw; any
other is told in the system turn to mark captions, and an edit moves the features of the last
picture from its old caption to the new one (FlowEdit).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..language.prompt import CONVERSE_ORDERS, DRAWN_PICTURE, IMG, PICTURE, literal, readable
from .chat import Chat, Turn, has_half_characters, make_turn
from .dialogue import ChatModel
from .interleave import Draw, Interleaved, interleave

AUTO, TOKEN, CAPTION = "auto", "[IMG] token", "marked caption"
PICTURE_REQUESTS = (AUTO, TOKEN, CAPTION)  # how the model asks for a picture

_FORMAT = "blip3u-conversation"
_VERSION = 1


def converse(
    chat_model: ChatModel,
    chat: Chat,
    message: str,
    pictures: Sequence[Tensor],
    draw: Draw,
    max_pictures: int,
    *,
    marks_captions: bool,
    remember_last: int = 0,
    on_turn: Callable[[Turn], None] | None = None,
) -> Interleaved:
    """Answer one message; the answer's `chat` holds the whole conversation with both turns.

    Args:
        pictures: what the user shows with the message, (H, W, C) each.
        draw: makes a picture of a request, as in `interleave`.
        max_pictures: the answer ends with its last allowed picture.
        marks_captions: the model asks for pictures by marked captions, not by `[IMG]`.
        remember_last: so many turns before the message are read; 0 reads all.
        on_turn: called with the assistant's turn so far, after each token and picture.

    Raises: ValueError for an empty message, or a conversation longer than the model can read.
    """
    if not message.strip():
        raise ValueError("the message is empty, expected what you want to say. Write it.")
    message = literal(message)
    known = chat.last_turns(remember_last) if remember_last else chat
    asked = known.say("user", message, pictures)
    answer = interleave(
        chat_model,
        asked,
        draw,
        max_pictures,
        orders=CONVERSE_ORDERS if marks_captions else "",
        ends_with_picture=True,
        on_turn=on_turn,
    )
    said = answer.chat.turns[-1]
    reply = said if said.role == "assistant" else Turn("assistant", "")
    whole = chat.say("user", message, pictures).add(reply)
    return Interleaved(answer.text, answer.pictures, whole)


def marks_captions(picture_request: str, taught: bool) -> bool:
    """Whether the model is told to mark captions. Raises ValueError for an unknown way."""
    if picture_request not in PICTURE_REQUESTS:
        raise ValueError(
            f"picture_request is {picture_request!r}, expected one of "
            f"{', '.join(PICTURE_REQUESTS)}. Choose auto."
        )
    return not taught if picture_request == AUTO else picture_request == CAPTION


# ---------------------------------------------------------------- as JSON, pictures by name


def conversation_json(chat: Chat, name_of: Callable[[Tensor], str]) -> str:
    """A conversation as one line of JSON; `name_of` gives each picture's name and keeps it.

    No turns are an empty text. The browser writes the same bytes, see web/js/conversation.js.
    """
    if not chat.turns:
        return ""
    turns = [turn_content(turn, name_of) for turn in chat.turns]
    content = {"format": _FORMAT, "version": _VERSION, "turns": turns}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def turn_content(turn: Turn, name_of: Callable[[Tensor], str]) -> dict[str, Any]:
    """A turn as JSON has it: its role, and texts and pictures in the order of reading."""
    texts = [readable(text) for text in turn.text.split(PICTURE)]
    parts: list[Any] = [texts[0]]
    for picture, text in zip(turn.pictures, texts[1:], strict=True):
        parts += [{"picture": name_of(picture)}, text]
    return {"role": turn.role, "parts": [part for part in parts if part]}


def read_conversation(text: str, picture_of: Callable[[str], Tensor]) -> Chat:
    """The chat of `conversation_json`; an empty text is a new conversation.

    Raises: ValueError, naming the turn, for what is no conversation; what `picture_of` raises for a
        missing picture goes through.
    """
    chat = Chat()
    for index, entry in enumerate(_turns_of(text)):
        where = f"turn {index + 1} of the conversation"
        try:
            role, parts = entry["role"], entry["parts"]
            names = [part["picture"] for part in parts if not isinstance(part, str)]
            words = "".join(literal(p) if isinstance(p, str) else PICTURE for p in parts)
            if role == "assistant":  # it asked for its pictures
                words = words.replace(literal(IMG) + PICTURE, DRAWN_PICTURE)
        except (KeyError, TypeError) as error:
            raise ValueError(_broken(f"{where} lacks a part ({error})")) from error
        pictures = [picture_of(name) for name in names]
        try:
            silent = role == "assistant" and not parts
            turn = Turn(role, "") if silent else make_turn(role, words, pictures)
            chat = chat.add(turn)
        except ValueError as error:
            raise ValueError(_broken(f"{where}: {error}")) from error
    return chat


def _turns_of(text: str) -> list[dict[str, Any]]:
    if not text.strip():
        return []
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(_broken(f"it is not JSON ({error})")) from error
    if has_half_characters(content):
        raise ValueError(_broken("it holds half a character (a lone UTF-16 surrogate)"))
    known = isinstance(content, dict) and content.get("format") == _FORMAT
    if not known or content.get("version") != _VERSION:
        raise ValueError(_broken(f"it does not say format {_FORMAT!r}, version {_VERSION}"))
    if not isinstance(content.get("turns"), list):
        raise ValueError(_broken("it has no list of turns"))
    return content["turns"]


def _broken(why: str) -> str:
    return f"the conversation cannot be read: {why}. Undo the last turns, or begin anew."
