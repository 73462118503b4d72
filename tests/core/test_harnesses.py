"""BLIP3-U as a model of lmms-eval and VLMEvalKit, whose own classes are stand-ins here.

tests/compat/lmms_eval_scores.py runs the real lmms-eval.
"""

import importlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import chat_context
from blip3u_core.harnesses.answering import Question, answer_all, likelihoods
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.prefill import prefill
from blip3u_core.language.prompt import QUESTION_REQUEST, fill_request
from blip3u_core.pipeline import Pipeline
from blip3u_core.run_settings import BUILT_IN
from small_world.world import render, sample_scene

TEXT = "What color is the circle?"
FEW = {"max_new_tokens": 12, "until": ["\n\n"]}


class StandIn:
    """A base class of the harnesses, as far as we use it."""

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}
        self.cached: list[tuple] = []
        self.cache_hook = SimpleNamespace(add_partial=lambda *given: self.cached.append(given))


def stand_in_modules() -> dict[str, ModuleType]:
    classes = {
        "accelerate": {
            "Accelerator": lambda: SimpleNamespace(local_process_index=0, num_processes=1)
        },
        "lmms_eval.api.instance": {
            "Instance": SimpleNamespace,
            "GenerationResult": lambda text: SimpleNamespace(text=text),
        },
        "lmms_eval.api.model": {"lmms": StandIn},
        "lmms_eval.models.registry_v2": {
            "ModelManifest": lambda model_id, **more: SimpleNamespace(model_id=model_id, **more)
        },
        "vlmeval.vlm.base": {"BaseModel": StandIn},
    }
    modules = {}
    for name, values in classes.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            modules.setdefault(part, ModuleType(part))
        vars(modules[name]).update(values)
    return modules


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_checkpoint(BUILT_IN)


@pytest.fixture(scope="module")
def harnesses(pipeline: Pipeline) -> Iterator[SimpleNamespace]:
    """Our modules beside the stand-ins; the model is read once."""
    paths = {n: f"blip3u_core.harnesses.{n}" for n in ("lmms_eval", "vlmevalkit")}
    with pytest.MonkeyPatch.context() as patched:
        for name, module in stand_in_modules().items():
            patched.setitem(sys.modules, name, module)
        ours = {name: importlib.import_module(path) for name, path in paths.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Pipeline, "from_checkpoint", lambda *_: pipeline)
        yield SimpleNamespace(**ours)
    for path in paths.values():
        del sys.modules[path]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    scenes = [sample_scene(random.Random(seed), "held_out") for seed in (1, 2)]
    return [Image.fromarray(render(scene)) for scene in scenes]


@pytest.fixture
def model(harnesses: SimpleNamespace, pictures: list[Image.Image]) -> Any:
    made = harnesses.lmms_eval.Blip3U("anywhere", batch_size="2")
    docs = [{"picture": picture, "answer": "red"} for picture in pictures]
    made.task_dict = {"task": {"test": docs}}
    return made


def visuals(doc: dict[str, Any]) -> list[Image.Image]:
    return [doc["picture"]]


