"""Use broken checkpoint folders in a real ComfyUI, over HTTP, and judge what a user would see."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from fuzz.folders import Broken
from fuzz.judge import FILES, PICTURE, VERDICTS, WHAT_TO_DO, Outcome, Verdict, compared
from harness.comfy import GraphError, Host, make_base_folder, running_host
from harness.graph import Graph, Link, output, tensors

SECONDS = 60
NOT_LISTED = "not in list"  # a broken tower is left out of the loader's list, and the log says why
INSIDE = " (in checkpoint)"


class HostJudge:
    """A running host, and what the whole checkpoint gives there."""

    def __init__(self, host: Host, bases: Path, work: Path) -> None:
        self.host, self.work = host, work
        self.expected: dict[str, Outcome] = {}
        save_file({"image": PICTURE[None].contiguous()}, work / "image.safetensors")
        for base in bases.iterdir():
            results, errors = self._outcomes(base)
            assert not errors, errors
            self.expected[base.name] = results

    def judge(self, broken: Broken, folder: Path) -> dict[str, str]:
        results, errors = self._outcomes(folder)
        verdicts = [_error_verdict(name, text) for name, text in errors.items()]
        verdicts += compared(results, self.expected[broken.layout])
        worst = max(verdicts, key=lambda v: VERDICTS.index(v.verdict), default=Verdict("same", ""))
        return vars(worst)

    def stop(self) -> None:
        """The host ends with its context."""

    def _outcomes(self, folder: Path) -> tuple[Outcome, dict[str, str]]:
        name = f"{folder.parent.name}-{folder.name}"
        place = self.host.base / "models" / "blip3u" / name
        place.symlink_to(folder, target_is_directory=True)
        results: Outcome = {}
        errors: dict[str, str] = {}
        for use, graph, value in self._graphs(name):
            try:
                results[use] = self._value(graph, value)
            except GraphError as error:
                errors[use] = str(error)
            except TimeoutError as error:
                errors[use] = f"hang: {error}"
        place.unlink()
        return results, errors

    def _value(self, graph: Graph, value: Link) -> torch.Tensor | str:
        if graph[value[0]]["class_type"] == "PreviewAny":
            return str(self.host.run(graph, SECONDS).outputs[value[0]]["text"])
        return tensors(self.host, graph, value)[0]

    def _graphs(self, name: str) -> Iterator[tuple[str, Graph, Link]]:
        graph = Graph()
        llm = graph.add("BLIP3U_LoadModel", checkpoint=name, weight_dtype="fp32")
        told = graph.add("BLIP3U_VisualTokens", llm=llm, prompt="a red circle", template="caption")
        sampling = {"seed": 7, "steps": 2, "cfg": 3.0}
        features = graph.add(
            "BLIP3U_ClipFeatureSampler", model=output(llm, 1), positive=told,
            negative=output(told, 1), sampler_name="euler", batch_size=1, denoise=1.0, **sampling,
        )  # fmt: skip
        yield "draw", graph, self._decoded(graph, llm, features)
        graph = Graph()
        llm = graph.add("BLIP3U_LoadModel", checkpoint=name, weight_dtype="fp32")
        answer = graph.add(
            "BLIP3U_VQA", llm=llm, question="What is this?", image=self._image(graph),
            batch_mode="one answer per image", max_new_tokens=8, temperature=0.0, top_p=1.0, seed=0,
        )  # fmt: skip
        yield "answer", graph, graph.add("PreviewAny", source=answer)
        graph = Graph()
        tower = graph.add("BLIP3U_LoadVisionTower", vision_tower=name + INSIDE, weight_dtype="fp32")
        yield (
            "look",
            graph,
            graph.add("BLIP3U_EncodeImage", clip_vision=tower, image=self._image(graph)),
        )

    def _image(self, graph: Graph) -> Link:
        return graph.add("TestImage", file=str(self.work / "image.safetensors"), key="image")

    def _decoded(self, graph: Graph, loaded: Link, features: Link) -> Link:
        return graph.add(
            "BLIP3U_Decode", decoder=output(loaded, 2), vae=output(loaded, 3), features=features,
            seed=7, steps=2, cfg=3.0, width=0, height=0, denoise=1.0,
        )  # fmt: skip


def _error_verdict(name: str, text: str) -> Verdict:
    if text.startswith("hang"):
        return Verdict("hang", f"{name}: {text}")
    told = all(any(word in text for word in words) for words in (FILES, WHAT_TO_DO))
    clear = NOT_LISTED in text or told
    return Verdict("clear" if clear else "unclear", f"{name}: {text}")


@contextmanager
def host_judge(bases: Path) -> Iterator[HostJudge]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_host(make_base_folder(Path(folder) / "base")) as host,
    ):
        yield HostJudge(host, bases, Path(folder))
