"""Building the language model: real sizes, and configs and tokenizers that do not fit."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from blip3u_core.language.model import build_language_model
from blip3u_core.language.tokenizer import TextTokenizer
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE

ASSETS = dict(open_checkpoint(ORACLE / "checkpoint").assets)


class MetaStage:
    """A stage of which only names and shapes are known."""

    def __init__(self, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        self.config = config
        self._shapes = shapes

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def state_dict(self) -> dict[str, Tensor]:
        return {
            name: torch.empty(shape, dtype=torch.bfloat16, device="meta")
            for name, shape in self._shapes.items()
        }


def published(size: str) -> MetaStage:
    """The language model's part of a published checkpoint's manifest."""
    manifest = json.loads((ORACLE / "manifests" / f"manifest_{size}.json").read_text())
    shapes = {
        name.replace("model.latent_queries", "latent_queries"): tuple(shape)
        for name, (shape, _) in manifest["keys"].items()
        if not name.startswith("model.dit.")
    }
    of_its_tokenizer = {"eos_token_id": None, "image_token_id": None}  # here is the tiny one's
    return MetaStage({**manifest["config"], **of_its_tokenizer}, shapes)


def tiny(**changes: Any) -> MetaStage:
    stage = open_checkpoint(ORACLE / "checkpoint").llm
    return MetaStage({**stage.config, **changes}, stage.shapes())


def build(stage: MetaStage, assets: dict[str, str] | None = None) -> Any:
    return build_language_model(
        stage, ASSETS if assets is None else assets, dtype=torch.bfloat16, device="meta"
    )


@pytest.mark.parametrize(("size", "billions"), [("8b", 8.29), ("4b", 3.75)])
def test_the_real_sizes_take_every_weight(size: str, billions: float) -> None:
    llm = build(published(size))
    assert sum(p.numel() for p in llm.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)
    assert all(parameter.is_meta for parameter in llm.parameters())
    assert not list(llm.buffers())


@pytest.mark.parametrize("present", [True, False])
def test_a_tied_head_may_be_in_the_file_or_not(present: bool) -> None:
    stage = published("4b")
    if not present:
        del stage._shapes["lm_head.weight"]
    assert build(stage).lm_head is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 10**15}, "hidden_size 1000000000000000"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers 1000000, expected"),
        ({"num_hidden_layers": -1}, "num_hidden_layers -1"),
        ({"hidden_size": "64"}, "hidden_size '64'"),
        ({"intermediate_size": 96}, "of another shape"),
        ({"num_key_value_heads": 3}, "numbers that divide"),
        ({"vision_config": None}, "no `vision_config`"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_type 'yarn'"),
        ({"rope_scaling": {"mrope_section": [1, 1, 1]}}, "must sum to 8"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"eos_token_id": 5}, "eos_token_id 5, which tokenizer.json"),
        ({"image_token_id": 640}, "image_token_id 640, which tokenizer.json"),
        ({"use_sliding_window": True}, "use_sliding_window True"),
    ],
)
def test_configs_that_do_not_fit_are_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(tiny(**changes))


def test_a_head_that_is_not_tied_is_told() -> None:
    stage = open_checkpoint(ORACLE / "checkpoint").llm  # it has a head of its own
    tied = replace(stage, config={**stage.config, "tie_word_embeddings": True})
    with pytest.raises(ValueError, match=r"tie_word_embeddings True, but .* another lm_head"):
        build_language_model(tied, ASSETS)


def test_missing_and_unexpected_weights_are_told() -> None:
    stage = tiny()
    stage._shapes["model.layers.0.extra.weight"] = stage._shapes.pop("model.norm.weight")
    with pytest.raises(ValueError, match=r"1 missing \(model.norm.weight\), 1 unexpected"):
        build(stage)


def test_configs_of_newer_transformers_are_read() -> None:
    stage = tiny()
    text = {name: value for name, value in stage.config.items() if name != "vision_config"}
    rope = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    nested = {
        "text_config": {**text, "rope_parameters": rope},
        "vision_config": stage.config["vision_config"],
    }
    assert build(MetaStage(nested, stage.shapes())).config == build(stage).config


class TestTokenizer:
    def test_without_img_it_is_told(self) -> None:
        content = json.loads(ASSETS["tokenizer.json"])
        content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != "[IMG]"]
        with pytest.raises(ValueError, match=r"not \[IMG\] \(the token that asks for a picture\)"):
            TextTokenizer({"tokenizer.json": json.dumps(content)})

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"tokenizer.json": "{"}, "tokenizer.json is not JSON"),
            ({"tokenizer.json": "{}"}, "tokenizer.json cannot be read"),
            ({"vocab.json": "[", "merges.txt": ""}, "vocab.json is not JSON"),
            ({"vocab.json": "{}", "merges.txt": "a b c"}, "merges.txt says"),
        ],
    )
    def test_broken_files_are_told(self, files: dict[str, str], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            TextTokenizer(files)

    def test_no_files_are_told(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json, or vocab\.json"):
            TextTokenizer({"preprocessor_config.json": "{}"})

    def test_a_tokenizer_of_a_larger_model_is_told(self) -> None:
        content = json.loads(ASSETS["tokenizer.json"])
        more = {**content["added_tokens"][-1], "id": 665, "content": "<more>"}
        content["added_tokens"].append(more)
        with pytest.raises(ValueError, match="has 666 tokens, the language model knows 665"):
            build(tiny(), {"tokenizer.json": json.dumps(content)})

    def test_a_streamed_text_waits_for_whole_characters(self) -> None:
        tokenizer = TextTokenizer(ASSETS)
        ids = tokenizer.encode("日本")
        assert tokenizer.decode(ids[:-1], unfinished=True).startswith("日")
        assert "\N{REPLACEMENT CHARACTER}" not in tokenizer.decode(ids[:-1], unfinished=True)
        assert tokenizer.decode(ids) == "日本"