def request(*arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(args=arguments)


def alone(pipeline: Pipeline, text: str, picture: Image.Image) -> str:
    pixels = torch.from_numpy(np.array(picture)).float() / 255
    return pipeline.answer(text, pixels, sampling=SamplingParams(max_new_tokens=12))


# -------------------------------------------------------------------------- lmms-eval


def test_the_manifest_names_the_class(harnesses: SimpleNamespace) -> None:
    manifest = harnesses.lmms_eval.manifest()
    module, name = manifest.simple_class_path.rsplit(".", 1)
    assert manifest.model_id == "blip3u"
    assert getattr(sys.modules[module], name) is harnesses.lmms_eval.Blip3U


def test_generate_until_answers_in_the_order_of_the_requests(
    model: Any, pipeline: Pipeline, pictures: list[Image.Image]
) -> None:
    texts = [f"{TEXT} Answer in a word.", "What is there?", TEXT]
    where = [0, 1, 1]
    requests = [
        request(text, FEW, visuals, index, "task", "test")
        for text, index in zip(texts, where, strict=True)
    ]
    answers = model.generate_until(requests)
    assert answers == [
        alone(pipeline, text, pictures[index]) for text, index in zip(texts, where, strict=True)
    ]
    assert len(set(answers)) > 1
    assert sorted(given[2] for given in model.cached) == sorted(answers)


def test_stop_words_end_an_answer_but_for_the_dropped_one(
    harnesses: SimpleNamespace, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harnesses.lmms_eval, "answer_all", lambda *_: ["one\n\ntwo. three"])
    settings = {"until": ["\n\n", "."]}
    assert model.generate_until([request(TEXT, settings, visuals, 0, "task", "test")]) == [
        "one\n\ntwo"
    ]


def test_a_video_and_an_unknown_argument_are_refused(
    harnesses: SimpleNamespace, model: Any
) -> None:
    shows = request(TEXT, FEW, lambda doc: ["film.mp4"], 0, "task", "test")
    with pytest.raises(ValueError, match="the task shows str, expected pictures"):
        model.generate_until([shows])
    with pytest.raises(ValueError, match="--model_args says beams, expected pretrained"):
        harnesses.lmms_eval.Blip3U("anywhere", beams=3)


def test_multi_round_asks_until_the_task_ends(
    model: Any, pipeline: Pipeline, pictures: list[Image.Image]
) -> None:
    seen = []

    def doc_to_text(
        doc: dict, previous_output: list[str], round_idx: int, previous_round_info: object
    ) -> tuple:
        """The second round shows the other picture; the third does not come."""
        seen.append((list(previous_output), round_idx, previous_round_info))
        if round_idx == 1:
            return [pictures[1]], TEXT, False, previous_output, {"asked": 1}
        return None, None, True, [*previous_output, "the end"], None

    arguments = ("What is there?", FEW, visuals, doc_to_text, 0, "task", "test")
    (said,) = model.generate_until_multi_round([request(*arguments)])
    wanted = [alone(pipeline, "What is there?", pictures[0]), alone(pipeline, TEXT, pictures[1])]
    assert said == [*wanted, "the end"]
    assert seen == [(wanted[:1], 1, None), (wanted, 2, {"asked": 1})]


def test_loglikelihood_of_choices_of_targets_and_without_a_picture(
    model: Any, pipeline: Pipeline, pictures: list[Image.Image]
) -> None:
    """The three forms in which lmms-eval's tasks put it."""
    requests = [
        request(TEXT, " blue", visuals, 0, "task", "test"),
        request(TEXT, lambda doc: doc["answer"], visuals, 1, "task", "test"),
        request("", "red"),
    ]
    questions = [Question(TEXT, (pictures[0],)), Question(TEXT, (pictures[1],)), Question("")]
    wanted = likelihoods(pipeline, questions, [" blue", "red", "red"])
    found = [result.text for result in model.loglikelihood(requests)]
    assert [greedy for _, greedy in found] == [row.is_greedy for row in wanted]
    losses = [-row.log_probability / row.num_tokens for row in wanted]
    assert [loss for loss, _ in found] == pytest.approx(losses, abs=1e-3)  # in other batches


def test_the_choice_that_lmms_eval_takes_is_the_likeliest(
    model: Any, pictures: list[Image.Image]
) -> None:
    """Its evaluator takes the least of what loglikelihood returns."""
    text = "How many shapes are there?"
    (said,) = model.generate_until([request(text, FEW, visuals, 0, "task", "test")])
    choices = ["forty-two elephants", said, "purple"]
    results = model.loglikelihood(
        [request(text, choice, visuals, 0, "task", "test") for choice in choices]
    )
    losses = [result.text[0] for result in results]
    assert choices[losses.index(min(losses))] == said


# -------------------------------------------------------------------------- likelihoods


def test_likelihood_is_the_sum_over_tokens_each_after_those_before(
    pipeline: Pipeline, pictures: list[Image.Image]
) -> None:
    """Against one pass a token over a context that was put together here."""
    llm = pipeline.llm
    answer = "The circle is red."
    pixels = torch.from_numpy(np.array(pictures[0])).float() / 255
    chat = Chat().say("user", fill_request(QUESTION_REQUEST, TEXT, 1), [pixels])
    before = chat_context(llm, chat)
    total, greedy = 0.0, True
    tokens = llm.tokenizer.encode(answer)
    for place, token in enumerate(tokens):
        context = replace(before, ids=(*before.ids, *tokens[:place]))
        scores = llm.logits(prefill(llm, [context]).hidden[:, -1]).log_softmax(-1)[0]
        total += float(scores[token])
        greedy &= int(scores.argmax()) == token
    (found,) = likelihoods(pipeline, [Question(TEXT, (pictures[0],))], [answer])
    assert found.log_probability == pytest.approx(total, abs=1e-3)
    assert found.num_tokens == len(tokens)
    assert found.is_greedy == greedy


def test_what_greedy_decoding_writes_is_greedy_and_likelier(
    pipeline: Pipeline, pictures: list[Image.Image]
) -> None:
    question = Question(TEXT, (pictures[0],))
    (said,) = answer_all(pipeline, [question], SamplingParams(max_new_tokens=12))
    rows = likelihoods(pipeline, [question] * 3, [said, "purple nonsense", ""])
    assert [row.is_greedy for row in rows] == [True, False, True]
    assert rows[0].log_probability > rows[1].log_probability
    assert rows[2] == (0, 0, True)
    # In a batch of other lengths each keeps its value.
    (single,) = likelihoods(pipeline, [question], ["purple nonsense"])
    assert rows[1].log_probability == pytest.approx(single.log_probability, abs=1e-3)


# -------------------------------------------------------------------------- VLMEvalKit


def test_vlmevalkits_generate_inner(
    harnesses: SimpleNamespace,
    pipeline: Pipeline,
    pictures: Sequence[Image.Image],
    tmp_path: Path,
) -> None:
    pictures[0].save(tmp_path / "one.png")
    model = harnesses.vlmevalkit.Blip3U("anywhere", max_new_tokens=12, dtype="fp32")
    message = [
        {"type": "image", "value": str(tmp_path / "one.png")},
        {"type": "text", "value": TEXT},
        {"type": "text", "value": "Answer in a word."},
    ]
    said = model.generate_inner(message, dataset="MMBench")
    assert said == alone(pipeline, f"{TEXT}\nAnswer in a word.", pictures[0])
    message[0]["value"] = str(tmp_path / "other.png")
    pictures[1].save(tmp_path / "other.png")
    assert model.generate_inner(message[:2]) == alone(pipeline, TEXT, pictures[1])
    assert alone(pipeline, TEXT, pictures[1]) != alone(pipeline, TEXT, pictures[0])
