"""The language model in the real host: golden tokens and answers, chats, Cancel, memory."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.comfy import (
    ORACLE,
    RANDOM_TINY,
    RANDOM_TINY_SHARDED,
    Graph,
    GraphError,
    Host,
    Result,
    running_host,
)

CASES = json.loads((ORACLE / "goldens" / "cases.json").read_text(encoding="utf-8"))
LLM = str(ORACLE / "goldens" / "llm.safetensors")
VQA = str(ORACLE / "goldens" / "vqa.safetensors")
LIMIT = 1e-5  # as tests/golden/test_language_model.py
ANSWERING = {"max_new_tokens": 20, "temperature": 0.0, "top_p": 1.0, "seed": 0}
QUESTION = "What is in this picture?"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def loader(checkpoint: str = RANDOM_TINY, weight_dtype: str = "fp32") -> dict[str, Any]:
    return node("BLIP3U_LoadModel", checkpoint=checkpoint, weight_dtype=weight_dtype)


def drawing(prompt: str, template: str, **inputs: Any) -> Graph:
    """Load, visual tokens, save; `inputs` are links."""
    wish = {"llm": ["1", 0], "prompt": prompt, "template": template}
    return {
        "1": loader(),
        "2": node("BLIP3U_VisualTokens", **wish, **inputs),
        "3": node("TestSave", value=["2", 0], name="positive"),
        "4": node("TestSave", value=["2", 1], name="negative"),
    }


def asking(question: str = QUESTION, **inputs: Any) -> Graph:
    """Load, ask, show; `inputs` are links or settings."""
    settings = {"batch_mode": "one answer per image", **ANSWERING, **inputs}
    return {
        "1": loader(),
        "2": node("BLIP3U_VQA", llm=["1", 0], question=question, **settings),
        "3": node("BLIP3U_ShowChat", chat=["2", 1]),
        "4": node("PreviewAny", source=["2", 0]),
    }


def saved(host: Host, result: Result, node_id: str) -> dict[str, Tensor]:
    return load_file(host.file(result.outputs[node_id]["files"][0]))


def answer_of(result: Result) -> str:
    return result.outputs["4"]["text"][0]


def golden_image(case: str, file: str) -> dict[str, Any]:
    return node("TestImage", file=file, key=f"{case}.image_uint8")


def image_file(folder: Path, *sizes: tuple[int, ...], fill: float | None = None) -> list[Any]:
    """Test images of the given shapes as nodes, by number."""
    generator = torch.Generator().manual_seed(0)
    images = {
        str(index): torch.rand(*size, generator=generator)
        if fill is None
        else torch.full(size, fill)
        for index, size in enumerate(sizes)
    }
    save_file(images, folder / "images.safetensors")
    return [node("TestImage", file=str(folder / "images.safetensors"), key=key) for key in images]


class TestGolden:
    @pytest.mark.parametrize(
        ("case", "prompt", "template"),
        [
            ("t2i", "A photo of cute cat", "caption"),
            ("unicode", "naïve café 日本 🙂 12345 [x] <y>", "caption"),
            ("neg", " ", "raw"),
            ("plain", CASES["plain"]["text"], "raw"),
            ("long", CASES["long"]["text"], "raw"),
        ],
    )
    def test_visual_tokens(self, host: Host, case: str, prompt: str, template: str) -> None:
        result = host.run(drawing(prompt, template))
        got = saved(host, result, "3")["tokens.0"]
        expected = load_file(LLM)[f"{case}.visual_tokens"]
        assert (got - expected).abs().max() < LIMIT
        assert not saved(host, result, "4")["tokens.0"].any()

    def test_visual_tokens_of_a_picture(self, host: Host) -> None:
        prompt = "Please reconstruct the given image."
        graph = drawing(prompt, "instruction", image=["9", 0])
        graph["9"] = golden_image("edit448", LLM)
        got = saved(host, host.run(graph), "3")["tokens.0"]
        assert (got - load_file(LLM)["edit448.visual_tokens"]).abs().max() < LIMIT

    @pytest.mark.parametrize("checkpoint", [RANDOM_TINY, RANDOM_TINY_SHARDED])
    def test_answer_about_a_picture(self, host: Host, checkpoint: str) -> None:
        graph = asking(image=["9", 0])
        graph["1"] = loader(checkpoint)
        graph["9"] = golden_image("vqa_image", VQA)
        result = host.run(graph)
        assert answer_of(result) == CASES["vqa_image"]["answer_rp1.05"]
        assert result.texts["2"][-1] == answer_of(result)
        assert result.progress["2"][-1] == (20, 20)

    def test_answer_to_a_text(self, host: Host) -> None:
        result = host.run(asking("The silver train is holding a stack of books during a storm."))
        assert answer_of(result) == CASES["vqa_text"]["answer_rp1.05"]


class TestBatchModes:
    def test_one_answer_per_picture(self, host: Host, tmp_path: Path) -> None:
        """A batch of two and a third picture: the answers are those of single runs."""
        sizes = [(2, 60, 90, 3), (50, 50, 3)]
        together = asking(image=["8", 0], image_2=["9", 0])
        together["8"], together["9"] = image_file(tmp_path, *sizes)
        result = host.run(together)
        chats = result.outputs["3"]["text"]
        assert len(chats) == 3
        last = asking(image=["9", 0])
        last["9"] = together["9"]
        assert host.run(last).outputs["3"]["text"] == chats[2:]

    def test_all_pictures_in_one_question(self, host: Host, tmp_path: Path) -> None:
        graph = asking(image=["8", 0], batch_mode="all images in one question")
        (graph["8"],) = image_file(tmp_path, (3, 40, 40, 3))
        result = host.run(graph)
        (chat,) = result.outputs["3"]["text"]
        assert chat.startswith("**user:** [picture 1] [picture 2] [picture 3] What is")
        assert len(result.outputs["3"]["images"]) == 3


def dialogue(turns: int) -> Graph:
    """VQA nodes one behind the other on one picture."""
    graph: Graph = {"1": loader(), "9": golden_image("vqa_image", VQA)}
    for turn in range(turns):
        link = {"chat": [f"q{turn - 1}", 1]} if turn else {"image": ["9", 0]}
        settings = {"batch_mode": "one answer per image", **ANSWERING, **link}
        graph[f"q{turn}"] = node(
            "BLIP3U_VQA", llm=["1", 0], question=f"Question {turn}?", **settings
        )
    graph["show"] = node("BLIP3U_ShowChat", chat=[f"q{turns - 1}", 1])
    return graph


class TestChat:
    def test_a_dialogue_is_the_same_after_the_memory_was_freed(self, host: Host) -> None:
        graph = dialogue(4)
        first = host.run(graph).outputs["show"]["text"]
        graph["q3"]["inputs"]["seed"] = 1  # runs again, from what is remembered
        assert host.run(graph).outputs["show"]["text"] == first
        host.free()
        graph["q3"]["inputs"]["seed"] = 2
        assert host.run(graph).outputs["show"]["text"] == first

    def test_it_is_saved_and_continued_by_another_host(self, host: Host) -> None:
        graph = dialogue(2)
        graph["save"] = node("BLIP3U_SaveChat", chat=["q1", 1], name="my talk")
        shown = host.run(graph).outputs["show"]
        more = dialogue(3)
        loaded = {key: more[key] for key in ("1", "q2", "show")}
        loaded["load"] = node("BLIP3U_LoadChat", name="my talk")
        loaded["q2"]["inputs"]["chat"] = ["load", 0]
        with running_host(host.base) as second:
            continued = second.run(loaded).outputs["show"]
        at_once = host.run(dialogue(3)).outputs["show"]
        assert continued["text"][0].startswith(shown["text"][0])
        assert continued["text"] == at_once["text"]
        assert len(continued["images"]) == 1

    def test_messages_of_all_roles(self, host: Host, tmp_path: Path) -> None:
        (picture,) = image_file(tmp_path, (1, 30, 40, 3))
        graph = {
            "9": picture,
            "1": node("BLIP3U_ChatMessage", role="system", text="Be brief."),
            "2": node("BLIP3U_ChatMessage", role="user", text="Draw", chat=["1", 0]),
            "3": node("BLIP3U_ChatMessage", role="assistant", text="", chat=["2", 0]),
            "4": node("BLIP3U_ShowChat", chat=["3", 0]),
            "5": node("BLIP3U_ShortenChat", chat=["3", 0], keep_last=1),
            "6": node("BLIP3U_ShowChat", chat=["5", 0]),
        }
        graph["3"]["inputs"]["image"] = ["9", 0]
        result = host.run(graph)
        (said,) = result.outputs["4"]["text"]
        assert said == "**system:** Be brief.\n\n**user:** Draw\n\n**assistant:** [picture 1]"
        assert result.outputs["6"]["text"] == ["**system:** Be brief."]


class TestBadInput:
    """Each is told in words, and the next good prompt works."""

    @pytest.mark.parametrize(
        ("prompt", "template", "said"),
        [
            ("", "caption", "prompt is empty"),
            ("\n ", "instruction", "prompt is empty"),
            ("word " * 140000, "caption", "reads at most 128000"),
        ],
    )
    def test_prompts(self, host: Host, prompt: str, template: str, said: str) -> None:
        assert said in host.failure(drawing(prompt, template))
        host.run(drawing("A photo of cute cat", "caption"))

    def test_a_nan_picture(self, host: Host, tmp_path: Path) -> None:
        graph = asking(image=["9", 0])
        (graph["9"],) = image_file(tmp_path, (1, 40, 40, 3), fill=float("nan"))
        assert "NaN or infinite" in host.failure(graph)

    @pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 4320, 7680, 3), (1, 40, 40, 4)])
    def test_odd_pictures_can_be_drawn_from(
        self, host: Host, tmp_path: Path, shape: tuple[int, ...]
    ) -> None:
        graph = drawing("Draw it", "instruction", image=["9", 0])
        (graph["9"],) = image_file(tmp_path, shape, fill=0.5)
        assert saved(host, host.run(graph), "3")["tokens.0"].isfinite().all()

    def test_wrong_order_of_roles(self, host: Host) -> None:
        graph = {
            "1": node("BLIP3U_ChatMessage", role="assistant", text="Hello"),
            "2": node("BLIP3U_ShowChat", chat=["1", 0]),
        }
        assert "an assistant turn came first" in host.failure(graph)
        graph["1"]["inputs"] = {"role": "user", "text": ""}
        assert "the user turn is empty" in host.failure(graph)

    def test_a_corrupted_chat_file(self, host: Host) -> None:
        folder = host.base / "output" / "chats"
        folder.mkdir(exist_ok=True)
        (folder / "broken.json").write_text('{"format": "blip3u-chat", "ver')
        graph = {
            "1": node("BLIP3U_LoadChat", name="broken"),
            "2": node("BLIP3U_ShowChat", chat=["1", 0]),
        }
        assert "not a chat that can be read: it is not JSON" in host.failure(graph)
        graph["1"]["inputs"]["name"] = "never saved"
        assert "there is no chat 'never saved'" in host.failure(graph)
        name = {"name": "../escape", "chat": ["1", 0]}
        graph["1"] = node("BLIP3U_ChatMessage", role="user", text="Hi")
        graph["2"] = node("BLIP3U_SaveChat", **name)
        assert "expected a plain file name" in host.failure(graph)

    def test_reasoning_without_a_caption_shows_the_text(self, host: Host) -> None:
        graph = {
            "1": loader(),
            "2": node("BLIP3U_Reason", llm=["1", 0], prompt="A riddle", **ANSWERING),
            "3": node("PreviewAny", source=["2", 1]),
        }
        assert "no caption came" in host.failure(graph)


class TestHostsMemory:
    def test_unload_frees_it_and_it_comes_back(self, host: Host) -> None:
        graph = drawing("A photo of cute cat", "caption")
        host.run(graph)
        assert "LanguageModel" in [entry["class"] for entry in host.loaded_models()]
        host.free()
        assert "LanguageModel" not in [entry["class"] for entry in host.loaded_models()]
        graph["2"]["inputs"]["prompt"] = "A photo of cute dog"
        host.run(graph)

    @pytest.mark.parametrize("weight_dtype", ["auto", "bf16", "fp16", "fp32", "fp8_e4m3fn"])
    def test_every_weight_dtype_answers_nearly_the_same(
        self, host: Host, weight_dtype: str
    ) -> None:
        graph = drawing("A photo of cute cat", "caption")
        graph["1"] = loader(weight_dtype=weight_dtype)
        got = saved(host, host.run(graph), "3")["tokens.0"]
        expected = load_file(LLM)["t2i.visual_tokens"]
        error = (got - expected).norm() / expected.norm()
        allowed = {"fp32": 1e-5, "auto": 1e-5, "fp16": 3e-3, "bf16": 3e-2, "fp8_e4m3fn": 0.15}
        assert error < allowed[weight_dtype]

    @pytest.mark.parametrize("weight_dtype", ["fp32", "fp8_e4m3fn"])
    def test_low_vram_gives_the_same(self, host: Host, weight_dtype: str) -> None:
        graph = dialogue(2)
        graph["1"] = loader(weight_dtype=weight_dtype)
        expected = host.run(graph).outputs["show"]["text"]
        (model,) = [m for m in host.loaded_models() if m["class"] == "LanguageModel"]
        assert model["weights_stay"]
        host.free()
        host.hook(low_vram_bytes=400_000)
        graph["q0"]["inputs"]["seed"] = 1
        assert host.run(graph).outputs["show"]["text"] == expected
        (model,) = [m for m in host.loaded_models() if m["class"] == "LanguageModel"]
        assert 0 < model["loaded_bytes"] < model["total_bytes"]
        assert not model["weights_stay"]
        host.hook()
        host.free()

    @pytest.mark.parametrize("part", ["TextModel", "VisionModel"])
    def test_out_of_memory_frees_what_it_held(self, host: Host, part: str) -> None:
        graph = asking(image=["9", 0])
        graph["9"] = golden_image("vqa_image", VQA)
        graph["2"]["inputs"]["seed"] = 77
        host.free()
        host.hook(out_of_memory=part)
        assert "out of memory" in host.failure(graph)
        assert "LanguageModel" not in [entry["class"] for entry in host.loaded_models()]
        assert answer_of(host.run(graph)) == CASES["vqa_image"]["answer_rp1.05"]

    def test_cancel_stops_within_a_token(self, host: Host) -> None:
        graph = asking("Tell me a long story", max_new_tokens=200)
        host.hook(slow="TextModel", seconds=0.2)
        counts: list[int] = []

        def interrupt_at_the_third_token(event: dict[str, Any]) -> None:
            if event["type"] == "progress":
                counts.append(event["data"]["value"])
                if counts[-1] == 3:
                    host.interrupt()

        with pytest.raises(GraphError, match="interrupted") as error:
            host.run(graph, on_event=interrupt_at_the_third_token)
        assert error.value.interrupted
        assert counts[-1] <= 5
        host.hook()
        host.run(asking("Hello"))

    def test_cancel_while_it_reads(self, host: Host) -> None:
        host.hook(slow="TextLayer", seconds=0.5)

        def interrupt_the_language_model(event: dict[str, Any]) -> None:
            if event["type"] == "executing" and event["data"]["node"] == "2":
                host.interrupt()

        with pytest.raises(GraphError, match="interrupted") as error:
            host.run(
                drawing("A photo of a slow cat", "caption"), on_event=interrupt_the_language_model
            )
        assert error.value.node_id == "2"
        host.hook()
        host.run(drawing("A photo of a slow cat", "caption"))
