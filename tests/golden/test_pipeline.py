"""The host-free pipeline against the reference, from text to pixels, and its own promises.

Limits: pictures measured 3e-6 off, 8-bit values at most 1; the golden set suggests 1e-4 and 1.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from blip3u_core.convert import convert
from blip3u_core.language.context import read_context
from blip3u_core.language.generate import SamplingParams
from blip3u_core.pipeline import Pipeline

ORACLE = Path(__file__).parent / "oracle"
TOWER = ORACLE / "eva_clip_vision_tower"
FEW = {"feature_steps": 3, "decoder_steps": 2, "size": (32, 32)}
PICTURE_LIMIT = {"atol": 2e-5, "rtol": 0}


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline.from_checkpoint(ORACLE / "checkpoint", vision_tower=TOWER)


@pytest.fixture(scope="module")
def chain():
    return load_file(ORACLE / "goldens" / "chain.safetensors")


@pytest.mark.parametrize("case", ["c10", "c50"])
def test_text_to_pixels_equals_the_reference(pipeline, chain, case):
    told = json.loads((ORACLE / "goldens" / "cases.json").read_text())[case]
    context = read_context(pipeline.llm, told["inputs"][0], for_drawing=True)
    features = pipeline.features_of([context], chain[f"{case}.clip_noise"])
    negative = pipeline.negative_features(chain[f"{case}.neg_clip_noise"])
    tokens = torch.cat([features, negative]).flatten(2).transpose(1, 2)
    assert_close(tokens, chain[f"{case}.prompt_embeds"], atol=1e-4, rtol=0)
    noise = chain[f"{case}.latent_noise"]
    steps = {"decoder_steps": told["steps"], "size": (told["height"], told["width"])}
    picture = pipeline.decode(features, negative, noise, **steps)
    assert_close(picture, chain[f"{case}.image"], **PICTURE_LIMIT)
    as_bytes = (picture[0] * 255).round()
    assert_close(as_bytes, chain[f"{case}.image_uint8"].float(), atol=1, rtol=0)


def test_picture_to_picture_equals_the_reference(pipeline):
    golden = load_file(ORACLE / "goldens" / "reconstruct.safetensors")
    features, negative = pipeline.encode(golden["uint8"][None])
    steps = {"decoder_steps": 10, "size": (32, 32)}
    picture = pipeline.decode(features, negative, golden["latent_noise"], **steps)
    assert_close(picture, golden["image"], **PICTURE_LIMIT)


def test_answer_equals_the_reference(pipeline):
    golden = load_file(ORACLE / "goldens" / "vqa.safetensors")
    sampling = SamplingParams(max_new_tokens=20, repetition_penalty=1.0)
    picture = golden["vqa_image.image_uint8"]
    text = pipeline.answer("What is in this picture?", picture, sampling=sampling)
    expected = pipeline.llm.tokenizer.decode(golden["vqa_image.new_ids.rp1.0"][0].tolist())
    assert text == expected


def test_a_picture_of_a_batch_is_the_picture_alone(pipeline):
    prompts = ["a cat", "a much longer prompt about two dogs and a house", "a bird"]
    together = pipeline.text_to_image(prompts, seed=5, batch_size=2, **FEW)
    alone = pipeline.text_to_image(prompts[2], seed=7, **FEW)
    assert together.shape == (3, 32, 32, 3)
    assert_close(together[2:], alone, **PICTURE_LIMIT)


def test_edit_and_variation_take_batches(pipeline):
    pictures = torch.rand(2, 40, 60, 3)
    assert pipeline.edit(pictures, "make it night", **FEW).shape == (2, 32, 32, 3)
    assert pipeline.image_variation(pictures, decoder_steps=2).shape == (2, 32, 32, 3)


def test_negative_features_are_made_once(pipeline, monkeypatch):
    first = pipeline.negative_features(feature_steps=2)
    monkeypatch.setattr(Pipeline, "features_of", None)
    assert pipeline.negative_features(feature_steps=2, seed=99) is first


def test_a_converted_checkpoint_draws_the_same_picture(pipeline, tmp_path):
    convert(ORACLE / "checkpoint", tmp_path)
    again = Pipeline.from_checkpoint(tmp_path)
    assert torch.equal(again.text_to_image("a cat", **FEW), pipeline.text_to_image("a cat", **FEW))


def test_fp8_storage_still_draws(tmp_path):
    convert(ORACLE / "checkpoint", tmp_path, "fp8_e4m3fn")
    picture = Pipeline.from_checkpoint(tmp_path).text_to_image("a cat", **FEW)
    assert picture.isfinite().all()


def test_a_missing_part_is_an_error_only_when_needed(tmp_path):
    text_only = Pipeline.from_checkpoint(ORACLE / "checkpoint_sharded")
    assert isinstance(text_only.answer("Hello?", sampling=SamplingParams(max_new_tokens=2)), str)
    with pytest.raises(FileNotFoundError, match="diffusion-decoder"):
        text_only.text_to_image("a cat", **FEW)
    with pytest.raises(FileNotFoundError, match="vision_tower"):
        text_only.encode(torch.rand(1, 8, 8, 3))
