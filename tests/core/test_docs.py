"""What README and docs tell to type exists, and what can run without a network runs."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import run
from benchmarks.result_files import UNDERSTANDING
from blip3u_core.batch import __main__ as batch_command
from blip3u_core.batch import run as batch_run
from blip3u_core.export import __main__ as export_command
from blip3u_core.pipeline import Pipeline
from blip3u_core.run_settings import BUILT_IN
from blip3u_core.weights.checkpoint import open_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python (?:-m ([\w.]+)|([\w/]+\.py))")


def commands() -> list[tuple[str, str]]:
    return sorted({found for page in PAGES for found in COMMAND.findall(page.read_text("utf-8"))})


@pytest.mark.parametrize(("module", "script"), commands())
def test_every_command_names_what_is_there(module: str, script: str) -> None:
    if script:
        assert (ROOT / script).is_file()
    else:
        assert find_spec(module), f"python -m {module}: no such module"


def test_run_py_has_the_commands_of_the_readme() -> None:
    names = re.findall(r"python run\.py (\w+)", PAGES[0].read_text("utf-8"))
    assert {"demo", "serve", "test"} <= set(names)
    assert all(callable(getattr(run, name)) for name in names)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_converter_command_works_as_written(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "converter.md").read_text("utf-8")
    folder, command = re.findall(r"^    (?:cd )?(.*)$", page, re.MULTILINE)
    pack = tmp_path / folder
    shutil.copytree(ROOT / "blip3u_core", pack / "blip3u_core")
    models = tmp_path / "ComfyUI" / "models" / "blip3u"
    shutil.copytree(ROOT / "models" / "blip3u-tiny", models / "BLIP3o-Model-8B")
    words = command.replace("python", sys.executable, 1).split()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(words, cwd=pack, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert open_checkpoint(models / "8B-int8").llm.num_bytes > 0


def test_the_script_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(ROOT)
    quick = code.replace("seed=7)", "seed=7, feature_steps=1, decoder_steps=1)")
    assert quick != code
    names: dict = {}
    exec(compile(quick, "README.md", "exec"), names)  # noqa: S102 - our own page
    assert tuple(names["pictures"].shape) == (2, 128, 128, 3)
    assert names["again"].shape == names["pictures"].shape


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len(PAGES[0].read_text("utf-8").split()) < 800


# -------------------------------------------------------------------------- exports and batches

FEW = ["--feature-steps", "1", "--decoder-steps", "1", "--size", "64", "64"]
GEDIT = {"task_type": "color_alter", "key": "k", "instruction_language": "en", "instruction": "go"}


def blocks(page: str) -> list[str]:
    """Its indented commands, a line each, without remarks."""
    text = (ROOT / "docs" / page).read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    return [re.sub(r"\s+# .*$", "", line) for line in lines]


def bulk_commands() -> list[str]:
    """Exports and batches as docs/ writes them, but for those of a cluster."""
    lines = blocks("benchmarks.md") + blocks("batch.md")
    found = [line for line in lines if re.match(r"python -m blip3u_core\.(export|batch) ", line)]
    return [line for line in found if "--ray" not in line]


def make_inputs(folder: Path) -> None:
    """What the commands of the pages read, small, in the forms of the official files."""
    content = {
        "geneval/prompts/evaluation_metadata.jsonl": {"tag": "colors", "prompt": "a red circle"},
        "ELLA/dpg_bench/prompts/0.txt": "a red circle",
        "WISE/data_verified/merge.json": [{"Prompt": "a star", "prompt_id": 1}],
        "ImgEdit/Benchmark/Basic/basic_edit.json": {"1": {"id": "a/b.jpg", "prompt": "go"}},
        "prompts.jsonl": {"key": "a", "prompt": "a red circle"},
        "photos/notes.md": "no picture",
    }
    for name, value in content.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    (folder / "Benchmark" / "a").mkdir(parents=True)
    for name in ("Benchmark/a/b.jpg", "photos/c.png", "d.png"):
        Image.new("RGB", (64, 64), "beige").save(folder / name)
    (folder / "d.txt").write_text("make it night")
    with tarfile.open(folder / "edits-000.tar", "w") as tar:
        tar.add(folder / "d.png", "d.png")
        tar.add(folder / "d.txt", "d.txt")


def make_tables(folder: Path) -> None:
    picture = {"bytes": (folder / "d.png").read_bytes(), "path": None}
    (folder / "GEdit-Bench" / "data").mkdir(parents=True)
    table = pa.Table.from_pylist([{**GEDIT, "input_image": picture}])
    pq.write_table(table, folder / "GEdit-Bench" / "data" / "train.parquet")
    table = pa.Table.from_pylist([{"key": "d", "image": picture}])
    pq.write_table(table, folder / "photos.parquet")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_checkpoint(BUILT_IN)


@pytest.mark.parametrize("line", bulk_commands())
def test_exports_and_batches_work_as_written(
    line: str, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inputs(tmp_path)
    if "parquet" in line or "GEdit" in line:
        make_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    for module in (export_command, batch_run):
        monkeypatch.setattr(module, "open_pipeline", lambda _: pipeline)
    module, *words = shlex.split(line)[2:]
    command = {"blip3u_core.export": export_command, "blip3u_core.batch": batch_command}[module]
    threads = ["--threads", "1"] if command is batch_command else []
    command.main([*words, *FEW, *threads])
    made = Path(words[words.index("--out") + 1])
    files = [file for file in made.rglob("*") if file.suffix in (".png", ".tar", ".parquet")]
    assert files, list(made.rglob("*"))


def test_the_pages_tell_of_every_export_and_batch() -> None:
    words = {tuple(line.split()[2:4]) for line in bulk_commands()}
    tasks = {("blip3u_core.export", name) for name in export_command.BENCHMARKS}
    assert words == tasks | {("blip3u_core.batch", name) for name in batch_command.TASKS}


def test_the_clusters_commands_are_understood() -> None:
    """They need Ray and many machines; here their options are read."""
    lines = [line for line in blocks("batch.md") if "--ray" in line and "..." not in line]
    assert lines
    for line in lines:
        options = batch_command._parser().parse_args(shlex.split(line)[3:])
        assert options.ray
        assert options.address


def test_lmms_eval_is_told_the_tasks_that_compare_reads() -> None:
    (line,) = (line for line in blocks("benchmarks.md") if line.startswith("lmms-eval "))
    words = shlex.split(line)
    tasks = words[words.index("--tasks") + 1].split(",")
    assert set(tasks) == {task for task, _, _ in UNDERSTANDING.values()}
    assert words[words.index("--model") + 1] == "blip3u"


def test_the_comparison_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = (line for line in blocks("benchmarks.md") if "benchmarks.compare" in line)
    for folder in ("runs/eval", "results"):
        (tmp_path / folder).mkdir(parents=True)
    scores = {"results": {"gqa": {"exact_match,none": 0.6}}}
    (tmp_path / "runs/eval/1_results.json").write_text(json.dumps(scores))
    monkeypatch.chdir(tmp_path)
    assert importlib.import_module("benchmarks.compare").main(shlex.split(line)[3:]) == 0
    assert (tmp_path / "compare.png").stat().st_size


def test_the_chinese_page_has_the_commands_and_figures_of_the_readme() -> None:
    english, chinese = (page.read_text("utf-8") for page in (PAGES[0], ROOT / "docs" / "zh.md"))
    english = re.sub(r"```.*?```", "", english, flags=re.DOTALL)  # the script stands there alone
    for pattern in (r"^    ([^#\n]*[^#\s])", r"`([^`\n]+)`", r"(\d+\.\d+ GB)"):
        told = set(re.findall(pattern, chinese, re.MULTILINE))
        assert set(re.findall(pattern, english, re.MULTILINE)) <= told
