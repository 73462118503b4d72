"""Bytes of the published stages' weights as the converter writes them, counted from shapes."""

import math
from collections.abc import Mapping

from blip3u_core.weights.precision import fits_8_bits
from blip3u_core.weights.quantized import FORMATS, Quantizer

from .stages import ModelWork, manifest, meta

KINDS = ("bf16", *FORMATS)
Shapes = Mapping[str, tuple[int, ...]]


def gigabytes(stage: str, shapes: Shapes, kind: str) -> float:
    """Of a stage's weights in bfloat16, or as the converter writes them in `kind`."""
    if kind == "bf16":
        return 2 * sum(map(math.prod, shapes.values())) / 1e9
    change = Quantizer(stage, kind, tied=stage == "llm" and "lm_head.weight" not in shapes)
    written = (
        entry
        for name, shape in shapes.items()
        for entry in change.entries(name, meta(*shape)).values()
    )
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape in written) / 1e9


def published_shapes(size: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes by stage, as in our files."""
    model = ModelWork(size)
    everything = model.shapes("")
    unet = manifest("decoder_unet")["keys"]
    tied = model.manifest["config"]["tie_word_embeddings"]
    return {
        "llm": {
            name: shape
            for name, shape in everything.items()
            if not name.startswith("model.dit.") and not (tied and name.startswith("lm_head"))
        },
        "dit": model.shapes("model.dit.model."),
        "unet": {name: tuple(shape) for name, (shape, _) in unet.items()},
    }


def small_numbers(stage: str, shapes: Shapes) -> int:
    """How many numbers the matrices of layers have: those that are kept in 8 bits or less."""
    return sum(
        math.prod(shape) for name, shape in shapes.items() if fits_8_bits(stage, name, len(shape))
    )
