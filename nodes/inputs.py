"""Inputs that several nodes share, and what comes in through them."""

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..blip3u_core.language.generate import SamplingParams
from ..blip3u_core.seeds import LARGEST_SEED
from .types import BLIP3U_CHAT, BLIP3U_LLM


def llm_input() -> io.Input:
    return BLIP3U_LLM.Input("llm", tooltip="The language model: the llm output of Load BLIP3-U.")


def chat_input(tooltip: str) -> io.Input:
    return BLIP3U_CHAT.Input("chat", optional=True, tooltip=tooltip)


def image_inputs() -> list[io.Input]:
    """image, image_2, image_3, image_4: each a picture or a batch.

    Not the Autogrow of newer hosts: it names its inputs `<group>.<name>`, so that a workflow which
    uses `image_2` would open without its picture, and one saved there would on older hosts.
    """
    return [
        io.Image.Input(
            name,
            optional=True,
            tooltip="A picture, or a batch whose pictures count one by one, in order. Any size; "
            "alpha is laid over white.",
        )
        for name in ("image", "image_2", "image_3", "image_4")
    ]


def pictures_in(*batches: Tensor | None) -> list[Tensor]:
    """All pictures of the connected inputs, in order; (H, W, C) each."""
    return [picture for batch in batches if batch is not None for picture in batch]


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
