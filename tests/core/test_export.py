"""Exports of blip3u-tiny: the folders that the official scorers read, also after a stop."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from blip3u_core.export import __main__ as command
from blip3u_core.export import draw, items
from blip3u_core.pipeline import Pipeline
from blip3u_core.run_settings import BUILT_IN

FEW = ["--feature-steps", "1", "--decoder-steps", "1", "--size", "64", "64", "--batch-size", "4"]
EDITS = {
    "12": {"id": "a/one.png", "prompt": "make it night", "edit_type": "background"},
    "7": {"id": "a/two.jpg", "prompt": "remove the circle", "edit_type": "remove"},
}


def files_of(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def run(benchmark: str, prompts: Path, out: Path, *more: str | Path) -> dict[str, bytes]:
    wish = [benchmark, "--prompts", prompts, "--out", out, *FEW, *more]
    command.main([str(part) for part in wish])
    return files_of(out)


@pytest.fixture(scope="module", autouse=True)
def one_pipeline() -> Iterator[None]:
    """The model is read once for all runs."""
    with pytest.MonkeyPatch.context() as patched:
        pipeline = Pipeline.from_checkpoint(BUILT_IN)
        patched.setattr(command, "open_pipeline", lambda _: pipeline)
        yield


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (100, 60), "beige").save(folder / "a" / "one.png")
    Image.new("L", (64, 96), 40).save(folder / "a" / "two.jpg")
    return folder


@pytest.fixture(scope="module")
def geneval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "evaluation_metadata.jsonl"
    rows = [
        {"tag": "colors", "include": [{"class": "circle", "count": 1}], "prompt": prompt}
        for prompt in ("a red circle", "a blue star")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, geneval: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "out"
    run("geneval", geneval, folder)
    return folder


class Killed(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """A kill: no file appears after so many."""
    left = [writes]

    def write(path: Path, write: object) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        whole(path, write)

    whole = items.write_atomically
    monkeypatch.setattr(items, "write_atomically", write)


def test_geneval(out: Path) -> None:
    files = files_of(out)
    names = ["metadata.jsonl", "grid.png", *(f"samples/{i:04}.png" for i in range(4))]
    assert files.keys() == {f"{n:05}/{name}" for n in range(2) for name in names}
    assert json.loads(files["00001/metadata.jsonl"])["prompt"] == "a blue star"
    pictures = [np.array(Image.open(out / f"00001/samples/{i:04}.png")) for i in range(4)]
    grid = np.array(Image.open(out / "00001/grid.png"))
    assert (grid == np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])])).all()
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_seeds_are_those_of_single_runs(tmp_path: Path, geneval: Path, out: Path) -> None:
    """Picture i of every prompt has the seed 42 + i, whoever is drawn beside it."""
    run("geneval", geneval, tmp_path / "one", "--seed", 44, "--batch-size", 1)
    for prompt in ("00000", "00001"):
        here = Image.open(out / f"{prompt}/samples/0002.png")
        alone = Image.open(tmp_path / f"one/{prompt}/samples/0000.png")
        difference = np.abs(np.array(here, dtype=int) - np.array(alone, dtype=int))
        assert difference.max() <= 1


@pytest.mark.parametrize("writes", [1, 5, 7])
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, geneval: Path, out: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    killed(monkeypatch, writes, "geneval", geneval, tmp_path / "out")
    assert run("geneval", geneval, tmp_path / "out") == files_of(out)


def killed(
    monkeypatch: pytest.MonkeyPatch, writes: int, benchmark: str, prompts: Path, out: Path, *more
) -> None:
    """A run that was killed after so many files."""
    with monkeypatch.context() as patched:
        stop_after(patched, writes)
        with pytest.raises(Killed):
            run(benchmark, prompts, out, *more)
    assert len(files_of(out)) == writes


@pytest.mark.parametrize(
    ("benchmark", "writes"),
    [("dpg", 1), ("wise", 1), ("imgedit", 1), ("gedit", 1), ("gedit", 2), ("gedit", 3)],
)
def test_every_benchmark_goes_on_after_a_kill(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch, benchmark: str, writes: int
) -> None:
    prompts, more = few_prompts(benchmark, tmp_path), []
    if benchmark == "imgedit":
        more = ["--images", sources]
    whole = run(benchmark, prompts, tmp_path / "whole", *more)
    assert len(whole) == (4 if benchmark == "gedit" else 2)
    killed(monkeypatch, writes, benchmark, prompts, tmp_path / "out", *more)
    (tmp_path / "out" / ".blip3u-0.part").write_bytes(b"half a pict")  # as a real kill leaves it
    (tmp_path / ".blip3u-0.part").write_bytes(b"")
    assert run(benchmark, prompts, tmp_path / "out", *more) == whole
    assert not list(tmp_path.rglob("*.part"))


def few_prompts(benchmark: str, folder: Path) -> Path:
    """Two prompts in the form of a benchmark's own file."""
    gedit = {"task_type": "color_alter", "instruction": "make it night"}
    gedit |= {"key": "k1", "input_image": "pictures/a/one.png"}
    content = {
        "dpg": "item_id,text,proposition_id\n0,a red circle,1\n0,a red circle,2\n1,a star,1\n",
        "wise": json.dumps([{"Prompt": "a star", "prompt_id": number} for number in (1, 2)]),
        "imgedit": json.dumps(EDITS),
        "gedit": "".join(
            json.dumps({**gedit, "instruction_language": language}) + "\n"
            for language in ("en", "cn")
        ),
    }[benchmark]
    file = folder / {"dpg": "dpg_bench.csv", "gedit": "gedit.jsonl"}.get(benchmark, "edit.json")
    file.write_text(content, "utf-8")
    return file


