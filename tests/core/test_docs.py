"""What README and docs tell to type exists, and what can run without a network runs."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import run
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
