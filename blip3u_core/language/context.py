"""What the language model reads: token ids, pictures in their places, positions.

A `Context` is a value; everything about it is decided before the network runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .image_processing import ProcessedImage, process_image
from .model import LanguageModel
from .prompt import IMAGE_PAD, dialogue_text

_PATCHES_AT_ONCE = 16384  # of the vision tower; bounds its memory


@dataclass(frozen=True, eq=False)
class Context:
    """Token ids with one id per picture token, and the pictures in order."""

    ids: tuple[int, ...]
    pictures: tuple[ProcessedImage, ...]
    spatial: bool  # three-dimensional positions of picture tokens, or plain 0..L-1
    pad_id: int

    def __len__(self) -> int:
        return len(self.ids)

    def picture_starts(self) -> list[int]:
        """Where each picture's tokens begin."""
        starts, place = [], 0
        for picture in self.pictures:
            place = self.ids.index(self.pad_id, place)
            starts.append(place)
            place += picture.num_tokens
        return starts

    def position_ids(self) -> Tensor:
        """(3, L): time, height, width of every token."""
        if not self.spatial or not self.pictures:
            return torch.arange(len(self.ids)).expand(3, -1)
        return _spatial_position_ids(len(self.ids), self.picture_starts(), self.pictures)

    def keys(self) -> tuple[object, ...]:
        """One comparable value per token: equal keys up to a place mean equal computation."""
        keys: list[object] = list(self.ids)
        for start, picture in zip(self.picture_starts(), self.pictures, strict=True):
            for index in range(picture.num_tokens):
                keys[start + index] = (picture.digest, self.spatial, index)
        return tuple(keys)


def read_context(
    llm: LanguageModel,
    text: str,
    pictures: Sequence[Tensor] = (),
    *,
    for_drawing: bool = False,
    keep_shape: bool = False,
) -> Context:
    """Tokenise a text and give each of its `<|image_pad|>` as many tokens as its picture has.

    Args:
        text: with one `<|image_pad|>` per picture, in order; users' words in it are `literal`.
        pictures: each (H, W, 1 to 4), uint8, or floating point in [0, 1].
        for_drawing: pictures become squares of the checkpoint's generation size and positions
            are plain, as in the reference's generation pass; else as in its answers.
        keep_shape: with `for_drawing`, do not make squares.

    Raises: ValueError if the numbers of marks and pictures differ, or a picture cannot be read.
    """
    side = llm.generation_side if for_drawing and not keep_shape else None
    read = tuple(process_image(picture, llm.image_config, side) for picture in pictures)
    pad = llm.tokenizer.image_pad_id
    marked = llm.tokenizer.encode(text)
    if marked.count(pad) != len(read):
        raise ValueError(
            f"the text has {marked.count(pad)} places for pictures ({IMAGE_PAD}) and "
            f"{len(read)} pictures came. Give one picture per place, and write no such mark "
            "into a prompt by hand."
        )
    remaining, ids = iter(read), []
    for token in marked:
        ids += [pad] * next(remaining).num_tokens if token == pad else [token]
    return Context(tuple(ids), read, not for_drawing, pad)


def check_length(llm: LanguageModel, context: Context, room: int) -> None:
    """Raise ValueError if `context` and `room` more tokens exceed what the model can read."""
    limit, needed = llm.config.max_positions, len(context) + room
    if needed > limit:
        pictures = sum(picture.num_tokens for picture in context.pictures)
        raise ValueError(
            f"the prompt is {len(context)} tokens long ({pictures} of them from "
            f"{len(context.pictures)} pictures) and needs {room} more; the language model reads "
            f"at most {limit}. Shorten the text by {needed - limit} tokens, or give fewer or "
            "smaller pictures."
        )


