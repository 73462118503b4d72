"""A text as tokens, and where they stand in it."""

from dataclasses import dataclass

from .llm_config import PICTURE_TOKENS
from .tokenizer import load_tokenizer


@dataclass(frozen=True)
class Tokens:
    """A sample's tokens and where they stand in its text; a picture's pads begin nowhere."""

    ids: list[int]
    begins: list[int]  # first character, -1 for a pad
    of: dict[int, int]  # character -> token
    starts: list[int]  # where each picture's pads begin

    @classmethod
    def from_text(cls, text: str) -> "Tokens":
        tokenizer = load_tokenizer()
        pad = tokenizer.token_to_id("<|image_pad|>")
        encoded = tokenizer.encode(text, add_special_tokens=False)
        ids, begins, of, starts = [], [], {}, []
        for token, (begin, end) in zip(encoded.ids, encoded.offsets, strict=True):
            of |= dict.fromkeys(range(begin, end), len(ids))
            if token == pad:
                starts.append(len(ids))
                ids += [pad] * PICTURE_TOKENS
                begins += [-1] * PICTURE_TOKENS
            else:
                ids.append(token)
                begins.append(begin)
        return cls(ids, begins, of, starts)

    def within(self, first: int, end: int) -> list[int]:
        """Tokens that begin between these characters."""
        return [token for token, begin in enumerate(self.begins) if first <= begin < end]

    def pad(self, token: int, cell: int) -> int:
        """The picture token of a cell in the last picture before a token; -1 is the mark before."""
        return max(start for start in self.starts if start < token) + cell
