"""Inputs that several nodes share, and what comes in through them."""

from collections.abc import Mapping
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..blip3u_core.language.generate import SamplingParams
from ..blip3u_core.seeds import LARGEST_SEED
from .types import BLIP3U_CHAT, BLIP3U_LLM

MORE_IMAGES = tuple(f"image_{number}" for number in range(5, 17))


def llm_input() -> io.Input:
    return BLIP3U_LLM.Input("llm", tooltip="The language model: the llm output of Load BLIP3-U.")


def chat_input(tooltip: str) -> io.Input:
    return BLIP3U_CHAT.Input("chat", optional=True, tooltip=tooltip)


def image_inputs() -> list[io.Input]:
    """image, image_2, image_3, image_4: each a picture or a batch.

    Fixed, since inputs that grow are called `<group>.<name>`: saved workflows know `image_2`.
    """
    return [_image_input(name) for name in ("image", "image_2", "image_3", "image_4")]


def more_image_inputs() -> list[io.Input]:
    """image_5 to image_16, one more whenever the last is connected: {name: batch}.

    Host: from ComfyUI 0.8 on; nothing before.
    """
    host: Any = io
    names = getattr(getattr(host, "Autogrow", None), "TemplateNames", None)
    if names is None:
        return []
    # Host: 0.8 cannot read a template that is optional; with `min` 0 none is required anyway.
    template = names(_image_input("image", False), names=list(MORE_IMAGES), min=0)
    return [
        host.Autogrow.Input(
            "more_images",
            template=template,
            optional=True,
            tooltip="More pictures, after the first four; another socket appears whenever the last "
            "one is connected.",
        )
    ]


def _image_input(name: str, optional: bool = True) -> io.Input:
    return io.Image.Input(
        name,
        optional=optional,
        tooltip="A picture, or a batch whose pictures count one by one, in order. Any size; "
        "alpha is laid over white.",
    )


def pictures_in(*batches: Tensor | None, more: Mapping[str, Tensor] | None = None) -> list[Tensor]:
    """All pictures of the connected inputs, in order; (H, W, C) each."""
    grown = [more.get(name) for name in MORE_IMAGES] if more else []
    return [picture for batch in (*batches, *grown) if batch is not None for picture in batch]


def sampling_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "max_new_tokens",
            default=512,
            min=1,
            max=32768,
            tooltip="The answer ends here if it has not ended by itself. A token is about three "
            "quarters of an English word.",
        ),
        io.Float.Input(
            "temperature",
            default=0.0,
            min=0.0,
            max=2.0,
            step=0.05,
            tooltip="0 takes the likeliest word each time, so the seed does nothing. Around 0.7 "
            "varies with the seed; above 1 it rambles.",
        ),
        io.Float.Input(
            "top_p",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="With a temperature: choose only among the likeliest words that together have "
            "this probability. 0.9 cuts off odd words, 1 keeps all.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=LARGEST_SEED,
            control_after_generate=True,
            tooltip="Of the random choice of words; the answer about picture i uses seed + i.",
        ),
    ]


def sampling_of(max_new_tokens: int, temperature: float, top_p: float, seed: int) -> SamplingParams:
    return SamplingParams(max_new_tokens, temperature, top_p, seed)


def in_step(lists: dict[str, list]) -> list[dict]:
    """One run an entry of the longest list; shorter ones repeat their last, as in the host."""
    count = max(map(len, lists.values()), default=0)
    return [
        {name: values[min(index, len(values) - 1)] for name, values in lists.items() if values}
        for index in range(count)
    ]
