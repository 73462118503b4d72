"""One Python environment a ComfyUI folder, for `hosts.py`: its packages beside the torch we have.

An environment is a venv whose site-packages point to those of the Python that runs this (a .pth
file), so that torch is not fetched again for every host. Into it goes what the host's own
requirements.txt names, without torch and its companions; what is already met is not installed.
"""

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import run
from harness.comfy import REPOSITORY

OURS = [REPOSITORY / "requirements.txt", REPOSITORY / "tests" / "requirements.txt"]

VERSIONS = """
import importlib.metadata as metadata, json, platform
found = {"python": platform.python_version()}
names = {"frontend": "comfyui_frontend_package", "torch": "torch", "transformers": "transformers"}
for name, package in names.items():
    try:
        found[name] = metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        found[name] = "none"
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Environment:
    name: str
    python: Path

    def versions(self) -> dict[str, str]:
        """Of python, frontend, torch and transformers."""
        command = [str(self.python), "-c", VERSIONS]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def host_version(host: Path) -> str:
    """As the host's own file says it. Raises FileNotFoundError for a folder without a ComfyUI."""
    file = host / "comfyui_version.py"
    if not file.is_file():
        raise FileNotFoundError(
            f"{host} holds no comfyui_version.py. Name the folder of a ComfyUI's source, the one "
            "with main.py in it."
        )
    return re.search(r'__version__ = "(.+?)"', file.read_text("utf-8"))[1]


def for_host(host: Path, folder: Path, frontend: str | None) -> Environment:
    """The environment of this host in `folder`, made or mended if it is not complete.

    `frontend` is a version to test in place of the one that the host asks for.
    """
    name = host_version(host) + (f"-frontend-{frontend}" if frontend else "")
    environment = Environment(name, run.venv_python(folder / name))
    lines = (host / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [line for line in lines if line.strip() not in run.LEFT_OUT]
    if frontend:
        wanted = [line for line in wanted if not line.startswith("comfyui-frontend-package")]
        wanted.append(f"comfyui-frontend-package=={frontend}")
    if is_complete(environment, wanted):
        return environment
    if not environment.python.exists():
        make_venv(Path(sys.executable), folder / name)
        purelib = venv_purelib(environment.python)
        (purelib / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    file = folder / name / "requirements.txt"
    file.write_text("\n".join(wanted), "utf-8")
    run.pip(environment.python, "install", *torch_packages(), *run.files_for_pip([file, *OURS]))
    if any(line.strip() == "torchaudio" for line in lines):
        run.pip(environment.python, "install", "--no-deps", run.TORCHAUDIO)
    note_complete(environment, wanted)
    return environment


def for_python(python: str, folder: Path) -> Environment:
    """An environment of another Python, without a host, for tests/core."""
    code = "import platform; print(platform.python_version())"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    name = "python-" + ".".join(done.stdout.strip().split(".")[:2])
    environment = Environment(name, run.venv_python(folder / name))
    if not is_complete(environment, run.PACKAGES):
        if not environment.python.exists():
            make_venv(Path(python), folder / name)
        run.pip(environment.python, "install", *run.PACKAGES, *run.files_for_pip(OURS))
        note_complete(environment, run.PACKAGES)
    return environment


def torch_packages() -> list[str]:
    """run.py's packages, but whatever of them this Python has, in its version."""
    return [have(package) for package in run.PACKAGES]


def have(package: str) -> str:
    name = package.split("==")[0]
    try:
        return f"{name}=={importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def make_venv(python: Path, folder: Path) -> None:
    subprocess.run([str(python), "-m", "venv", str(folder)], check=True)


def venv_purelib(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def stamp(environment: Environment, wanted: list[str]) -> Path:
    content = "\n".join([*wanted, *(file.read_text("utf-8") for file in OURS)])
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return environment.python.parents[1] / f"complete-{digest}"


def is_complete(environment: Environment, wanted: list[str]) -> bool:
    return environment.python.exists() and stamp(environment, wanted).exists()


def note_complete(environment: Environment, wanted: list[str]) -> None:
    stamp(environment, wanted).touch()
