"""`python tests/compat/ray_batches.py --work FOLDER [--rows N]`: batches on Ray, killed, compared.

Needs an environment with `pip install '.[batch]'` and torch; one CPU a model, two models. Prints a
row for every claim that docs/batch.md makes, and fails if a byte differs. `--only verbs` is the
small part about edit, caption and features, `--only kills` the large one about generate.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from PIL import Image, ImageDraw  # noqa: E402  after the path above

from blip3u_core.atomic_files import PART_NAMES  # noqa: E402

FEW = "--feature-steps 1 --decoder-steps 1 --size 64 64 --threads 1 --device cpu"
SHARDS = 40  # of generate
PHOTOS, PHOTOS_A_SHARD = 30, 8
VERBS = {
    "edit, instruction": ["edit", "--edit-by", "instruction"],
    "edit, flow": ["edit", "--edit-by", "flow", "--format", "parquet"],
    "caption": ["caption", "--max-new-tokens", "8"],
    "features": ["features"],
}
WORKER = "RayWorker"  # stands in the title of an actor's process


def make_rows(file: Path, count: int) -> None:
    """One row in a hundred is broken."""
    with file.open("w", encoding="utf-8") as opened:
        for number in range(count):
            prompt = "" if number % 100 == 7 else f"a red circle and {number} stars"
            opened.write(json.dumps({"key": f"row-{number:06}", "prompt": prompt}) + "\n")


def make_photos(folder: Path) -> set[str]:
    """Pictures of several sizes with a text beside each.

    Returns: the keys of two that are broken: one is no picture, one has no text.
    """
    folder.mkdir()
    for number in range(PHOTOS):
        picture = Image.new("RGB", (64 + 8 * (number % 5), 96), "beige")
        ImageDraw.Draw(picture).ellipse((8, 8, 20 + number, 20 + number), fill="red")
        picture.save(folder / f"p{number:02}.png")
        text = "" if number == PHOTOS - 3 else f"make circle {number} blue"
        (folder / f"p{number:02}.txt").write_text(text)
    (folder / "p04.png").write_bytes(b"no picture")
    return {"p04.png", f"p{PHOTOS - 3}.png"}


class Run:
    """The command on one output folder."""

    def __init__(self, task: str, rows: Path, out: Path, size: int, *more: str) -> None:
        self.out = out
        self.command = [sys.executable, "-m", "blip3u_core.batch", task, *more]
        self.command += ["--in", str(rows), "--out", str(out), "--shard-size", str(size)]
        self.command += FEW.split()

    def start(self) -> subprocess.Popen:
        log = self.out.with_suffix(".log").open("ab")
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command, cwd=REPOSITORY, env=env, stdout=log, stderr=log, start_new_session=True
        )

    def finish(self) -> float:
        """Run to the end; the seconds it took."""
        start, process = time.perf_counter(), self.start()
        if process.wait(3000):
            raise SystemExit(self.out.with_suffix(".log").read_text()[-3000:])
        return time.perf_counter() - start

    def shards(self) -> int:
        return len(list(self.out.glob("*.tar")))

    @contextmanager
    def until(self, ready: Callable[[], bool]) -> Iterator[subprocess.Popen]:
        """A run that has come so far."""
        process = self.start()
        while not ready():
            if process.poll() is not None:
                raise SystemExit(f"{self.out}: ended before it could be killed")
            time.sleep(0.002)
        yield process

    def kill_driver(self, ready: Callable[[], bool]) -> int:
        """kill -9 of the driver alone; Ray's own processes see to themselves. Shards so far."""
        with self.until(ready) as process:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        deadline = time.monotonic() + 60
        while workers() and time.monotonic() < deadline:
            time.sleep(0.5)
        return self.shards()

    def writes(self) -> bool:
        return any(part.stat().st_size for part in self.out.glob(PART_NAMES) if part.exists())


