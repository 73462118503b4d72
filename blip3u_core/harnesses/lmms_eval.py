"""The model `blip3u` of lmms-eval, found by its entry point `lmms_eval.models`.

lmms-eval --model blip3u --model_args pretrained=FOLDER --tasks pope,mme --batch_size 8
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from tqdm import tqdm

from ..language.generate import SamplingParams
from ..pipeline import Pipeline
from ..run_settings import DTYPES
from .answering import Question, answer_all, likelihoods

MAX_NEW_TOKENS = 1024  # of tasks that name no bound
# Parity: lmms-eval's Qwen2.5-VL drops this stop too, which many tasks have by default.
# lmms_eval/models/simple/qwen2_5_vl.py:generate_until, 0.7.3.
DROPPED_STOP = "\n\n"


def manifest() -> ModelManifest:
    """What lmms-eval's entry point asks for: the name of the model and where its class is."""
    return ModelManifest("blip3u", simple_class_path=f"{__name__}.Blip3U")


class Blip3U(lmms):
    """A checkpoint that answers; drawing is for `python -m blip3u_core.export`."""

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        device: str = "cuda",
        dtype: str = "",
        batch_size: int | str = 1,
        **unused: Any,
    ) -> None:
        super().__init__()
        if any(value is not None for name, value in unused.items() if name != "max_batch_size"):
            raise ValueError(
                f"--model_args says {', '.join(unused)}, expected pretrained, device, dtype or "
                "batch_size. Take the others out."
            )
        self.accelerator = Accelerator()
        self._rank = self.accelerator.local_process_index
        self._world_size = self.accelerator.num_processes
        place = torch.device(device if torch.cuda.is_available() else "cpu")
        if self._world_size > 1:
            place = self.accelerator.device
        name = dtype or ("bf16" if place.type == "cuda" else "fp32")
        self.pipeline = Pipeline.from_checkpoint(pretrained, place, DTYPES[name])
        self.batch_size = int(batch_size)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The answer to each request, up to its stop words, in the order of the requests."""
        answers = [""] * len(requests)
        with tqdm(total=len(requests), disable=self._rank != 0, desc="answers") as bar:
            for part in _batches(requests, self.batch_size):
                questions = [self._question(requests[index].args) for index in part]
                settings = requests[part[0]].args[1]
                given = answer_all(self.pipeline, questions, _sampling(settings))
                for index, answer in zip(part, given, strict=True):
                    answers[index] = _until(answer, settings)
                    asked = requests[index].args[:2]
                    self.cache_hook.add_partial("generate_until", asked, answers[index])
                bar.update(len(part))
        return answers

    def _question(self, arguments: Sequence[Any]) -> Question:
        text, _, doc_to_visual, doc_id, task, split = arguments
        return Question(text, _pictures(doc_to_visual(self.task_dict[task][split][doc_id])))

    def generate_until_multi_round(self, requests: list[Instance]) -> list[list[str]]:
        """One question after the other, each made from the answers before, until the task ends."""
        return [self._rounds(request.args) for request in tqdm(requests, desc="dialogues")]

    def _rounds(self, arguments: Sequence[Any]) -> list[str]:
        text, settings, doc_to_visual, doc_to_text, doc_id, task, split = arguments
        doc, info = self.task_dict[task][split][doc_id], None
        visuals, answers = doc_to_visual(doc), []
        while True:
            question = Question(text, _pictures(visuals))
            answer = answer_all(self.pipeline, [question], _sampling(settings))[0]
            answers.append(_until(answer, settings))
            visuals, text, ended, answers, info = doc_to_text(
                doc,
                previous_output=answers,
                round_idx=len(answers),
                previous_round_info=info,
            )
            if ended:
                return list(answers)
            answers = list(answers)

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """For each request the loss of its continuation, and whether that is greedy.

        Parity: the mean cross-entropy of a token, as lmms-eval's own models return it: its tasks
        take the least for the choice. lmms_eval/api/task.py:process_results, 0.7.3.
        """
        found = []
        for start in tqdm(range(0, len(requests), self.batch_size), desc="likelihoods"):
            part = [self._continuation(r.args) for r in requests[start : start + self.batch_size]]
            questions, answers = zip(*part, strict=True)
            for likelihood in likelihoods(self.pipeline, questions, answers):
                loss = -likelihood.log_probability / max(likelihood.num_tokens, 1)
                # Its evaluator makes text of all else that is no text, pairs too.
                found.append(GenerationResult((loss, likelihood.is_greedy)))
        return found

    def _continuation(self, arguments: Sequence[Any]) -> tuple[Question, str]:
        """A question and the answer to weigh; some requests come without a picture."""
        text, answer, *where = arguments
        if not where:
            return Question(text), answer
        if callable(answer):  # of tasks with output_type: loglikelihood
            _, doc_id, task, split = where
            answer = answer(self.task_dict[task][split][doc_id])
        return self._question((text, None, *where)), str(answer)


def _batches(requests: Sequence[Instance], size: int) -> Iterator[list[int]]:
    """Numbers of requests with the same settings, short ones together."""
    groups: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
    for group in groups.values():
        group.sort(key=lambda index: len(requests[index].args[0]))
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _sampling(settings: dict[str, Any]) -> SamplingParams:
    """Greedy unless the task asks to sample; beams are not searched."""
    drawn = settings.get("do_sample", bool(settings.get("temperature")))
    return SamplingParams(
        max_new_tokens=settings.get("max_new_tokens", MAX_NEW_TOKENS),
        temperature=float(settings.get("temperature") or 0.0) if drawn else 0.0,
        top_p=float(settings.get("top_p") or 1.0),
    )


def _until(answer: str, settings: dict[str, Any]) -> str:
    stops = settings.get("until", [])
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop and stop != DROPPED_STOP:
            answer = answer.split(stop)[0]
    return answer


def _pictures(visuals: Sequence[Any] | None) -> tuple[Image.Image, ...]:
    for visual in visuals or ():
        if not isinstance(visual, Image.Image):
            raise ValueError(
                f"the task shows {type(visual).__name__}, expected pictures: videos and sound are "
                "not read. Choose another task."
            )
    return tuple(visuals or ())
