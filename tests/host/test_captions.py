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


def shown_of(host: Host, graph: Graph) -> tuple[list[str], list[str]]:
    """The captions that the node shows, and those that six tokens were too few for."""
    lines = host.run(graph).outputs["caption"]["text"]
    cut = [line for line in lines if ": cut off, max_new_tokens" in line]
    return lines[: len(lines) - len(cut)], cut


def test_texts_lie_beside_the_pictures_and_stay(host: Host) -> None:
    folder = filled(host, "cats", 2)
    graph = captioning("cats")
    shown, cut = shown_of(host, graph)
    assert shown == [f"{stem}.png: {text}" for stem, text in texts(folder).items()]
    assert len(cut) == 2
    assert len(shown) == 2
    (folder / "cat 00.txt").write_text("my own words")
    assert shown_of(host, graph) == (["cat 00.png: my own words", shown[1]], [])
    Image.new("RGB", (30, 30)).save(folder / "dog.png")
    assert len(shown_of(host, graph)[0]) == 3
    graph["caption"]["inputs"]["existing"] = "replace"
    assert shown_of(host, graph)[0][:2] == shown


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
    for name in ("../output", "/etc", " ", "C:/pictures", "a\0b", "x" * 300):
        assert "expected a folder below" in host.failure(captioning(name))
    assert "there is no folder 'nowhere'" in host.failure(captioning("nowhere"))
    (host.base / "input" / "empty").mkdir()
    assert "holds no pictures" in host.failure(captioning("empty"))


def test_bad_files_are_told_and_take_nothing_away(host: Host) -> None:
    """A text in GBK and a damaged picture among good ones: all others get their captions."""
    folder = filled(host, "mixed", 12)
    (folder / "cat 00.txt").write_bytes("红色圆圈".encode("gbk"))
    whole = (folder / "cat 05.png").read_bytes()
    (folder / "cat 05.png").write_bytes(whole[:200])
    (folder / ".blip3u-0a0a.part").write_bytes(b"a killed run's")
    lines = host.run(captioning("mixed")).outputs["caption"]["text"]
    good = sorted({f"cat {index:02}" for index in range(12)} - {"cat 00", "cat 05"})
    assert [line.partition(".png: ")[0] for line in lines[:10]] == good
    assert "cat 00.png passed over: cat 00.txt is not UTF-8 text" in lines[10]
    assert "cat 05.png passed over: it cannot be read as a picture" in lines[11]
    assert (folder / "cat 00.txt").read_bytes() == "红色圆圈".encode("gbk")
    assert not (folder / ".blip3u-0a0a.part").exists()
    (folder / "cat 05.png").write_bytes(whole)
    again = host.run(captioning("mixed")).outputs["caption"]["text"]
    assert again[:4] == lines[:4]
    assert again[4].startswith("cat 05.png: ")
    graph = captioning("mixed", existing="Keep")  # through the API any text comes
    before = texts_as_bytes(folder)
    host.failure(graph)
    assert texts_as_bytes(folder) == before


def texts_as_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.txt")}
