"""Batches of blip3u-tiny on one machine: formats in and out, bad rows, kills, the same bytes."""

import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from blip3u_core.batch import __main__ as command
from blip3u_core.batch import on_ray, shards, tasks
from blip3u_core.batch import run as batch_run
from blip3u_core.batch.on_ray import RayWorker
from blip3u_core.batch.plan import seed_of, shard_names
from blip3u_core.batch.rows import Columns, Row, open_row_picture, read_rows
from blip3u_core.batch.tasks import Job
from blip3u_core.language.context import Context
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.model import LanguageModel
from blip3u_core.pipeline import Pipeline
from blip3u_core.run_settings import BUILT_IN

FEW = ["--feature-steps", "1", "--decoder-steps", "1", "--size", "64", "64"]
SMALL = ["--shard-size", "4", "--batch-size", "2", "--threads", "1"]


@pytest.fixture(scope="module", autouse=True)
def pipeline() -> Iterator[Pipeline]:
    """The model is read once for all runs."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        pipeline = Pipeline.from_checkpoint(BUILT_IN)
        patched.setattr(batch_run, "open_pipeline", lambda _: pipeline)
        yield pipeline
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("in") / "prompts.jsonl"
    rows = [{"key": f"a/{i}.x", "prompt": "" if i == 3 else "a red circle"} for i in range(7)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, prompts: Path) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    run("generate", prompts, out, *FEW)
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    Image.new("RGB", (90, 60), "beige").save(folder / "one.png")
    Image.new("L", (64, 64), 40).save(folder / "b" / "two.jpg")
    (folder / "b" / "three.webp").write_bytes(b"no picture")
    (folder / "one.txt").write_text("make it night")
    (folder / "notes.md").write_text("left alone")
    return folder


def run(task: str, rows: Path, out: Path, *more: str | Path) -> dict[str, bytes]:
    """What a run leaves in its folder, without the plan."""
    wish = [task, "--in", rows, "--out", out, *SMALL, *more]
    command.main([str(part) for part in wish])
    return results_in(out)


def results_in(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.iterdir()) if file.is_file()}


def members(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {m.name: opened.extractfile(m).read() for m in opened}  # type: ignore[union-attr]


def errors_in(out: Path) -> dict[str | None, str]:
    lines = (out / "errors.jsonl").read_text("utf-8").splitlines()
    return {row["key"]: row["error"] for row in map(json.loads, lines)}


def test_every_good_row_is_in_one_shard_and_bad_ones_are_told(whole: Path) -> None:
    assert results_in(whole).keys() == {
        "000000.tar",
        "000001.tar",
        "errors.jsonl",
        "settings.json",
    }
    found = {**members((whole / "000000.tar").read_bytes())}
    found |= members((whole / "000001.tar").read_bytes())
    names = [f"a%2F{i}%2Ex" for i in range(7) if i != 3]
    assert found.keys() == {f"{name}.{end}" for name in names for end in ("png", "json")}
    facts = json.loads(found["a%2F5%2Ex.json"])
    assert facts["key"] == "a/5.x"
    assert facts["prompt"] == "a red circle"
    assert facts["seed"] == seed_of("a/5.x", 0)
    assert facts["settings"] == {"feature_steps": 1, "decoder_steps": 1, "size": [64, 64]}
    assert len(facts["checkpoint"]) == 64
    assert Image.open(io.BytesIO(found["a%2F5%2Ex.png"])).size == (64, 64)
    assert len({content for name, content in found.items() if name.endswith("png")}) == 6
    wrong = errors_in(whole)
    assert wrong["a/3.x"] == "its text is empty"
    assert "line 8, is no JSON" in wrong[None]


def test_the_picture_is_that_of_its_seed_alone(whole: Path, pipeline: Pipeline) -> None:
    settings = {"feature_steps": 1, "decoder_steps": 1, "size": (64, 64)}
    alone = pipeline.text_to_image("a red circle", seed=seed_of("a/5.x", 0), **settings)[0]
    shard = members((whole / "000001.tar").read_bytes())
    batched = np.array(Image.open(io.BytesIO(shard["a%2F5%2Ex.png"])))
    assert np.abs(batched - alone.numpy() * 255).max() <= 1.01


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("shard", "records"), [(0, 1), (0, 2), (1, 2)])
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path,
    prompts: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    shard: int,
    records: int,
) -> None:
    """A kill while a shard is being written leaves no shard, and the next run makes it anew."""

    def dying(path: Path, given: Iterator[shards.Record]) -> None:
        def until() -> Iterator[shards.Record]:
            for number, record in enumerate(given):
                if path.stem == f"{shard:06}" and number == records:
                    raise Killed
                yield record

        write(path, until())

    write = batch_run.write_shard
    with monkeypatch.context() as patched:
        patched.setattr(batch_run, "write_shard", dying)
        with pytest.raises(Killed):
            run("generate", prompts, tmp_path / "out", *FEW)
    assert not (tmp_path / f"out/{shard:06}.tar").exists()
    assert run("generate", prompts, tmp_path / "out", *FEW) == results_in(whole)


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(
    prompts: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results_in(whole)
    monkeypatch.setattr(batch_run, "ShardWorker", None)
    assert run("generate", prompts, whole, *FEW) == before
    with pytest.raises(ValueError, match="of another run: seed was 0 and is 5"):
        run("generate", prompts, whole, *FEW, "--seed", "5")


def test_a_plan_that_was_not_finished_is_made_anew(
    tmp_path: Path, prompts: Path, whole: Path
) -> None:
    plan = tmp_path / "out" / ".plan"
    plan.mkdir(parents=True)
    (plan / "000000.jsonl").write_text("half a li")
    (plan / "000009.jsonl").write_text("")
    assert run("generate", prompts, tmp_path / "out", *FEW) == results_in(whole)


def test_duplicate_keys_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.jsonl"
    file.write_text('{"key": "a", "prompt": "x"}\n' * 2)
    with pytest.raises(ValueError, match="the key 'a' comes twice, expected each once"):
        run("generate", file, tmp_path / "out", *FEW)


def test_settings_that_no_row_can_meet_stop_the_run(tmp_path: Path, prompts: Path) -> None:
    with pytest.raises(ValueError, match="expected multiples of"):
        run("generate", prompts, tmp_path / "out", "--size", "65", "64")


def test_photos_are_captioned_encoded_and_edited(tmp_path: Path, photos: Path) -> None:
    captions = members(
        run("caption", photos, tmp_path / "c", "--max-new-tokens", "8")["000000.tar"]
    )
    assert captions.keys() == {
        "one%2Epng.txt", "one%2Epng.json", "b%2Ftwo%2Ejpg.txt", "b%2Ftwo%2Ejpg.json",
    }  # fmt: skip
    assert captions["b%2Ftwo%2Ejpg.txt"].decode().strip()
    assert errors_in(tmp_path / "c").keys() == {"b/three.webp"}
    features = members(run("features", photos, tmp_path / "f")["000000.tar"])
    array = np.load(io.BytesIO(features["one%2Epng.npy"]))
    assert array.dtype == np.float16
    assert array.ndim == 3
    edited = members(run("edit", photos, tmp_path / "e", *FEW[:4])["000000.tar"])
    assert Image.open(io.BytesIO(edited["one%2Epng.png"])).size == (90, 60)
    assert errors_in(tmp_path / "e")["b/two.jpg"] == "its text is empty"


@pytest.mark.parametrize(
    ("task", "more"),
    [("edit", FEW), ("edit", ["--edit-by", "flow", *FEW]), ("caption", []), ("features", [])],
)
def test_an_actor_of_ray_makes_the_same_shards(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, task: str, more: list[str]
) -> None:
    """Ray itself is in tests/compat/ray_batches.py; here its actor works in this process."""

    def run_on_ray(out: Path, job: Job, actors: int, address: str | None) -> None:
        plain = json.loads(json.dumps(asdict(job)))  # as it travels
        worker = RayWorker(plain, str(out))
        logs = [worker({"shard": np.array([name])}) for name in shard_names(out)]
        assert sum(int(log["rows"][0]) for log in logs) == 3

    monkeypatch.setattr(on_ray, "run_on_ray", run_on_ray)
    more = [*more, "--max-new-tokens", "8"]
    assert run(task, photos, tmp_path / "ray", *more, "--ray") == run(
        task, photos, tmp_path / "here", *more
    )


def test_pictures_of_captions_are_read_beside_the_model(
    tmp_path: Path, photos: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads, so that a GPU does not wait; what the model cannot read is said all the same."""
    threads = []

    def question_context(llm: LanguageModel, row: tasks.Ready) -> Context:
        threads.append(threading.current_thread())
        return made(llm, row)

    made = tasks.question_context
    monkeypatch.setattr(tasks, "question_context", question_context)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, text in (
        ("a", "What is this?"),
        ("b", "Which color?"),
        ("c", "word " * pipeline.llm.config.max_positions),
    ):
        shutil.copy(photos / "one.png", folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
    shard = members(run("caption", folder, tmp_path / "c", "--max-new-tokens", "8")["000000.tar"])
    assert threading.main_thread() not in threads[:2]
    picture = torch.from_numpy(np.array(Image.open(photos / "one.png"))).float() / 255
    for name, text in (("a", "What is this?"), ("b", "Which color?")):
        alone = pipeline.answer(text, picture, sampling=SamplingParams(max_new_tokens=8))
        assert shard[f"{name}%2Epng.txt"].decode() == alone
    assert "c.png" in errors_in(tmp_path / "c")


def test_features_are_those_of_the_tower(tmp_path: Path, photos: Path, pipeline: Pipeline) -> None:
    shard = members(run("features", photos, tmp_path / "f")["000000.tar"])
    picture = torch.from_numpy(np.array(Image.open(photos / "one.png"))).float()[None] / 255
    wanted = pipeline.encode(picture)[0][0].numpy()
    assert np.allclose(np.load(io.BytesIO(shard["one%2Epng.npy"])), wanted, atol=2e-3, rtol=1e-3)


def test_a_tar_of_ours_can_be_read_again(tmp_path: Path, whole: Path) -> None:
    rows = list(read_rows([whole / "000000.tar"], Columns()))
    assert [row.key for row in rows if isinstance(row, Row)] == [f"a%2F{i}%2Ex" for i in range(3)]
    for row in rows:
        assert isinstance(row, Row)
        assert row.text == "a red circle"
        assert row.picture
        assert open_row_picture(row.picture).size == (64, 64)


def test_parquet_in_and_out(tmp_path: Path, photos: Path, whole: Path) -> None:
    content = (photos / "one.png").read_bytes()
    images = [{"bytes": content, "path": None}, {"bytes": b"no", "path": None}]
    table = pa.table({"id": ["p", "q"], "instruction": ["make it night"] * 2, "picture": images})
    pq.write_table(table, tmp_path / "edits.parquet")
    names = ["--key-column", "id", "--image-column", "picture", "--format", "parquet"]
    run("edit", tmp_path / "edits.parquet", tmp_path / "out", *names, *FEW[:4])
    (row,) = pq.read_table(tmp_path / "out" / "000000.parquet").to_pylist()
    assert row["key"] == "p"
    assert row["seed"] == seed_of("p", 0)
    assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (90, 60)
    assert errors_in(tmp_path / "out").keys() == {"q"}


@pytest.mark.parametrize(
    ("name", "said"), [("rows.csv", "expected .jsonl, .parquet, .tar"), ("none", "is missing")]
)
def test_unknown_input_is_said(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "rows.csv").write_text("a,b")
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        run("generate", tmp_path / name, tmp_path / "out")
