"""run.py's words when a machine lacks something, and that a second set-up does nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import run


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(run.Stop, match="package index cannot be reached"):
        run.pip(Path(sys.executable), "download", "--dest", str(tmp_path), "no-such-package-here")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch==2.14.1", "no build for Python"),
        ("error: something else", "start again"),
    ],
)
def test_pip_failures_are_told(output: str, words: str) -> None:
    assert words in run.reason_of(output)


def test_a_full_disk_is_told_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = type("Usage", (), {"free": 1e9})
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _folder: usage)
    monkeypatch.setattr(run, "VENV", tmp_path / ".venv")
    with pytest.raises(run.Stop, match=r"1\.0 GB are free"):
        run.check_room()


def test_a_wrong_comfyui_path_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(run.Stop, match=r"holds no main\.py"):
        run.existing_comfy()


def test_an_existing_comfyui_brings_its_own_python(tmp_path: Path) -> None:
    python = run.venv_python(tmp_path / "venv")
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")  # says that it has all that is asked for
    python.chmod(0o755)
    assert run.python_of(tmp_path) == python


def test_a_changed_requirement_changes_the_stamp(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("a")
    before = run.stamp_of([file], ["pin"])
    assert run.stamp_of([file], ["pin"]) == before
    file.write_text("b")
    assert run.stamp_of([file], ["pin"]) != before


def test_the_pack_is_linked_once(tmp_path: Path) -> None:
    pack, folder = tmp_path / "pack", tmp_path / "custom_nodes"
    pack.mkdir()
    folder.mkdir()
    for _ in range(2):
        run.link(pack, folder)
    (entry,) = folder.iterdir()
    assert entry.resolve() == pack


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["demo", "--help"], ["test", "-h"]])
def test_help_sets_up_nothing(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("help must not install anything")

    monkeypatch.setattr(run, "set_up", refuse)
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    assert run.main() == 0
    assert "run.py demo" in capsys.readouterr().out


def test_no_command_shows_the_help() -> None:
    script = Path(run.__file__)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "run.py demo" in done.stdout
