"""A real ComfyUI in a child process, and a client that speaks to it as a browser would.

The host is `COMFYUI_PATH`, else `.host/ComfyUI` which `python run.py test` makes. Every server
gets a base folder of its own: models, inputs, outputs and settings never touch the user's.
BLIP3U_DYNAMIC_VRAM=1 sets the host's DynamicVRAM flag in all of them, see host/dynamic_vram.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

REPOSITORY = Path(__file__).resolve().parents[2]
ORACLE = REPOSITORY / "tests" / "golden" / "oracle"
TEST_NODES = REPOSITORY / "tests" / "host" / "test_nodes"
DYNAMIC_VRAM = REPOSITORY / "tests" / "host" / "dynamic_vram"
PACK = "blip3-u"

RANDOM_TINY = "random-tiny"  # the golden set's checkpoint, as the loader lists it
RANDOM_TINY_SHARDED = "random-tiny-sharded"
RANDOM_TOWER = "eva-clip-tiny-A"

START_SECONDS = 240
TEXT_EVENT = 3  # the host's BinaryEventTypes.TEXT

Graph = dict[str, dict[str, Any]]


class GraphError(AssertionError):
    """The host refused the graph or a node failed; `str()` holds the texts a user would see."""

    def __init__(self, message: str, node_id: str | None = None, interrupted: bool = False):
        super().__init__(message)
        self.node_id = node_id
        self.interrupted = interrupted


@dataclass
class Result:
    """What one run of a graph gave back."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]  # node id -> what it shows: {"images": [...], "text": ...}
    texts: dict[str, list[str]] = field(default_factory=dict)  # node id -> streamed texts
    progress: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # (done, total)
    executed: list[str] = field(default_factory=list)  # nodes that were not cached, in order


def host_folder() -> Path:
    folder = Path(os.environ.get("COMFYUI_PATH") or REPOSITORY / ".host" / "ComfyUI")
    if not (folder / "main.py").is_file():
        raise FileNotFoundError(
            f"{folder} holds no ComfyUI (main.py). Run `python run.py test`, which installs one, "
            "or set COMFYUI_PATH to a ComfyUI folder."
        )
    return folder


def has_dynamic_vram(folder: Path) -> bool:
    """Whether this ComfyUI knows the flag that turns comfy-aimdo's memory management on."""
    module = folder / "comfy" / "memory_management.py"
    return module.is_file() and "aimdo_enabled" in module.read_text("utf-8")


