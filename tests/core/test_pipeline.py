"""What a script can do with blip3u-tiny: as much as the nodes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from blip3u_core.language.generate import SamplingParams
from blip3u_core.pipeline import Pipeline

FEW = {"feature_steps": 6, "decoder_steps": 4}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_checkpoint(Path(__file__).parents[2] / "models" / "blip3u-tiny")


@pytest.fixture(scope="module")
def picture(pipeline: Pipeline) -> Tensor:
    return pipeline.text_to_image("a big red circle on the left", seed=3, **FEW)


def test_a_mask_keeps_the_picture(pipeline: Pipeline, picture: Tensor) -> None:
    mask = torch.zeros(picture.shape[:3])
    kept = pipeline.edit(picture, "make the circle blue", mask, **FEW)
    height, width = picture.shape[1:3]
    mask[:, :, : width // 2] = 1
    half = pipeline.edit(picture, "make the circle blue", mask, **FEW)
    moved = (half - kept).abs().mean((0, 1, 3))  # of each column
    assert moved[: width // 2].mean() > 0.05
    assert moved[-height // 4 :].max() < 0.02


def test_an_edit_by_flow_moves_only_what_it_names(pipeline: Pipeline, picture: Tensor) -> None:
    captions = ("a big red circle on the left", "a big blue circle on the left")
    edited = pipeline.edit_by_flow(picture, descriptions=captions, **FEW)
    width = picture.shape[2]
    red, blue = edited[..., : width // 2, 0].mean(), edited[..., : width // 2, 2].mean()
    assert blue - red > (picture[..., : width // 2, 2] - picture[..., : width // 2, 0]).mean() + 0.1
    same = pipeline.edit_by_flow(picture, descriptions=(captions[0],) * 2, **FEW)
    assert (same - edited).abs().mean() > 0.01
    planned = pipeline.edit_by_flow(picture, "make the circle blue", keep_rest=False, **FEW)
    assert planned.shape == picture.shape


def test_init_features_and_denoise(pipeline: Pipeline, picture: Tensor) -> None:
    features, _ = pipeline.encode(picture)
    contexts = pipeline.caption_contexts(["a small green star"])
    near = pipeline.features_of(contexts, init=features, feature_denoise=0.1, **FEW)
    far = pipeline.features_of(contexts, **FEW)
    assert (near - features).norm() < (far - features).norm()


def test_text_and_pictures(pipeline: Pipeline, picture: Tensor) -> None:
    few_words = SamplingParams(max_new_tokens=24)
    thought = pipeline.reason("something round and red")
    assert thought.caption
    told = pipeline.interleave("draw a red circle", max_pictures=1, **FEW)
    assert len(told.pictures) == 1
    color = pipeline.answer("what color is the circle?", chat=told.chat, sampling=few_words)
    assert "red" in color
    assert color == pipeline.answer("what color is the circle?", chat=told.chat)
    assert "red" in pipeline.answer("what color is the circle?", picture[0])
    again = pipeline.continue_chat(told.chat.say("user", "make the circle blue"), **FEW)
    assert again.shape == picture.shape
    assert "blue" in pipeline.answer("what color is the circle?", again[0])
