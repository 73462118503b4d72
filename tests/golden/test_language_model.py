"""Visual tokens and answers against the reference's golden numbers.

Limits: the oracle suggests 2e-5 for visual tokens; float32 rounding of another order of sums is
below 5e-6 here, so the tests ask for 1e-5. Token ids, pixel values and positions are exact.
"""

import json
import re
from functools import cache

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from blip3u_core.language.context import Context, read_context
from blip3u_core.language.generate import ContextReader, SamplingParams, generate, generate_tokens
from blip3u_core.language.model import LanguageModel, build_language_model
from blip3u_core.language.text_model import KeyValueCache
from blip3u_core.language.tokenizer import TextTokenizer
from blip3u_core.language.visual_tokens import visual_tokens
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE

CASES = json.loads((ORACLE / "goldens" / "cases.json").read_text(encoding="utf-8"))
DRAWN = ["t2i", "neg", "long", "unicode", "plain", "edit448", "edit_small"]
LIMIT = 1e-5


@cache
def goldens(name: str) -> dict[str, Tensor]:
    return load_file(ORACLE / "goldens" / f"{name}.safetensors")


@pytest.fixture(scope="module", params=["checkpoint", "checkpoint_sharded"])
def llm(request: pytest.FixtureRequest) -> LanguageModel:
    checkpoint = open_checkpoint(ORACLE / request.param)
    return build_language_model(checkpoint.llm, checkpoint.assets, checkpoint.generation_config)


def text_of(case: str) -> str:
    """The case's text with one mark per picture instead of one per picture token."""
    return re.sub(r"(<\|image_pad\|>)+", "<|image_pad|>", CASES[case]["text"])


def context_of(llm: LanguageModel, case: str, golden: str) -> Context:
    picture = goldens(golden).get(f"{case}.image_uint8")
    return read_context(
        llm,
        text_of(case),
        [] if picture is None else [picture],
        for_drawing=golden == "llm",
        keep_shape=case == "edit_small",
    )


def largest_difference(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return (got - expected).abs().max().item()


@pytest.mark.parametrize("case", DRAWN)
def test_token_ids(llm: LanguageModel, case: str) -> None:
    ids = [*context_of(llm, case, "llm").ids, llm.tokenizer.img_token_id]
    assert ids == goldens("llm")[f"{case}.input_ids"][0].tolist()


@pytest.mark.parametrize("case", [*DRAWN, "vqa_image", "vqa_text"])
def test_the_older_tokenizer_files_give_the_same(llm: LanguageModel, case: str) -> None:
    assets = open_checkpoint(ORACLE / "checkpoint").assets
    older = TextTokenizer({name: assets[name] for name in assets if name != "tokenizer.json"})
    ids = llm.tokenizer.encode(text_of(case))
    assert older.encode(text_of(case)) == ids
    assert older.decode(ids) == llm.tokenizer.decode(ids)
    assert older.decode(ids, keep_special=True) == text_of(case)


@pytest.mark.parametrize(
    ("case", "golden", "key", "every"),
    [
        ("edit448", "llm", "pixel_values_every64th", 64),
        ("edit_small", "llm", "pixel_values", 1),
        ("vqa_image", "vqa", "pixel_values", 1),
    ],
)
def test_pixel_values(llm: LanguageModel, case: str, golden: str, key: str, every: int) -> None:
    (picture,) = context_of(llm, case, golden).pictures
    assert torch.equal(picture.patches()[::every], goldens(golden)[f"{case}.{key}"])
    assert [1, *picture.grid] == goldens(golden)[f"{case}.image_grid_thw"][0].tolist()


@pytest.mark.parametrize(("case", "every"), [("edit448", 16), ("edit_small", 1)])
def test_image_embeddings(llm: LanguageModel, case: str, every: int) -> None:
    (picture,) = context_of(llm, case, "llm").pictures
    embeds = llm.encode_images(picture.patches(), [picture.grid])[::every]
    assert largest_difference(embeds, goldens("llm")[f"{case}.image_embeds"]) < LIMIT


@pytest.mark.parametrize("case", DRAWN)
def test_visual_tokens(llm: LanguageModel, case: str) -> None:
    got = visual_tokens(llm, [context_of(llm, case, "llm")])
    assert largest_difference(got, goldens("llm")[f"{case}.visual_tokens"]) < LIMIT


def test_visual_tokens_of_all_cases_in_one_batch(llm: LanguageModel) -> None:
    got = visual_tokens(llm, [context_of(llm, case, "llm") for case in DRAWN])
    expected = torch.cat([goldens("llm")[f"{case}.visual_tokens"] for case in DRAWN])
    assert largest_difference(got, expected) < LIMIT


@pytest.mark.parametrize("case", ["vqa_image", "vqa_text"])
class TestAnswer:
    def test_ids_and_positions(self, llm: LanguageModel, case: str) -> None:
        context = context_of(llm, case, "vqa")
        assert list(context.ids) == goldens("vqa")[f"{case}.input_ids"][0].tolist()
        assert torch.equal(context.position_ids(), goldens("vqa")[f"{case}.position_ids"][:, 0])

    def test_first_logits(self, llm: LanguageModel, case: str) -> None:
        with torch.no_grad():
            hidden = ContextReader(llm, [context_of(llm, case, "vqa")], None).read_contexts()
            logits = llm.logits(hidden)
        assert largest_difference(logits, goldens("vqa")[f"{case}.first_logits"]) < LIMIT

    @pytest.mark.parametrize("penalty", ["1.0", "1.05"])
    def test_greedy_tokens(self, llm: LanguageModel, case: str, penalty: str) -> None:
        sampling = SamplingParams(20, repetition_penalty=float(penalty))
        (ids,) = generate_tokens(llm, [context_of(llm, case, "vqa")], sampling)
        assert ids == goldens("vqa")[f"{case}.new_ids.rp{penalty}"][0].tolist()

    def test_the_checkpoints_own_penalty_is_the_default(
        self, llm: LanguageModel, case: str
    ) -> None:
        (text,) = generate(llm, [context_of(llm, case, "vqa")], SamplingParams(20))
        assert text == CASES[case]["answer_rp1.05"]


def test_answers_of_a_batch_are_those_of_single_runs(llm: LanguageModel) -> None:
    contexts = [context_of(llm, case, "vqa") for case in ("vqa_image", "vqa_text")]
    together = generate_tokens(llm, contexts, SamplingParams(20, repetition_penalty=1.0))
    for case, ids in zip(("vqa_image", "vqa_text"), together, strict=True):
        assert ids == goldens("vqa")[f"{case}.new_ids.rp1.0"][0].tolist()


def test_reading_in_two_parts_equals_reading_at_once(llm: LanguageModel) -> None:
    ids = goldens("llm")["long.input_ids"]
    embeds, positions = llm.embed(ids), torch.arange(ids.shape[1]).expand(3, 1, -1)
    whole = llm.model(embeds, positions)
    cache = KeyValueCache(llm.config.num_layers)
    first = llm.model(embeds[:, :100], positions[..., :100], cache=cache)
    second = llm.model(embeds[:, 100:], positions[..., 100:], cache=cache)
    assert largest_difference(torch.cat((first, second), dim=1), whole) < LIMIT
