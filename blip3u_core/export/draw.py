"""Draw the items of a benchmark; what lies there already is kept."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..chat.chat import Chat
from ..chat.dialogue import drawing_context
from ..images import rgb_image
from ..pipeline import Pipeline
from ..run_settings import draw_rows
from .items import Item

OnItems = Callable[[int], object]


def export(
    pipeline: Pipeline,
    items: Iterable[Item],
    seed: int,
    settings: Mapping[str, Any],
    edit_by: str = "instruction",
    batch_size: int = 8,
    on_items: OnItems | None = None,
) -> None:
    """Write the pictures of all items that are not whole yet.

    Picture i of an item is drawn with the seed + i, the same for every item. Items are drawn in
    groups that do not depend on what lies there, so that a resumed run writes the same bytes.

    Args:
        edit_by: "instruction", in context, or "flow", by the features of two descriptions.
        on_items: called with the number of items that are done.
    """
    for group in _groups(items, batch_size):
        missing = [item for item in group if not item.last.exists()]
        if missing:
            pictures = _draw(pipeline, group, seed, settings, edit_by)
            for item in missing:
                item.save(pictures[id(item)])
        if on_items is not None:
            on_items(len(group))


def _groups(items: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    """Items that are drawn together: about `batch_size` pictures."""
    rest = iter(items)
    while first := next(rest, None):
        more = max(batch_size // first.count, 1) - 1
        yield [first, *islice(rest, more)]


def _draw(
    pipeline: Pipeline, group: Sequence[Item], seed: int, settings: Mapping[str, Any], edit_by: str
) -> dict[int, list[Image.Image]]:
    """The pictures of each item, by its id."""
    if group[0].source is not None:
        sources = [item.source() for item in group if item.source is not None]
        drawn = edit(
            pipeline, sources, [i.prompt for i in group], [seed] * len(group), settings, edit_by
        )
        return {id(item): [picture] for item, picture in zip(group, drawn, strict=True)}
    contexts = [
        context
        for item, context in zip(
            group, pipeline.caption_contexts([item.prompt for item in group]), strict=True
        )
        for context in [context] * item.count
    ]
    seeds = [seed + index for item in group for index in range(item.count)]
    pictures = iter(draw_rows(pipeline, contexts, seeds, settings))
    return {id(item): [rgb_image(p) for p in islice(pictures, item.count)] for item in group}


def edit(
    pipeline: Pipeline,
    sources: Sequence[Image.Image],
    instructions: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    edit_by: str,
) -> list[Image.Image]:
    """Each source changed as its instruction says, in the source's own size.

    The model sees and draws squares: what it draws is stretched back to the source's shape.
    """
    if edit_by == "instruction":
        contexts = [
            drawing_context(pipeline.llm, Chat(), "instruction", text, [_tensor(source)])
            for source, text in zip(sources, instructions, strict=True)
        ]
        drawn = list(draw_rows(pipeline, contexts, seeds, settings))
    else:
        height, width = pipeline.settings(**settings).size or pipeline.decoder.picture_size
        drawn = [
            pipeline.edit_by_flow(
                _tensor(source.resize((width, height), Image.Resampling.BICUBIC))[None],
                text,
                **{**settings, "seed": seed},
            )[0]
            for source, text, seed in zip(sources, instructions, seeds, strict=True)
        ]
    return [
        rgb_image(picture).resize(source.size, Image.Resampling.BICUBIC)
        for picture, source in zip(drawn, sources, strict=True)
    ]


def _tensor(picture: Image.Image) -> Tensor:
    """(H, W, 3) in [0, 1]"""
    return torch.from_numpy(np.array(picture)).float() / 255
