"""Run a function of a benchmark in a fresh process that has come up as ComfyUI does.

`COMFYUI_PATH` or `.host/ComfyUI` is the host. Its modules come before ours: `import nodes` is the
host's file there.
"""

import asyncio
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).parents[2]
MARK = "RESULT"

START = f"""
import json, sys
host, repository, module, function, arguments = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path[:0] = [host]
sys.path.append(repository)
from importlib import import_module
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config, execution, latent_preview, nodes, server
result = getattr(import_module(module), function)(*json.loads(arguments))
print("{MARK}" + json.dumps(result))
"""


def host_folder() -> Path:
    folder = Path(os.environ.get("COMFYUI_PATH") or REPOSITORY / ".host" / "ComfyUI")
    if not (folder / "main.py").is_file():
        raise FileNotFoundError(
            f"{folder} holds no ComfyUI (main.py). Run `python run.py test`, which installs one, "
            "or set COMFYUI_PATH to a ComfyUI folder."
        )
    return folder


def call_in_host(module: str, function: str, *arguments: Any) -> Any:
    """What `function` of `benchmarks.<module>` returns there; all values go as JSON.

    Raises: RuntimeError with the end of its errors if it fails.
    """
    host = str(host_folder())
    given = (host, str(REPOSITORY), f"{__package__}.{module}", function, json.dumps(arguments))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", START, *given],
        cwd=host,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in ended.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    end = f"exit code {ended.returncode}:\n{ended.stderr[-3000:]}"
    raise RuntimeError(f"{module}.{function} failed in the host with {end}")


def load_pack() -> None:
    """Inside such a process: load this pack as the host does."""
    host_nodes = import_module("nodes")
    if not asyncio.run(host_nodes.load_custom_node(str(REPOSITORY))):
        raise RuntimeError("the host did not load the pack, see its log")


def pack_module(name: str) -> ModuleType:
    """A module of the pack, as the host loaded it: `nodes.host.dit`."""
    return import_module(f"{str(REPOSITORY).replace('.', '_x_')}.{name}")
