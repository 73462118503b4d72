"""`python -m benchmarks.speed.million`: what a million pictures or captions cost, estimated.

From the same counted work as `benchmarks.speed.paper`; nothing of it was measured on a GPU.
"""

from collections.abc import Iterator

from .cost import GPUS, StageCost
from .paper import BF16, Choice, stages
from .stages import ANSWER_TOKENS, ModelWork

H100 = GPUS[0]
MILLION = 1_000_000
BATCH = 16  # captions at once
GRIDS = {448: (32, 32), 1024: (74, 74)}  # patches of 14 pixels, in whole tokens of 2 x 2


def picture_seconds(decoder_steps: int) -> float:
    """A picture of 1024 x 1024 of the 8B on an H100, each with a prompt of its own."""
    choice = Choice("", decoder_steps=decoder_steps / 50)
    return choice.seconds(choice.parts({("8b", BF16): stages("8b")}), H100, new_prompt=True)


def caption_seconds(side: int) -> float:
    """A caption of a photo of side x side, in a batch: the weights are read once for all."""
    model = ModelWork("8b")
    work = model.answer(GRIDS[side], BATCH)
    return StageCost("", work, 2 * model.llm_parameters, ANSWER_TOKENS).seconds(H100) / BATCH


def line(name: str, seconds: float) -> str:
    """A row of the table, of what each of the million takes."""
    hours = MILLION * seconds / 3600
    cells = [f"{1 / seconds:.2g} /s", *(f"{hours / gpus:.2g} h" for gpus in (8, 64))]
    return f"| {name} | " + " | ".join([*cells, f"{hours:.0f}"]) + " |"


def caption_line(side: int) -> str:
    name = f"captions of {ANSWER_TOKENS} tokens, photos of {side} x {side}, batch {BATCH}"
    return line(name, caption_seconds(side))


def table() -> Iterator[str]:
    yield "| a million | a GPU | 8 H100 | 64 H100 | GPU-hours |"
    yield "|---|--:|--:|--:|--:|"
    yield line("pictures of 1024 x 1024, 50 decoder steps", picture_seconds(50))
    yield line("the same, 25 decoder steps", picture_seconds(25))
    yield from map(caption_line, GRIDS)


if __name__ == "__main__":
    print("\n".join(table()))
