"""`python tests/compat/exports_killed.py`: exports, killed by kill -9 and resumed, byte for byte.

Every benchmark is exported whole, then anew with a SIGKILL in the middle of the first file, of one
halfway and of the last, and each time resumed. blip3u-tiny, four prompts each, one step.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums of floats depend on it; and runs are forked

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from blip3u_core.atomic_files import PART_NAMES  # noqa: E402  after the path above
from blip3u_core.export import __main__ as command  # noqa: E402
from blip3u_core.export.items import BENCHMARKS  # noqa: E402

FEW = ["--feature-steps", "1", "--decoder-steps", "1", "--size", "64", "64", "--batch-size", "2"]
NUM = 4  # prompts a benchmark
PICTURES = {"geneval": 6 * NUM, "dpg": NUM, "wise": NUM, "imgedit": NUM, "gedit": 2 * NUM}  # files


def write_prompts(benchmark: str, folder: Path) -> Path:
    """Prompts in the form of the benchmark's own file."""
    texts = [f"a red circle and {number} stars" for number in range(NUM)]
    lines: Sequence[object] = []
    if benchmark == "geneval":
        lines = [{"tag": "counting", "include": [], "prompt": text} for text in texts]
    if benchmark == "gedit":
        lines = [
            {"task_type": "color_alter", "key": f"k{number}", "instruction": text,
             "instruction_language": "en", "input_image": "source.png"}
            for number, text in enumerate(texts)
        ]  # fmt: skip
    content = "".join(json.dumps(line) + "\n" for line in lines)
    if benchmark == "dpg":
        rows = (f"{number},{text},1\n" for number, text in enumerate(texts))
        content = "item_id,text,proposition_id\n" + "".join(rows)
    if benchmark == "wise":
        content = json.dumps([{"Prompt": t, "prompt_id": n} for n, t in enumerate(texts, 1)])
    if benchmark == "imgedit":
        content = json.dumps({n: {"id": "source.png", "prompt": t} for n, t in enumerate(texts)})
    Image.new("RGB", (80, 48), "beige").save(folder / "source.png")
    file = folder / ("prompts.csv" if benchmark == "dpg" else "prompts.jsonl")
    file.write_text(content, "utf-8")
    return file


def run(benchmark: str, prompts: Path, out: Path, kill_at: int | None = None) -> int:
    """The command in a process of its own; its exit status, or minus the signal that ended it.

    Args:
        kill_at: the file in whose midst it dies: its content is written, its name is not.
    """
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    left, sync = [kill_at], os.fsync

    def fsync(file: int) -> None:
        sync(file)
        if left[0] is not None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    words = [benchmark, "--prompts", str(prompts), "--out", str(out), *FEW, "--device", "cpu"]
    try:
        command.main([*words, "--images", str(prompts.parent)])
    finally:
        os._exit(int(sys.exc_info()[0] is not None))


def files_below(folder: Path) -> dict[str, bytes]:
    """With the settings that lie beside the pictures."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def check(benchmark: str, work: Path) -> str:
    prompts = write_prompts(benchmark, work)
    assert run(benchmark, prompts, work / "whole" / "out") == 0
    wanted = files_below(work / "whole")
    files = PICTURES[benchmark] + 1  # the settings come first
    assert len(wanted) == files
    found = []
    for point in (2, files // 2 + 1, files):
        folder = work / str(point)
        assert run(benchmark, prompts, folder / "out", point) == -signal.SIGKILL
        left = files_below(folder)
        assert sum(Path(name).match(PART_NAMES) for name in left) == 1
        assert len(left) == point  # the others are whole
        assert run(benchmark, prompts, folder / "out") == 0
        assert files_below(folder) == wanted
        found.append(str(point - 1))
    return f"{files - 1} files; killed in {', '.join(found)}: the same bytes"


def main() -> None:
    for benchmark in BENCHMARKS:
        with tempfile.TemporaryDirectory() as work:
            print(f"| {benchmark} | {check(benchmark, Path(work))} |", flush=True)


if __name__ == "__main__":
    main()
