"""Files appear whole or not at all, and what a killed process leaves goes with the next run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blip3u_core.atomic_files import PART_NAMES, new_file, remove_leftovers, write_atomically
from blip3u_core.chat.chat import Chat
from blip3u_core.chat.files import save_chat
from blip3u_core.weights.writer import write_safetensors

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys, time
from pathlib import Path
from blip3u_core.atomic_files import new_file
with new_file(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_it_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_atomically(target, lambda stream: stream.write(b"one"))
    with pytest.raises(OSError, match="read"):
        write_atomically(target, lambda stream: (stream.write(b"two"), stream.read()))
    assert target.read_bytes() == b"one"
    assert list(target.parent.iterdir()) == [target]
    longest = tmp_path / ("x" * 255)
    write_atomically(longest, lambda stream: stream.write(b"three"))
    assert longest.read_bytes() == b"three"


def test_leftovers_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"writing\n"
            remove_leftovers(tmp_path)
            with new_file(tmp_path / "b.txt") as stream:
                stream.write(b"whole")
                remove_leftovers(tmp_path)
            assert len(list(tmp_path.glob(PART_NAMES))) == 1
        finally:
            process.kill()
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".part"] == ["b.txt"]
    remove_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["b.txt"]
    remove_leftovers(tmp_path / "nowhere")


def test_those_that_write_clean_up_before(tmp_path: Path) -> None:
    leftover = tmp_path / PART_NAMES.replace("*", "0a0a")
    leftover.write_bytes(b"half")
    save_chat(Chat().say("user", "hi", [torch.zeros(4, 4, 3)]), tmp_path / "chat.json")
    assert not leftover.exists()
    write_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {})
    assert not list(tmp_path.glob(".*"))