def workers() -> list[int]:
    """Processes of actors, by Ray's titles; on this machine there is one run at a time."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::") and WORKER.encode() in title:
            found.append(int(folder.name))
    return found


def resident(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def results(out: Path) -> dict[str, bytes]:
    files = [*sorted(out.glob("0*")), out / "errors.jsonl"]
    return {file.name: file.read_bytes() for file in files}


def keys(out: Path) -> list[str]:
    found = []
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            found += [name[:-4] for name in tar.getnames() if name.endswith(".png")]
    return found


def pictures_a_cpu_second(out: Path) -> float:
    log = pq.read_table(out / ".ray" / "log").to_pydict()
    # The first shard of an actor also pays for what PyTorch sets up once.
    first = {node: i for i, node in reversed(list(enumerate(log["node"])))}
    rest = [i for i in range(len(log["rows"])) if i not in first.values()]
    return sum(log["rows"][i] for i in rest) / sum(log["cpu_seconds"][i] for i in rest)


def say(claim: str, found: str) -> None:
    print(f"| {claim} | {found} |", flush=True)


def kills(work: Path, count: int) -> None:
    rows = work / "rows.jsonl"
    make_rows(rows, count)
    size = max(count // SHARDS, 1)
    here = Run("generate", rows, work / "here", size)
    say("sequential", f"{count} rows in {here.finish():.0f} s")
    wanted = results(here.out)
    bad = wanted["errors.jsonl"].count(b"\n")
    assert bad == len(range(7, count, 100))
    found = keys(here.out)
    assert len(found) == len(set(found)) == count - bad
    say("every good key once; broken rows told", f"{len(found)}; {bad}")

    speeds = {}
    for actors in (1, 2):
        run = Run("generate", rows, work / f"ray{actors}", size, "--ray", "--actors", str(actors))
        speeds[actors] = actors * throughput(run, wanted)
    say("2 actors over 1, counted in pictures a CPU-second", f"{speeds[2] / speeds[1]:.2f}")

    run = Run("generate", rows, work / "worker", size, "--ray", "--actors", "2")
    with run.until(lambda: run.shards() >= 3) as process:
        victim = workers()[0]
        os.kill(victim, signal.SIGKILL)
        assert process.wait() == 0, run.out.with_suffix(".log").read_text()[-3000:]
    assert results(run.out) == wanted
    say("kill -9 of a worker: the run ends by itself", "same bytes")

    run = Run("generate", rows, work / "driver", size, "--ray", "--actors", "2")
    first = run.kill_driver(lambda: run.shards() >= 3)
    second = run.kill_driver(lambda: run.shards() >= first + 2 and run.writes())
    run.finish()
    assert results(run.out) == wanted
    found = keys(run.out)
    assert len(found) == len(set(found)) == count - bad
    say(
        f"kill -9 of the driver at {first} and, during a write, at {second} shards",
        f"every good key once, the same bytes: {len(found)}",
    )


def throughput(run: Run, wanted: dict[str, bytes]) -> float:
    """A whole run, compared and watched. Returns: pictures a CPU-second of an actor."""
    with run.until(lambda: run.shards() >= 4) as process:
        early = {pid: resident(pid) for pid in workers()}
        late = dict(early)
        while process.poll() is None:
            late |= {pid: resident(pid) or late.get(pid, 0) for pid in workers()}
            time.sleep(0.5)
    assert process.returncode == 0, run.out.with_suffix(".log").read_text()[-3000:]
    assert results(run.out) == wanted
    grown = ", ".join(f"{early[p] / 1e6:.0f} to {late[p] / 1e6:.0f} MB" for p in early)
    say(f"{len(early)} actors: same bytes; memory of each after 4 shards to the end", grown)
    return pictures_a_cpu_second(run.out)


def verbs(work: Path) -> None:
    bad = make_photos(work / "photos")
    for name, words in VERBS.items():
        place = work / name.replace(", ", "_")
        task, more = words[0], words[1:]
        here = Run(task, work / "photos", place / "here", PHOTOS_A_SHARD, *more)
        ray = Run(task, work / "photos", place / "ray", PHOTOS_A_SHARD, *more, "--ray")
        place.mkdir()
        here.finish()
        ray.finish()
        wanted = results(here.out)
        assert len(wanted) == -(-PHOTOS // PHOTOS_A_SHARD) + 1
        assert results(ray.out) == wanted
        told = {json.loads(line)["key"] for line in wanted["errors.jsonl"].splitlines()}
        assert told == ({"p04.png"} if task in ("caption", "features") else bad)
        say(f"{name}: {PHOTOS} pictures by Ray as sequential", f"same bytes; broken: {len(told)}")

    (work / "twice.jsonl").write_text('{"key": "a", "prompt": "x"}\n' * 2)
    run = Run("generate", work / "twice.jsonl", work / "twice", 1, "--ray")
    assert run.start().wait(600) == 1
    assert "the key 'a' comes twice" in run.out.with_suffix(".log").read_text()
    assert not run.shards()
    say("a key that comes twice", "refused before Ray starts")


PARTS = ("verbs", "kills")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the results")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--only", choices=PARTS)
    options = parser.parse_args()
    for part in [options.only] if options.only else PARTS:
        shutil.rmtree(options.work / part, ignore_errors=True)
        (options.work / part).mkdir(parents=True)
        if part == "verbs":
            verbs(options.work / part)
        else:
            kills(options.work / part, options.rows)


if __name__ == "__main__":
    main()
