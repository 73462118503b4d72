"""Pictures of every kind reach the language model, or the message says why not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blip3u_core.images import frozen, rgb_image
from blip3u_core.language.context import read_context
from blip3u_core.language.image_processing import process_image, smart_resize
from blip3u_core.language.model import LanguageModel
from blip3u_core.language.prompt import PICTURE
from blip3u_core.language.visual_tokens import visual_tokens
from blip3u_core.pipeline import Pipeline

TINY = Path(__file__).parents[2] / "models" / "blip3u-tiny"


def solid(*values: float, size: tuple[int, int] = (4, 6)) -> Tensor:
    return torch.tensor(values).expand(*size, len(values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.2,), (51, 51, 51)),  # grey
        ((0.2, 0.5), (153, 153, 153)),  # grey with alpha, over white (alpha 128 / 255)
        ((1.0, 0.0, 0.2), (255, 0, 51)),
        ((1.0, 0.0, 0.2, 0.0), (255, 255, 255)),  # all transparent
        ((1.0, 0.0, 0.2, 1.0), (255, 0, 51)),
        ((2.0, -1.0, 0.5), (255, 0, 128)),  # out of range
    ],
)
def test_every_picture_becomes_rgb(values: tuple, expected: tuple) -> None:
    assert rgb_image(solid(*values)).getpixel((0, 0)) == expected


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (solid(float("nan"), 0.0, 0.0), "24 values that are NaN or infinite"),
        (solid(float("inf")), "NaN or infinite"),
        (torch.zeros(4, 4), "has shape"),
        (torch.zeros(4, 4, 5), "1 to 4 channels"),
        (torch.zeros(0, 4, 3), "has shape"),
        (torch.zeros(1, 4, 4, 3), "one picture of an IMAGE batch"),
    ],
)
def test_what_is_no_picture_is_told(picture: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rgb_image(picture)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (56, 56)),
        ((448, 448), (448, 448)),
        ((90, 120), (84, 112)),
        ((4320, 7680), (2688, 4760)),  # 8k, within 12.8 million pixels
        ((1, 150), (28, 700)),
    ],
)
def test_reading_size(llm: LanguageModel, size: tuple, expected: tuple) -> None:
    rows, columns = smart_resize(*size, llm.image_config)
    assert (rows, columns) == expected
    assert rows * columns <= llm.image_config.max_pixels


def test_a_thread_of_a_picture_is_told(llm: LanguageModel) -> None:
    with pytest.raises(ValueError, match="1000 x 2; the longer side may be at most 200 times"):
        process_image(torch.zeros(2, 1000, 3), llm.image_config)


@pytest.mark.parametrize("size", [(1, 1), (4320, 7680), (1, 90)])
def test_any_size_can_be_drawn_from(llm: LanguageModel, size: tuple) -> None:
    picture = torch.zeros(*size, 3, dtype=torch.uint8)
    context = read_context(llm, PICTURE, [picture], for_drawing=True)
    assert visual_tokens(llm, [context]).isfinite().all()


def test_settings_of_the_processor_are_obeyed(llm: LanguageModel) -> None:
    settings = replace(llm.image_config, min_pixels=16384, max_pixels=16384)
    assert smart_resize(100, 100, settings) == (140, 140)  # up to whole tokens of 28 pixels
    assert smart_resize(1000, 1000, settings) == (112, 112)


def test_a_checkpoint_of_one_size_reads_wide_pictures_as_that_square():
    config = Pipeline.from_checkpoint(TINY).llm.image_config
    assert config.only_side == 126
    read = [process_image(torch.rand(*size, 3), config) for size in ((128, 160), (300, 128))]
    assert [picture.pixels.shape for picture in read] == [(126, 126, 3)] * 2
    assert [picture.num_tokens for picture in read] == [9, 9]
    assert replace(config, max_pixels=config.max_pixels + 1).only_side is None


def test_a_frozen_picture_is_processed_once(llm: LanguageModel) -> None:
    picture = torch.rand(30, 40, 3)
    kept = frozen(picture)
    picture.zero_()
    assert kept.dtype == torch.uint8
    assert kept.float().mean() > 90
    assert frozen(kept) is kept
    once = process_image(kept, llm.image_config)
    assert process_image(kept, llm.image_config) is once
    assert process_image(kept, llm.image_config, side=64).digest != once.digest
    changed = kept.clone()
    assert process_image(changed, llm.image_config).digest == once.digest
    changed.zero_()
    assert process_image(changed, llm.image_config).digest != once.digest
