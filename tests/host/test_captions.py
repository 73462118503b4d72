"""Captions beside the pictures of a folder, in the real host."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.comfy import RANDOM_TINY, Graph, GraphError, Host


def captioning(folder: str, **settings: Any) -> Graph:
    inputs = {
        "llm": ["load", 0],
        "folder": folder,
        "question": "What is this?",
        "existing": "keep",
        "max_new_tokens": 6,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
        **settings,
    }
    loader = {"checkpoint": RANDOM_TINY, "weight_dtype": "fp32"}
    return {
        "load": {"class_type": "BLIP3U_LoadModel", "inputs": loader},
        "caption": {"class_type": "BLIP3U_CaptionFolder", "inputs": inputs},
    }


def filled(host: Host, name: str, count: int) -> Path:
    folder = host.base / "input" / name
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"cat {index:02}.png")
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {file.stem: file.read_text("utf-8").strip() for file in sorted(folder.glob("*.txt"))}


def test_texts_lie_beside_the_pictures_and_stay(host: Host) -> None:
    folder = filled(host, "cats", 2)
    graph = captioning("cats")
    shown = host.run(graph).outputs["caption"]["text"]
    assert shown == [f"{stem}.png: {text}" for stem, text in texts(folder).items()]
    assert len(shown) == 2
    (folder / "cat 00.txt").write_text("my own words")
    assert host.run(graph).outputs["caption"]["text"] == ["cat 00.png: my own words", shown[1]]
    Image.new("RGB", (30, 30)).save(folder / "dog.png")
    assert len(host.run(graph).outputs["caption"]["text"]) == 3
    graph["caption"]["inputs"]["existing"] = "replace"
    assert host.run(graph).outputs["caption"]["text"][:2] == shown


def test_it_goes_on_after_cancel(host: Host) -> None:
    folder = filled(host, "many", 10)
    host.hook(slow="TextModel", seconds=0.1)

    def cancel(event: dict) -> None:
        if event["type"] == "progress" and event["data"]["value"] > 8 * 6:
            host.interrupt()

    with pytest.raises(GraphError) as caught:
        host.run(captioning("many"), on_event=cancel)
    assert caught.value.interrupted
    host.hook()
    first = texts(folder)
    assert len(first) == 8
    result = host.run(captioning("many"))
    assert len(texts(folder)) == 10
    assert {stem: texts(folder)[stem] for stem in first} == first
    assert result.progress["caption"][-1] == (12, 12)


def test_folders_elsewhere_are_refused(host: Host) -> None:
    for name in ("../output", "/etc", " ", "C:/pictures"):
        assert "expected a folder below" in host.failure(captioning(name))
    assert "there is no folder 'nowhere'" in host.failure(captioning("nowhere"))
    (host.base / "input" / "empty").mkdir()
    assert "holds no pictures" in host.failure(captioning("empty"))
