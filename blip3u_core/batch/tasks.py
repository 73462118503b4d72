"""What is done with rows: generate, edit, caption, features."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..chat.chat import Chat
from ..chat.dialogue import chat_context
from ..export.draw import edit
from ..features.eva_clip import stretch_pictures
from ..images import rgb_image
from ..language.context import Context
from ..language.generate import SamplingParams, generate
from ..language.model import LanguageModel
from ..language.prompt import QUESTION_REQUEST, fill_request
from ..pipeline import Pipeline
from ..run_settings import draw_rows
from .rows import Row, open_row_picture


@dataclass(frozen=True)
class Job:
    """All that makes the bytes of a shard, beside its rows; plain values for JSON."""

    task: str
    model: Mapping[str, Any]  # for `open_pipeline`
    checkpoint: str  # its digest
    draw: Mapping[str, Any] = field(default_factory=dict)  # settings for `Pipeline`
    seed: int = 0
    question: str = ""  # of rows without a text of their own
    max_new_tokens: int = 128
    edit_by: str = "instruction"
    batch_size: int = 8
    format: str = "webdataset"
    threads: int = 1  # of the CPU: sums of floats depend on how they are shared out


@dataclass(frozen=True)
class Ready:
    """A row that was found good."""

    row: Row
    seed: int
    text: str
    picture: Image.Image | None
    context: Context | None = None  # of a caption, where it was made ahead


def make_ready(job: Job, row: Row, seed: int) -> Ready:
    """The row with its picture read. Raises ValueError, saying why it is not good."""
    wants_text, wants_picture = NEEDS[job.task]
    text = (row.text or job.question).strip()
    if wants_text and not text:
        raise ValueError("its text is empty")
    if not wants_picture:
        return Ready(row, seed, text, None)
    if row.picture is None:
        raise ValueError("it has no picture")
    return Ready(row, seed, text, open_row_picture(row.picture))


def draw_pictures(pipeline: Pipeline, job: Job, rows: Sequence[Ready]) -> list[Image.Image]:
    """A picture of each row's prompt, drawn with the row's own seed."""
    contexts = pipeline.caption_contexts([row.text for row in rows])
    drawn = draw_rows(pipeline, contexts, [row.seed for row in rows], job.draw)
    return [rgb_image(picture) for picture in drawn]


def edit_pictures(pipeline: Pipeline, job: Job, rows: Sequence[Ready]) -> list[Image.Image]:
    """Each row's picture after its instruction, drawn with the row's own seed."""
    sources = [row.picture for row in rows if row.picture is not None]
    texts, seeds = [row.text for row in rows], [row.seed for row in rows]
    return edit(pipeline, sources, texts, seeds, job.draw, job.edit_by)


def caption_pictures(pipeline: Pipeline, job: Job, rows: Sequence[Ready]) -> list[str]:
    """The answer to each row's question about its picture."""
    llm = pipeline.llm
    contexts = [row.context or question_context(llm, row) for row in rows]
    sampling = SamplingParams(max_new_tokens=job.max_new_tokens)
    return generate(llm, contexts, sampling, in_words=True)


def with_context(llm: LanguageModel, row: Ready) -> Ready:
    """The row with its picture resized and its text tokenised, while the model works on others.

    A context that cannot be made is left to `caption_pictures`, which then says why.
    """
    with suppress(ValueError):
        return replace(row, context=question_context(llm, row))
    return row


def question_context(llm: LanguageModel, row: Ready) -> Context:
    """What is read before the caption of a row."""
    assert row.picture is not None  # `make_ready` saw to it
    pixels = torch.from_numpy(np.array(row.picture))  # (H, W, 3) uint8
    chat = Chat().say("user", fill_request(QUESTION_REQUEST, row.text, 1), [pixels])
    return chat_context(llm, chat)


@torch.no_grad()
def encode_pictures(pipeline: Pipeline, job: Job, rows: Sequence[Ready]) -> list[Tensor]:
    """CLIP features (C, g, g) of each."""
    size = pipeline.tower.config.image_size
    pixels = torch.cat([stretch_pictures(_tensor(row.picture)[None], size) for row in rows])
    return list(pipeline.tower.clip_features(pixels.to(pipeline.device, pipeline.dtype)).cpu())


def _tensor(picture: Image.Image | None) -> Tensor:
    """(H, W, 3) in [0, 1]"""
    assert picture is not None  # `make_ready` saw to it
    return torch.from_numpy(np.array(picture)).float() / 255


Work = Callable[[Pipeline, Job, Sequence[Ready]], Sequence[Any]]
TASKS: dict[str, Work] = {
    "generate": draw_pictures,
    "edit": edit_pictures,
    "caption": caption_pictures,
    "features": encode_pictures,
}
NEEDS = {  # text, picture
    "generate": (True, False),
    "edit": (True, True),
    "caption": (True, True),
    "features": (False, True),
}
SUFFIX = {"generate": "png", "edit": "png", "caption": "txt", "features": "npy"}


def to_bytes(result: Image.Image | str | Tensor) -> bytes:
    """PNG, UTF-8, or float16 in NumPy's own format."""
    if isinstance(result, str):
        return result.encode()
    buffer = io.BytesIO()
    if isinstance(result, Image.Image):
        result.save(buffer, "PNG")
    else:
        np.save(buffer, result.float().numpy().astype(np.float16))
    return buffer.getvalue()