def make_base_folder(base: Path) -> Path:
    """A ComfyUI base folder with this pack, the test nodes and the golden set's random models."""
    for name in ("models/blip3u", "models/clip_vision", "custom_nodes", "input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    folders = {PACK: REPOSITORY, "blip3u_test_nodes": TEST_NODES}
    if os.environ.get("BLIP3U_DYNAMIC_VRAM") == "1":
        if not has_dynamic_vram(host_folder()):
            raise ValueError(
                f"BLIP3U_DYNAMIC_VRAM is 1, but {host_folder()} has no DynamicVRAM (it came after "
                "ComfyUI 0.12). Unset the variable or test a newer ComfyUI."
            )
        folders["000_flag"] = DYNAMIC_VRAM
    for name, target in folders.items():
        (base / "custom_nodes" / name).symlink_to(target, target_is_directory=True)
    models = base / "models"
    shutil.copytree(ORACLE / "checkpoint", models / "blip3u" / RANDOM_TINY)
    shutil.copytree(ORACLE / "checkpoint_sharded", models / "blip3u" / RANDOM_TINY_SHARDED)
    shutil.copytree(ORACLE / "eva_clip_vision_tower", models / "clip_vision" / RANDOM_TOWER)
    # As people's folders are: a disk that is not mounted must not take a node away.
    (models / "clip_vision" / "CLIP-ViT-H-14.safetensors").symlink_to(base / "not-mounted")
    (models / "blip3u" / "on another disk").symlink_to(base / "not-mounted")
    (models / "blip3u" / "half").mkdir()
    (models / "blip3u" / "half" / "model.safetensors").symlink_to(base / "not-mounted")
    return base


class Host:
    """One running server. `run` takes a graph in API form."""

    def __init__(self, base: Path, port: int, process: subprocess.Popen, log: Path):
        self.base = base
        self.port = port
        self.process = process
        self.log = log
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.loads(reply.read())

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise GraphError(_refusal(error.read().decode())) from None
        return json.loads(text) if text else None

    def run(
        self,
        graph: Graph,
        timeout: float = 300,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Result:
        """Queue a graph, wait for its end. Raises GraphError as a user would see the failure.

        `on_event` sees every JSON message of the run while it comes; it may call `interrupt()`.
        """
        client = uuid.uuid4().hex
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        messages = websocket.create_connection(address, timeout=timeout)
        try:
            queued = self.post("/prompt", {"prompt": graph, "client_id": client})
            result = Result(queued["prompt_id"], {})
            deadline = time.monotonic() + timeout
            while not self._take(messages.recv(), result, on_event):
                if time.monotonic() > deadline:
                    self.interrupt()
                    raise TimeoutError(f"the graph did not end within {timeout} s")
        finally:
            messages.close()
        result.outputs = self._outputs(result.prompt_id)
        return result

    def _outputs(self, prompt_id: str) -> dict[str, dict[str, Any]]:
        """What the run showed; the host writes it down just after it says that the run ended."""
        deadline = time.monotonic() + 10
        while not (history := self.get(f"/history/{prompt_id}")) and time.monotonic() < deadline:
            time.sleep(0.02)
        return history[prompt_id]["outputs"]

    def _take(self, message: str | bytes, result: Result, on_event: Any) -> bool:
        """Note one message of the server; True when the run has ended well."""
        if isinstance(message, bytes):
            if struct.unpack(">I", message[:4])[0] == TEXT_EVENT:
                size = struct.unpack(">I", message[4:8])[0]
                node = message[8 : 8 + size].decode()
                result.texts.setdefault(node, []).append(message[8 + size :].decode())
            return False
        event = json.loads(message)
        data = event.get("data", {})
        if data.get("prompt_id") != result.prompt_id:
            return False
        if on_event is not None:
            on_event(event)
        if event["type"] == "progress":
            counts = (data["value"], data["max"])
            result.progress.setdefault(data["node"], []).append(counts)
        if event["type"] == "executing" and data.get("node"):
            result.executed.append(data["node"])
        if event["type"] == "execution_error":
            text = f"{data['node_type']}: {data['exception_type']}: {data['exception_message']}"
            raise GraphError(text, data["node_id"])
        if event["type"] == "execution_interrupted":
            raise GraphError("interrupted", data["node_id"], interrupted=True)
        return event["type"] == "execution_success"

    def failure(self, graph: Graph, timeout: float = 300) -> str:
        """The text of the error that this graph must give."""
        try:
            self.run(graph, timeout)
        except GraphError as error:
            return str(error)
        raise AssertionError("the graph ran without an error, one was expected")

    def cancel(self, graph: Graph, after: int = 3) -> int:
        """The last step that came of a graph which is cancelled at its step number `after`."""
        steps: list[int] = []

        def stop(event: dict[str, Any]) -> None:
            if event["type"] == "progress":
                steps.append(event["data"]["value"])
                if len(steps) == after:
                    self.interrupt()

        try:
            self.run(graph, on_event=stop)
        except GraphError as error:
            if not error.interrupted:
                raise
            return max(steps)
        raise AssertionError("the graph ran to its end, it was to be cancelled")

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def free(self) -> None:
        """The Unload button, pressed and done."""
        self.post("/free", {"unload_models": True, "free_memory": True})
        deadline = time.monotonic() + 30
        while self.loaded_models() and time.monotonic() < deadline:
            time.sleep(0.1)

    def loaded_models(self) -> list[dict[str, Any]]:
        """Per loaded model: class, loaded_bytes, total_bytes, as the host accounts for them."""
        return self.get("/blip3u_test/models")

    def hook(self, **what: Any) -> None:
        """Make a module class fail or dawdle: out_of_memory="NextDiT", slow="NextDiT",
        seconds=0.2; or load models only partly: low_vram_bytes=100_000; or build layers as newer
        hosts do: lazy_layers=True; or show previews=True. A hook on memory fires
        once; an empty call removes all hooks."""
        self.post("/blip3u_test/hook", what)

    def file(self, image: dict[str, str]) -> Path:
        """The file of one entry of a node's shown images, audio or saved tensors."""
        kind = {"output": "output", "temp": "temp", "input": "input"}[image.get("type", "output")]
        return self.base / kind / image.get("subfolder", "") / image["filename"]

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")


def _refusal(text: str) -> str:
    """The sentences of a refused graph (HTTP 400) without the JSON around them."""
    try:
        reply = json.loads(text)
    except json.JSONDecodeError:
        return text
    lines = [_sentence(reply["error"])] if isinstance(reply.get("error"), dict) else [text]
    for node in (reply.get("node_errors") or {}).values():
        lines += [f"{node['class_type']}: {_sentence(error)}" for error in node["errors"]]
    return "\n".join(lines)


def _sentence(error: dict[str, Any]) -> str:
    return f"{error.get('message', '')} {error.get('details', '')}".strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_host(base: Path, *flags: str) -> Iterator[Host]:
    """Start a server on a free port and stop it at the end. `base` from `make_base_folder`."""
    port = free_port()
    log = base / f"server-{port}.log"
    device = [] if "--cuda-device" in flags else ["--cpu"]
    command = [sys.executable, str(host_folder() / "main.py"), *device, "--port", str(port)]
    command += ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    command += ["--disable-auto-launch", "--disable-api-nodes", *flags]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, cwd=base, env=environment
        )
    host = Host(base, port, process, log)
    try:
        _wait_until_ready(host)
        yield host
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(host: Host) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if host.process.poll() is not None:
            break
        try:
            host.get("/queue")
            return
        except OSError:
            time.sleep(0.25)
    tail = "\n".join(host.log_text().splitlines()[-40:])
    raise RuntimeError(f"ComfyUI did not start (exit code {host.process.poll()}). Log:\n{tail}")
