"""Break blip3u-tiny in every way that fuzz/broken.py knows, use each, and count how it ended.

    python tests/fuzz/broken_checkpoints.py [--only TEXT] [--every N] [--list] [--host]

A folder is drawn from, asked and varied; what its base gives is what it is compared with. Verdicts:
clear (an error that says what came, what was expected and what to do), same (nothing read it), and
what must not be: different (a wrong success), NaN, unclear, hang. Exits with 1 if there is one.
"""

import argparse
import json
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from fuzz.broken import all_broken, sample  # noqa: E402 - after the path
from fuzz.folders import Broken, make_bases  # noqa: E402

SECONDS = 60  # a folder that takes longer hangs
MAX_MB = 1500  # above what the worker needs by itself, torch and all
GOOD = ("clear", "same")


class Worker:
    """A process that judges folders, begun anew after each that hangs."""

    def __init__(self, bases: Path) -> None:
        self.bases = bases
        self.process: subprocess.Popen[str] | None = None

    def judge(self, broken: Broken, folder: Path) -> dict[str, str]:
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"folder": str(folder), "layout": broken.layout}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        self.stop()
        return {"verdict": "hang", "said": f"no answer in {SECONDS} s" if not ready else "died"}

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--worker", str(self.bases)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextmanager
def judging(bases: Path, in_host: bool) -> Iterator[Any]:
    """Whatever judges folders: a process of ours, or a ComfyUI."""
    if in_host:
        from fuzz.on_host import host_judge

        with host_judge(bases) as judge:
            yield judge
    else:
        worker = Worker(bases)
        yield worker
        worker.stop()


def work(bases: Path) -> None:
    """Answer every folder that comes over standard input with its verdict."""
    import resource
    from dataclasses import asdict

    from fuzz.judge import judge, outcomes

    expected = {}
    for layout in ("published", "sharded", "converted"):
        expected[layout], errors = outcomes(bases / layout)
        assert not errors, errors
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in sys.stdin:
        told = json.loads(line)
        found = asdict(judge(Path(told["folder"]), expected[told["layout"]]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak - before > MAX_MB * 1024:
            found = {"verdict": "hang", "said": f"took {(peak - before) // 1024} MB"}
        before = max(peak, before)
        print(json.dumps(found), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="those whose name holds this text")
    parser.add_argument("--every", type=int, default=1, help="one in so many")
    parser.add_argument("--list", action="store_true", help="print every verdict")
    parser.add_argument("--host", action="store_true", help="in ComfyUI (COMFYUI_PATH), over HTTP")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return 0
    chosen = sample((b for b in all_broken() if options.only in b.name), options.every)
    with tempfile.TemporaryDirectory() as folder:
        bases = make_bases(Path(folder) / "bases")
        counts, slowest = Counter(), (0.0, "")
        with judging(bases, options.host) as worker:
            for number, broken in enumerate(chosen):
                start = time.monotonic()
                target = broken.make(bases, Path(folder) / str(number))
                verdict = worker.judge(broken, target)
                shutil.rmtree(target)
                slowest = max(slowest, (time.monotonic() - start, broken.name))
                counts[verdict["verdict"]] += 1
                if options.list or verdict["verdict"] not in GOOD:
                    print(f"{verdict['verdict']:10} {broken.name}  {verdict['said'][:300]}")
                    sys.stdout.flush()
    print(f"\n{len(chosen)} broken folders: {dict(counts.most_common())}")
    print(f"slowest: {slowest[0]:.1f} s, {slowest[1]}")
    return int(any(verdict not in GOOD for verdict in counts))


if __name__ == "__main__":
    sys.exit(main())