def dialogue_context(
    llm: LanguageModel,
    turns: Sequence[tuple[str, str]],
    pictures: Sequence[Tensor] = (),
    answer_start: str = "",
    **reading: bool,
) -> Context:
    """The context of (role, text) turns after which the assistant speaks; see `read_context`."""
    return read_context(llm, dialogue_text(list(turns), answer_start), pictures, **reading)


def embed_contexts(
    llm: LanguageModel, contexts: Sequence[Context], starts: Sequence[int] | None = None
) -> list[Tensor]:
    """Token and picture embeddings of each context from its place `starts[i]` on, (L_i, D) each.

    A picture that occurs more than once is looked at once; one before `starts` not at all.
    """
    starts = starts or [0] * len(contexts)
    seen: dict[bytes, Tensor] = {}
    needed = [
        (begin, picture)
        for context, start in zip(contexts, starts, strict=True)
        for begin, picture in zip(context.picture_starts(), context.pictures, strict=True)
        if begin + picture.num_tokens > start
    ]
    _embed_pictures(llm, {picture.digest: picture for _, picture in needed}, seen)
    embeds = []
    for context, start in zip(contexts, starts, strict=True):
        ids = torch.tensor(context.ids[start:], device=llm.device)
        rows = llm.embed(ids)
        for begin, picture in zip(context.picture_starts(), context.pictures, strict=True):
            end = begin + picture.num_tokens
            if end > start:
                first = max(begin, start)
                rows[first - start : end - start] = seen[picture.digest][first - begin :]
        embeds.append(rows)
    return embeds


def _embed_pictures(
    llm: LanguageModel, pictures: dict[bytes, ProcessedImage], seen: dict[bytes, Tensor]
) -> None:
    """Embed the pictures, several in one pass while that stays small."""
    waiting: list[ProcessedImage] = []
    for picture in [*pictures.values(), None]:
        patches = sum(other.num_patches for other in waiting)
        if waiting and (picture is None or patches + picture.num_patches > _PATCHES_AT_ONCE):
            rows = llm.encode_images(
                torch.cat([p.patches() for p in waiting]), [p.grid for p in waiting]
            )
            parts = rows.split([p.num_tokens for p in waiting])
            seen.update(zip((p.digest for p in waiting), parts, strict=True))
            waiting = []
        if picture is not None:
            waiting.append(picture)


def left_pad(
    rows: Sequence[Tensor], position_ids: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts of different length as one batch that ends at one place.

    Args:
        rows: embeddings (L_i, D).
        position_ids: (3, L_i).

    Returns: embeddings (B, L, D), position_ids (3, B, L), validity (B, L) bool.
    """
    length = max(len(row) for row in rows)
    embeds = rows[0].new_zeros(len(rows), length, rows[0].shape[1])
    batch_ids = torch.zeros(3, len(rows), length, dtype=torch.long)
    valid = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, (row, ids) in enumerate(zip(rows, position_ids, strict=True)):
        embeds[index, length - len(row) :] = row
        batch_ids[:, index, length - len(row) :] = ids
        valid[index, length - len(row) :] = True
    return embeds, batch_ids.to(embeds.device), valid.to(embeds.device)


def _spatial_position_ids(
    length: int, starts: Sequence[int], pictures: Sequence[ProcessedImage]
) -> Tensor:
    """Positions of text count on; a picture spans rows and columns from one position in time.

    Source: Qwen2-VL (2024), section 2.1, multimodal rotary positions.
    """
    parts, done, time = [], 0, 0
    for start, picture in zip(starts, pictures, strict=True):
        text = torch.arange(time, time + start - done).expand(3, -1)
        time += start - done
        rows, columns = picture.token_grid
        row = torch.arange(rows).repeat_interleave(columns)
        column = torch.arange(columns).repeat(rows)
        parts += [text, time + torch.stack((torch.zeros_like(row), row, column))]
        time += max(rows, columns)
        done = start + picture.num_tokens
    parts.append(torch.arange(time, time + length - done).expand(3, -1))
    return torch.cat(parts, dim=1)
