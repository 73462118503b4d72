"""Captions beside the pictures of a folder: one each, kept after Cancel, the same in any order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip3u_core.chat.caption_folder import AT_ONCE, add_pictures, caption_folder, read_file, runs
from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import ChatModel, ask
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.model import LanguageModel

QUESTION = "Describe this picture completely."
VARIED = SamplingParams(6, temperature=1.0, seed=40)


def fill(folder: Path, count: int) -> list[str]:
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return [f"{index:02}.png" for index in range(count)]


def texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text("utf-8").strip() for file in folder.glob("*.txt")}


def test_every_picture_gets_the_answer_of_its_single_run(
    llm: LanguageModel, tmp_path: Path
) -> None:
    names = fill(tmp_path, 3)
    (tmp_path / "notes.md").write_text("not a picture")
    found = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION, keep=True)
    assert [name for name, _ in found] == names
    for index, (name, text) in enumerate(found):
        chat_model = ChatModel(llm, SamplingParams(6, temperature=1.0, seed=40 + index))
        alone, _ = ask(chat_model, Chat(), QUESTION, [read_file(tmp_path / name)])
        assert text == alone.strip()
        assert texts(tmp_path)[f"{index:02}.txt"] == text
    assert len(texts(tmp_path)) == 3


def test_it_goes_on_where_cancel_stopped_it(llm: LanguageModel, tmp_path: Path) -> None:
    names = fill(tmp_path, AT_ONCE + 2)
    counts: list[tuple[int, int]] = []

    def cancel(_: str, done: int, total: int) -> None:
        counts.append((done, total))
        if done > AT_ONCE * VARIED.max_new_tokens:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        caption_folder(ChatModel(llm, VARIED, cancel), tmp_path, QUESTION, keep=True)
    first = texts(tmp_path)
    assert len(first) == AT_ONCE
    assert counts == sorted(counts)
    assert counts[-1][1] == len(names) * VARIED.max_new_tokens
    (tmp_path / "00.txt").write_text("by hand")
    (tmp_path / "01.txt").write_text(" \n")
    found = dict(caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION, keep=True))
    assert found["00.png"] == "by hand"
    for index, name in enumerate(names[1:AT_ONCE], 1):
        assert found[name] == first[f"{index:02}.txt"]
    assert list(found) == names
    anew = dict(caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION, keep=False))
    assert anew == {**found, "00.png": first["00.txt"]}


def test_what_is_captioned_is_not_read_again(llm: LanguageModel, tmp_path: Path) -> None:
    fill(tmp_path, 1)
    (tmp_path / "00.txt").write_text("mine")

    def fail(*_: object) -> None:
        raise AssertionError("the language model was asked")

    chat_model = ChatModel(llm, VARIED, fail, at_work=fail)
    assert caption_folder(chat_model, tmp_path, QUESTION, keep=True) == [("00.png", "mine")]


def test_a_broken_picture_is_told_and_keeps_the_rest(llm: LanguageModel, tmp_path: Path) -> None:
    fill(tmp_path, AT_ONCE)
    (tmp_path / "99.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"99\.jpg cannot be read as a picture"):
        caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION, keep=True)
    assert len(texts(tmp_path)) == AT_ONCE


def test_folders_that_cannot_be_captioned_are_told(llm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        caption_folder(ChatModel(llm), tmp_path, QUESTION, keep=True)
    fill(tmp_path, 1)
    with pytest.raises(ValueError, match="question is empty"):
        caption_folder(ChatModel(llm), tmp_path, " ", keep=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "00.jpg")
    with pytest.raises(ValueError, match=r"00\.jpg and 00\.png would share 00\.txt"):
        caption_folder(ChatModel(llm), tmp_path, QUESTION, keep=True)


def test_pictures_are_read_upright_and_in_full(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_file(tmp_path / "a.jpg").shape == (30, 20, 3)
    Image.new("RGBA", (5, 4), (1, 2, 3, 0)).save(tmp_path / "b.png")
    assert read_file(tmp_path / "b.png")[0, 0].tolist() == [1, 2, 3, 0]
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "c.png")
    assert read_file(tmp_path / "c.png")[0, 0].tolist() == [156] * 3


def test_pictures_that_are_put_in_twice_are_one_file(tmp_path: Path) -> None:
    pictures = [torch.full((4, 5, 3), value) for value in (0.0, 1.0, 0.0)]
    for _ in range(2):
        add_pictures(tmp_path / "new", pictures)
    files = sorted((tmp_path / "new").iterdir())
    assert len(files) == 2
    assert {read_file(file)[0, 0, 0].item() for file in files} == {0, 255}


def test_runs_have_no_gaps() -> None:
    assert runs([0, 1, 2, 5, 7, 8], 2) == [[0, 1], [2], [5], [7, 8]]
