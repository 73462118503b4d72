"""A dialogue as a value: turns with role, text and pictures. Continuing one never changes it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..images import frozen
from ..language.prompt import DRAWN_PICTURE, IMAGE_PAD, PICTURE, ROLES, join_words, readable

HALF_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Turn:
    """What one side said. `text` holds a `PICTURE` mark where each picture stands."""

    role: str
    text: str
    pictures: tuple[Tensor, ...] = field(default=(), repr=False)  # (H, W, 3) uint8 each

    def parts(self) -> list[str | Tensor]:
        """Texts and pictures in the order in which they are read; no empty texts."""
        pieces = self.text.replace(DRAWN_PICTURE, PICTURE).split(PICTURE)
        mixed: list[str | Tensor] = [readable(pieces[0])]
        for picture, piece in zip(self.pictures, pieces[1:], strict=True):
            mixed += [picture, readable(piece)]
        return [part for part in mixed if not isinstance(part, str) or part.strip()]


def make_turn(role: str, text: str, pictures: Sequence[Tensor] = ()) -> Turn:
    """A checked turn; its pictures are copied as 8-bit RGB, so nobody can change them later.

    Args:
        text: may say where pictures stand (`PICTURE` each); else they come first. Users' words
            in it are `literal`.
        pictures: each (H, W, 1 to 4), uint8, or floating point in [0, 1].

    Raises: ValueError for an unknown role, an empty turn, a picture in the system turn, or marks
        and pictures that do not match.
    """
    if role not in ROLES:
        raise ValueError(f"the role is {role!r}, expected one of {', '.join(ROLES)}.")
    if not text.strip() and not pictures:
        raise ValueError(f"the {role} turn is empty: write a text or give it a picture.")
    if role == "system" and pictures:
        raise ValueError("the system turn came with pictures. Give them to a user turn.")
    marks = text.count(PICTURE)
    if text.count(IMAGE_PAD) != marks or marks not in (0, len(pictures)):
        raise ValueError(
            f"the {role} turn marks {text.count(IMAGE_PAD)} places for pictures and has "
            f"{len(pictures)} pictures. Leave {IMAGE_PAD} out of the text, or mark each picture."
        )
    if not marks:
        text = PICTURE * len(pictures) + text
    return Turn(role, text, tuple(frozen(picture) for picture in pictures))


def has_half_characters(content: object) -> bool:
    """Whether a text in decoded JSON holds a lone surrogate, which no file and no token can."""
    return HALF_CHARACTER.search(json.dumps(content, ensure_ascii=False)) is not None


@dataclass(frozen=True, eq=False)
class Chat:
    """Turns in order: maybe a system turn, then user and assistant by turns."""

    turns: tuple[Turn, ...] = ()

    def add(self, turn: Turn) -> "Chat":
        """This chat and one turn more. What the assistant says after itself joins its turn.

        Raises: ValueError if `turn` cannot stand there.
        """
        last = self.turns[-1].role if self.turns else None
        if turn.role == "system" and last is not None:
            raise ValueError(
                f"a system turn came after {len(self.turns)} turns; it must be the first. Start "
                "a new chat with it."
            )
        if turn.role == "assistant" and last in (None, "system"):
            raise ValueError(
                "an assistant turn came first, expected a user turn before it. Add the user's "
                "message with Chat Message (role user)."
            )
        if turn.role == "user" and last == "user":
            raise ValueError(
                "a user turn came right after a user turn; the assistant must answer between "
                "them. Join both texts into one message, or let VQA or Chat Message (role "
                "assistant) answer first."
            )
        if turn.role == last == "assistant":
            before = self.turns[-1]
            joined = Turn(
                turn.role,
                join_words(before.text, turn.text),
                before.pictures + turn.pictures,
            )
            return Chat((*self.turns[:-1], joined))
        return Chat((*self.turns, turn))

    def say(self, role: str, text: str, pictures: Sequence[Tensor] = ()) -> "Chat":
        """`add` of `make_turn`."""
        return self.add(make_turn(role, text, pictures))

    @property
    def pictures(self) -> tuple[Tensor, ...]:
        """The pictures of all turns, in the order in which they are read."""
        return tuple(picture for turn in self.turns for picture in turn.pictures)

    @property
    def ends_with_user(self) -> bool:
        """Whether the last turn is a message that waits for an answer."""
        return bool(self.turns) and self.turns[-1].role == "user"

    @property
    def ends_with_assistant(self) -> bool:
        """Whether the last turn is the model's own, on which it may write on."""
        return bool(self.turns) and self.turns[-1].role == "assistant"

    def texts(self) -> list[tuple[str, str]]:
        """(role, text) of every turn, as `prompt.dialogue_text` takes them."""
        return [(turn.role, turn.text) for turn in self.turns]

    def last_turns(self, count: int) -> "Chat":
        """The system turn and the last `count` turns, from the first user turn among them on."""
        start = 1 if self.turns and self.turns[0].role == "system" else 0
        kept = list(self.turns[start:][-count:]) if count > 0 else []
        while kept and kept[0].role != "user":
            kept.pop(0)
        return Chat((*self.turns[:start], *kept))

    def markdown(self) -> str:
        """All turns as text for people; pictures as numbered marks."""
        number, lines = 0, []
        for turn in self.turns:
            words = []
            for part in turn.parts():
                number += not isinstance(part, str)
                said = part.strip() if isinstance(part, str) else None
                words.append(f"[picture {number}]" if said is None else said)
            lines.append(f"**{turn.role}:** " + " ".join(word for word in words if word))
        return "\n\n".join(lines)
