"""Run workflows, host tests and browser tests under other ComfyUIs; write docs/hosts.md.

    python tests/compat/hosts.py ~/ComfyUI-0.8.0 ~/ComfyUI-0.33.0
    python tests/compat/hosts.py ~/ComfyUI --suites browser --frontend 1.58.1
    python tests/compat/hosts.py --pythons python3.10 python3.13     # tests/core, no host

Each folder is a ComfyUI's source (a git clone or an unpacked release); nothing in it is changed.
Start this with the Python that `python run.py test` made (.venv): its torch serves every host, and
what a host asks for besides goes into an environment of its own, kept in --environments. Hosts that
have DynamicVRAM run twice, the second time with its flag set (tests/host/dynamic_vram says what
that shows on a CPU); the browser tests run without it.

Results are kept with the environments: the table in docs/hosts.md holds the last run of every row.
Exits with 1 if a test failed.
"""

import argparse
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from compat import environments  # noqa: E402 - after the path
from compat.environments import Environment  # noqa: E402
from harness.comfy import has_dynamic_vram  # noqa: E402

SUITES = {
    "workflows": "tests/compat/workflows_on_host.py",
    "host": "tests/host",
    "browser": "tests/browser",
    "core": "tests/core",
}
COLUMNS = {
    "host": "ComfyUI",
    "frontend": "frontend",
    "torch": "torch",
    "python": "Python",
    "transformers": "transformers",
    "flag": "DynamicVRAM",
}
SUITE_COLUMNS = ("workflows", "host tests", "browser tests", "core tests")
BEGIN = "<!-- hosts: begin; python tests/compat/hosts.py writes this table -->"
END = "<!-- hosts: end -->"


@dataclass
class Result:
    """One suite on one host. `host` is "none" where the suite needs none."""

    host: str
    frontend: str
    torch: str
    python: str
    transformers: str
    flag: str
    suite: str
    commit: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: int = 0

    def row(self) -> tuple[str, ...]:
        return tuple(getattr(self, name) for name in COLUMNS)


def run_suite(suite: str, environment: Environment, host: Path | None, flag: str) -> Result:
    """Run one suite in its environment; its output stays beside it."""
    logs = environment.python.parents[2] / "logs"
    logs.mkdir(exist_ok=True)
    name = f"{environment.name}-{suite}-{flag}"
    report = logs / f"{name}.xml"
    report.unlink(missing_ok=True)
    variables = {**os.environ, "BLIP3U_DYNAMIC_VRAM": "1" if flag == "on" else "0"}
    if host:
        variables["COMFYUI_PATH"] = str(host)
    command = [str(environment.python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", SUITES[suite]]
    print(f"{name} ...", flush=True)
    with (logs / f"{name}.log").open("wb") as log:
        subprocess.run(
            command,
            cwd=REPOSITORY,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not report.is_file():
        raise RuntimeError(f"the {suite} tests did not run, see {log.name}")
    result = Result(
        host=environments.host_version(host) if host else "none",
        flag=flag,
        suite=suite,
        commit=commit(),
        **environment.versions(),
    )
    count(report, result)
    print(f"{name}: {in_words(result)}", *result.failed, sep="\n  ", flush=True)
    return result


def count(report: Path, result: Result) -> None:
    """Passed, failed and skipped tests of pytest's XML report."""
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            result.skipped += 1
        else:
            result.passed += 1


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def in_words(result: Result) -> str:
    failed, skipped = len(result.failed), result.skipped
    words = [f"{result.passed} passed"]
    words += [f"{failed} failed"] * bool(failed) + [f"{skipped} skipped"] * bool(skipped)
    return ", ".join(words)


# ---------------------------------------------------------------- the table


def keep(result: Result, file: Path) -> None:
    """Put a result in the place of the older one of the same row and suite."""
    others = [r for r in read(file) if (r.row(), r.suite) != (result.row(), result.suite)]
    file.write_text(json.dumps([asdict(r) for r in [*others, result]], indent=1), "utf-8")


def read(file: Path) -> list[Result]:
    return [Result(**kept) for kept in json.loads(file.read_text("utf-8"))] if file.exists() else []


def table(results: list[Result]) -> str:
    cells = {(result.row(), result.suite): in_words(result) for result in results}
    suites = [suite for suite in SUITES if any(result.suite == suite for result in results)]
    head = [*COLUMNS.values(), *(SUITE_COLUMNS[list(SUITES).index(suite)] for suite in suites)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in sorted({result.row() for result in results}, key=order):
        lines.append("| " + " | ".join([*row, *(cells.get((row, s), "-") for s in suites)]) + " |")
    return "\n".join(lines)


def order(row: tuple[str, ...]) -> list:
    """Hosts by version, the rows without one last, and the flag off before on."""
    numbers = [[int(n) for n in text.split(".") if n.isdigit()] for text in row[:4]]
    return [row[0] == "none", numbers, row[5] == "on"]


def write_table(results: list[Result], readme: Path) -> None:
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(
            f"{readme} lacks the lines {BEGIN!r} and {END!r} around the table of hosts"
        )
    readme.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", "utf-8")


# ---------------------------------------------------------------- the command


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hosts", nargs="*", type=Path, metavar="HOST_FOLDER")
    parser.add_argument("--environments", type=Path, default=REPOSITORY / ".host" / "environments")
    parser.add_argument("--suites", default="workflows,host,browser", help="of these, by commas")
    parser.add_argument("--flag", choices=("off", "on", "both"), default="both")
    parser.add_argument("--frontend", help="a comfyui-frontend-package version for all hosts")
    parser.add_argument("--pythons", nargs="+", default=[], help="pass tests/core under these")
    given = parser.parse_args()
    unknown = set(given.suites.split(",")) - set(SUITES)
    if unknown:
        parser.error(f"no suite is called {', '.join(unknown)}; there are {', '.join(SUITES)}")
    if not given.hosts and not given.pythons:
        parser.error("name the folder of at least one ComfyUI, or a Python by --pythons")
    return given


def jobs(given: argparse.Namespace) -> list[tuple[str, Environment, Path | None, str]]:
    """What is to run, environments made: suite, environment, host, flag."""
    found = []
    for host in (folder.resolve() for folder in given.hosts):
        environment = environments.for_host(host, given.environments, given.frontend)
        flags = ["off", "on"] if given.flag == "both" else [given.flag]
        for flag in flags if has_dynamic_vram(host) else ["off"]:
            for suite in given.suites.split(","):
                if suite != "browser" or flag == "off":
                    found.append((suite, environment, host, flag))
    for python in given.pythons:
        found.append(("core", environments.for_python(python, given.environments), None, "off"))
    return found


def main() -> int:
    given = arguments()
    given.environments = given.environments.resolve()
    given.environments.mkdir(parents=True, exist_ok=True)
    kept = given.environments / "results.json"
    failed = False
    for suite, environment, host, flag in jobs(given):
        result = run_suite(suite, environment, host, flag)
        failed = failed or bool(result.failed)
        keep(result, kept)
        write_table(read(kept), REPOSITORY / "docs" / "hosts.md")
    print(table(read(kept)))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