def test_what_is_whole_is_not_drawn_again(
    geneval: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files_of(out)
    monkeypatch.setattr(draw, "draw_rows", None)
    assert run("geneval", geneval, out) == whole
    with pytest.raises(ValueError, match=r"of another run: .*seed was 42 and is 1"):
        run("geneval", geneval, out, "--seed", 1)


def test_dpg_reads_its_table_as_its_folder(tmp_path: Path) -> None:
    made = run("dpg", few_prompts("dpg", tmp_path), tmp_path / "table")
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "0.txt").write_text("a red circle")
    (folder / "1.txt").write_text("a star")
    assert made == run("dpg", folder, tmp_path / "folder")


def test_gedit_reads_its_parquet_as_json_lines(tmp_path: Path, sources: Path) -> None:
    lines = few_prompts("gedit", tmp_path)
    wanted = run("gedit", lines, tmp_path / "lines")
    rows = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    content = (sources / "a" / "one.png").read_bytes()
    forms = [{"bytes": content, "path": None}, {"bytes": None, "path": "../pictures/a/one.png"}]
    more = {"Intersection_exist": True, "input_image_raw": forms[0]}  # columns of the data set
    table = [row | {"input_image": form} | more for row, form in zip(rows, forms, strict=True)]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "data" / "train-00000.parquet")
    assert run("gedit", tmp_path / "data", tmp_path / "parquet") == wanted


def test_dpg_and_wise(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "whoops1.txt").write_text("a red circle\n")
    (prompts / "0.txt").write_text("a blue star")
    dpg = run("dpg", prompts, tmp_path / "dpg")
    assert dpg.keys() == {"0.png", "whoops1.png"}
    assert Image.open(tmp_path / "dpg/0.png").size == (128, 128)
    wise = tmp_path / "wise.json"
    wise.write_text(json.dumps([{"Prompt": "a star", "prompt_id": 701, "Explanation": ""}]))
    assert run("wise", wise, tmp_path / "wise").keys() == {"701.png"}
    assert Image.open(tmp_path / "wise/701.png").size == (64, 64)


@pytest.mark.parametrize("way", ["instruction", "flow"])
def test_imgedit_keeps_the_size_of_the_source(tmp_path: Path, sources: Path, way: str) -> None:
    prompts = tmp_path / "basic_edit.json"
    prompts.write_text(json.dumps(EDITS))
    made = run("imgedit", prompts, tmp_path / "out", "--images", sources, "--edit-by", way)
    assert made.keys() == {"12.png", "7.png"}
    assert Image.open(tmp_path / "out/12.png").size == (100, 60)
    assert Image.open(tmp_path / "out/7.png").size == (64, 96)


def test_gedit_puts_the_source_beside(tmp_path: Path, sources: Path) -> None:
    row = {"task_type": "color_alter", "key": "k1", "input_image": "pictures/a/one.png"}
    rows = [
        {**row, "instruction_language": "en", "instruction": "make it night"},
        {**row, "instruction_language": "cn", "instruction": "夜晚"},
    ]
    prompts = tmp_path / "gedit.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = run("gedit", prompts, tmp_path / "results", "--model-name", "mine")
    place = "mine/fullset/color_alter"
    assert made.keys() == {
        f"{place}/{lang}/k1{end}.png" for lang in ("en", "cn") for end in ("", "_SRCIMG")
    }
    assert Image.open(tmp_path / f"results/{place}/cn/k1.png").size == (100, 60)


BAD: Sequence[tuple[str, object, str]] = [
    ("wise", [{"Prompt": "a", "prompt_id": 1}] * 2, "expected each key once"),
    ("wise", [{"Prompt": " ", "prompt_id": 1}], "entry 0, says Prompt ' ', expected text"),
    ("wise", [{"Prompt": "a", "prompt_id": "../1"}], "expected a plain file name"),
    ("wise", {"Prompt": "a"}, "holds no list"),
    ("imgedit", EDITS, "expected --images FOLDER"),
    ("geneval", [1], "line 1, is .* expected a JSON object"),
    ("gedit", {"key": "k"}, "line 1, says input_image None, expected text"),
    ("wise", [], "hold no prompts, expected the files of wise"),
]


@pytest.mark.parametrize(("benchmark", "content", "said"), BAD)
def test_bad_prompts_are_said(tmp_path: Path, benchmark: str, content: object, said: str) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        run(benchmark, prompts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_without_dpgs_columns_is_said(tmp_path: Path) -> None:
    prompts = tmp_path / "other.csv"
    prompts.write_text("item_id,prompt\n0,a star\n")
    with pytest.raises(ValueError, match="row 2, has no item_id or no text"):
        run("dpg", prompts, tmp_path / "out")


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    prompts = tmp_path / "basic_edit.json"
    prompts.write_text(json.dumps(EDITS))
    with pytest.raises(FileNotFoundError, match=r"one\.png is missing, expected the picture"):
        run("imgedit", prompts, tmp_path / "out", "--images", tmp_path)
