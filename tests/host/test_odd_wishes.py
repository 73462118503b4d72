"""Wishes that ask for nothing or too much, and branches, with the built-in model."""

import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.comfy import Graph, Host

BUILT_IN = "blip3u-tiny (built-in)"
ANSWERING = {"max_new_tokens": 6, "temperature": 0.0, "top_p": 1.0, "seed": 0}
ONE_EACH = {"batch_mode": "one answer per image"}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def loader() -> dict[str, Any]:
    return node("BLIP3U_LoadModel", checkpoint=BUILT_IN, weight_dtype="fp32")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A red square in the middle of white."""
    picture = torch.ones(1, 128, 128, 3)
    picture[:, 44:84, 44:84] = torch.tensor([0.9, 0.1, 0.1])
    file = tmp_path_factory.mktemp("odd") / "image.safetensors"
    save_file({"image": picture}, file)
    return node("TestImage", file=str(file), key="image")


def tensors(host: Host, shown: dict[str, Any]) -> dict[str, Tensor]:
    return load_file(host.file(shown["files"][0]))


@pytest.mark.parametrize("instruction", ["leave all as it is", "make the green ring blue"])
def test_an_edit_of_nothing_is_sane(host: Host, image: dict, instruction: str) -> None:
    """Nothing asked, or an object that is not there: captions come, and the flow obeys them."""
    graph: Graph = {
        "load": loader(),
        "image": image,
        "plan": node("BLIP3U_EditPlan", llm=["load", 0], image=["image", 0], instruction=""),
        "tower": node("BLIP3U_LoadVisionTower", vision_tower=BUILT_IN, weight_dtype="fp32"),
        "encode": node("BLIP3U_EncodeImage", clip_vision=["tower", 0], image=["image", 0]),
        "source": node("BLIP3U_VisualTokens", llm=["load", 0], prompt=["plan", 0]),
        "target": node("BLIP3U_VisualTokens", llm=["load", 0], prompt=["plan", 1]),
        "edit": node("BLIP3U_EditFeatures", model=["load", 1], features=["encode", 0]),
        "before": node("TestSave", value=["encode", 0], name="before"),
        "after": node("TestSave", value=["edit", 0], name="after"),
        "told": node("PreviewAny", source=["plan", 0]),
        "wished": node("PreviewAny", source=["plan", 1]),
    }
    graph["plan"]["inputs"]["instruction"] = instruction
    for side in ("source", "target"):
        graph[side]["inputs"]["template"] = "caption"
    graph["edit"]["inputs"] |= {"source": ["source", 0], "target": ["target", 0], "seed": 1}
    graph["edit"]["inputs"] |= {"negative": ["source", 1], "steps": 8, "strength": 0.9}
    graph["edit"]["inputs"] |= {"cfg_source": 2.0, "cfg_target": 2.0}
    shown = host.run(graph).outputs
    before, after = (tensors(host, shown[name])["samples"] for name in ("before", "after"))
    told, wished = shown["told"]["text"][0], shown["wished"]["text"][0]
    assert told.strip()
    assert wished.strip()
    assert after.isfinite().all()
    moved = (after - before).abs().max().item()
    assert moved < 1e-5 if told == wished else moved > 1e-3


def test_a_chat_with_50_pictures_says_what_to_drop(host: Host, image: dict) -> None:
    """It does not fit into what blip3u-tiny reads; what the message says makes it fit."""
    words = "Yes, this is a picture of a big red square. " * 8
    graph: Graph = {"load": loader(), "image": image}
    last: dict[str, Any] = {}
    for turn in range(50):
        said = node("BLIP3U_ChatMessage", role="user", text=f"Picture {turn}", **last)
        said["inputs"]["image"] = ["image", 0]
        answered = node("BLIP3U_ChatMessage", role="assistant", text=words, chat=[f"u{turn}", 0])
        graph |= {f"u{turn}": said, f"a{turn}": answered}
        last = {"chat": [f"a{turn}", 0]}
    asked = node("BLIP3U_VQA", llm=["load", 0], question="Which?", **last, **ANSWERING, **ONE_EACH)
    graph |= {"ask": asked, "show": node("BLIP3U_ShowChat", chat=["ask", 1])}
    text = host.failure(graph)
    assert "50 pictures in 101 turns" in text
    wanted = re.search(r"Drop turns 1 to \d+ \(\d+ pictures\).*keep_last (\d+)", text)
    assert wanted, text
    keep = int(wanted.group(1)) - 1  # without the question, which comes after
    graph["short"] = node("BLIP3U_ShortenChat", keep_last=keep, **last)
    graph["ask"]["inputs"]["chat"] = ["short", 0]
    (shown,) = host.run(graph).outputs["show"]["text"]
    assert 0 < shown.count("[picture") < 50
    assert "Picture 49" in shown


def test_two_branches_do_not_disturb_each_other(host: Host, image: dict) -> None:
    def asking(question: str, **inputs: Any) -> dict[str, Any]:
        wish = {"llm": ["load", 0], "question": question, **ANSWERING, **ONE_EACH, **inputs}
        return node("BLIP3U_VQA", **wish)

    def branch(name: str, question: str) -> Graph:
        return {
            name: asking(question, chat=["trunk", 1]),
            f"{name} shown": node("BLIP3U_ShowChat", chat=[name, 1]),
        }

    trunk = {"load": loader(), "image": image, "trunk": asking("What?", image=["image", 0])}
    left, right = branch("left", "What color is it?"), branch("right", "What shape is it?")
    both = host.run({**trunk, **left, **right}).outputs
    host.free()
    for name, alone in (("right", right), ("left", left)):
        graph = {**trunk, **alone}
        graph["trunk"] = asking("What?", image=["image", 0], top_p=0.99)  # answers anew
        said = host.run(graph).outputs[f"{name} shown"]["text"]
        assert said == both[f"{name} shown"]["text"]


def test_an_empty_question_about_nothing_is_told(host: Host) -> None:
    asked = node("BLIP3U_VQA", llm=["load", 0], question=" ", **ANSWERING, **ONE_EACH)
    graph = {"load": loader(), "ask": asked, "show": node("PreviewAny", source=["ask", 0])}
    assert "the user turn is empty" in host.failure(graph)
