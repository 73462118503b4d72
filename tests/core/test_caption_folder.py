"""Captions beside the pictures of a folder: one each, kept after Cancel, the same in any order."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip3u_core.chat.caption_folder import AT_ONCE, caption_folder
from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import ChatModel, ask
from blip3u_core.chat.picture_folder import add_pictures, caption_of, read_picture
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
    found = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION).texts
    assert list(found) == names
    for index, (name, text) in enumerate(found.items()):
        chat_model = ChatModel(llm, SamplingParams(6, temperature=1.0, seed=40 + index))
        alone, _ = ask(chat_model, Chat(), QUESTION, [read_picture(tmp_path / name)])
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
        caption_folder(ChatModel(llm, VARIED, cancel), tmp_path, QUESTION)
    first = texts(tmp_path)
    assert len(first) == AT_ONCE
    assert counts == sorted(counts)
    assert counts[-1][1] == len(names) * VARIED.max_new_tokens
    (tmp_path / "00.txt").write_text("by hand")
    (tmp_path / "01.txt").write_text(" \n")
    found = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION).texts
    assert found["00.png"] == "by hand"
    for index, name in enumerate(names[1:AT_ONCE], 1):
        assert found[name] == first[f"{index:02}.txt"]
    assert list(found) == names
    anew = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION, "replace").texts
    assert anew == {**found, "00.png": first["00.txt"]}


def test_what_is_captioned_is_not_read_again(llm: LanguageModel, tmp_path: Path) -> None:
    fill(tmp_path, 1)
    (tmp_path / "00.txt").write_text("mine")

    def fail(*_: object) -> None:
        raise AssertionError("the language model was asked")

    chat_model = ChatModel(llm, VARIED, fail, at_work=fail)
    assert caption_folder(chat_model, tmp_path, QUESTION).texts == {"00.png": "mine"}


def test_only_the_exact_word_overwrites(llm: LanguageModel, tmp_path: Path) -> None:
    fill(tmp_path, 1)
    (tmp_path / "00.txt").write_text("mine")
    for word in ("Keep", "Replace", "", None):
        with pytest.raises(ValueError, match="expected 'keep' or 'replace'"):
            caption_folder(ChatModel(llm), tmp_path, QUESTION, word)
    assert texts(tmp_path) == {"00.txt": "mine"}


def test_bad_files_take_nothing_from_the_others(llm: LanguageModel, tmp_path: Path) -> None:
    names = fill(tmp_path, AT_ONCE + 4)
    alone = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION).texts
    for file in tmp_path.glob("*.txt"):
        file.unlink()
    (tmp_path / "03.png").write_bytes((tmp_path / "03.png").read_bytes()[:200])
    Image.new("RGB", (3000, 4)).save(tmp_path / "05.png")  # of a shape that no model takes
    (tmp_path / "06.png").unlink()
    (tmp_path / "06.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "07.txt").mkdir()
    (tmp_path / "08.jpg").write_bytes(b"shares 08.txt")
    (tmp_path / "09.txt").write_bytes("红色圆圈".encode("gbk"))
    (tmp_path / "10.txt").write_text("mine")
    (tmp_path / "11 photo.heic").write_bytes(b"of a telephone")
    found = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION)
    good = [names[index] for index in (0, 1, 2, 4, 10, 11)]
    assert list(found.texts) == good
    assert found.texts["10.png"] == "mine"
    assert (tmp_path / "09.txt").read_bytes() == "红色圆圈".encode("gbk")
    told = {
        "03.png": "cannot be read as a picture",
        "05.png": "3000",
        "06.png": "a dead link",
        "07.png": "07.txt is a folder",
        "08.jpg": "08.png would share 08.txt",
        "08.png": "08.jpg would share 08.txt",
        "09.png": "09.txt is not UTF-8 text",
        "11 photo.heic": "expected one of .png",
    }
    assert found.passed_over.keys() == told.keys()
    for name, why in told.items():
        assert why in found.passed_over[name]
    report = "\n".join(found.report())
    assert all(f"{name} passed over: " in report for name in told)
    seeds = [0, 1, 2, 4]  # what is beside a bad one is answered with its own seed
    assert [found.texts[names[index]] for index in seeds] == [alone[names[i]] for i in seeds]


def test_a_text_that_was_cut_off_is_told(llm: LanguageModel, tmp_path: Path) -> None:
    names = fill(tmp_path, 2)
    found = caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION)
    assert found.cut_off == names
    assert "cut off" in found.report()[0]
    assert caption_folder(ChatModel(llm, VARIED), tmp_path, QUESTION).cut_off == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a dog\n", "a dog"),
        (b"\xef\xbb\xbfa dog", "a dog"),
        (b"\xef\xbb\xbf", ""),
        ("ein grüner Kreis".encode("utf-16"), "ein grüner Kreis"),
        ("红".encode("utf-16-be").join([b"\xfe\xff", b""]), "红"),
        ("ein grüner Kreis".encode("cp1252"), None),
        ("红色圆圈".encode("gbk"), None),
        ("a dog".encode("utf-16-le"), None),
        (b"\xff\xfea", None),
    ],
)
def test_texts_are_read_or_told_never_guessed(
    tmp_path: Path, data: bytes, expected: str | None
) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    if expected is None:
        with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 text .* Save it as UTF-8"):
            caption_of(tmp_path / "a.png")
    else:
        assert caption_of(tmp_path / "a.png") == expected


def test_folders_that_cannot_be_captioned_are_told(llm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        caption_folder(ChatModel(llm), tmp_path, QUESTION)
    with pytest.raises(ValueError, match="question is empty"):
        caption_folder(ChatModel(llm), tmp_path, " ")
    (tmp_path / "00.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00\.jpg passed over: it cannot be read"):
        caption_folder(ChatModel(llm), tmp_path, QUESTION)


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jfif", ".webp", ".bmp", ".gif", ".tif"])
def test_longest_names_and_all_formats(llm: LanguageModel, tmp_path: Path, suffix: str) -> None:
    name = "字" * 82 + "abcde" + suffix  # 255 bytes, with a suffix of four
    if len(name.encode()) > 255:
        name = name[1:]
    Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    assert list(caption_folder(ChatModel(llm, SamplingParams(1)), tmp_path, QUESTION).texts) == [
        name
    ]
    assert (tmp_path / name).with_suffix(".txt").is_file()


@pytest.mark.skipif("AVIF" not in Image.registered_extensions().values(), reason="old Pillow")
def test_avif_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.avif")
    assert read_picture(tmp_path / "a.avif").shape == (30, 40, 3)


def test_nothing_else_hides_behind_a_suffix(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.eps")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.tga")
    for name in ("a.eps", "a.tga"):
        hidden = (tmp_path / name).rename(tmp_path / f"{name}.png")
        with pytest.raises(ValueError, match="cannot be read as a picture"):
            read_picture(hidden)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "b.png", format="JPEG")
    assert read_picture(tmp_path / "b.png").shape == (8, 8, 3)
    Image.new("F", (8, 8), 0.5).save(tmp_path / "c.tif")
    with pytest.raises(ValueError, match="32 bits"):
        read_picture(tmp_path / "c.tif")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tif", ".avif"])
def test_damaged_pictures_are_read_or_told(tmp_path: Path, suffix: str) -> None:
    """Bytes changed anywhere: no other error ever leaves the reader."""
    if suffix not in Image.registered_extensions():
        pytest.skip("this Pillow does not know it")
    file = tmp_path / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    whole, rng = file.read_bytes(), np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(data), rng.integers(0, 6)):
            data[place] = rng.integers(0, 256)
        file.write_bytes(data)
        with suppress(ValueError):
            assert read_picture(file).ndim == 3


def test_pictures_are_read_upright_and_in_full(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").shape == (30, 20, 3)
    Image.new("RGBA", (5, 4), (1, 2, 3, 0)).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png")[0, 0].tolist() == [1, 2, 3, 0]
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "c.png")
    assert read_picture(tmp_path / "c.png")[0, 0].tolist() == [156] * 3


def test_pictures_that_are_put_in_twice_are_one_file(tmp_path: Path) -> None:
    pictures = [torch.full((4, 5, 3), value) for value in (0.0, 1.0, 0.0)]
    for _ in range(2):
        add_pictures(tmp_path / "new", pictures)
    files = sorted((tmp_path / "new").iterdir())
    assert len(files) == 2
    assert {read_picture(file)[0, 0, 0].item() for file in files} == {0, 255}
