"""What the pack adds to the start of its host: seconds, and packages imported for it.

A fresh process imports what ComfyUI has imported when it comes to the custom nodes, then loads
this pack as ComfyUI does. `COMFYUI_PATH` or `.host/ComfyUI` is the host.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from .measure import Row, clock

REPOSITORY = Path(__file__).parents[1]
GOAL_SECONDS = 0.15
STARTS = 5
HEAVY = ("diffusers", "transformers", "accelerate", "einops", "scipy", "tokenizers")

START = """
import asyncio, json, sys
folder, host, clock = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, host)
import time
now = time.process_time if clock == "cpu" else time.perf_counter
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config, execution, latent_preview, nodes, server
from comfy_config import config_parser
async def load():
    await nodes.init_builtin_extra_nodes()
    before = set(sys.modules)
    start = now()
    good = await nodes.load_custom_node(folder)
    seconds = now() - start
    ours = sum(name.startswith("BLIP3U_") for name in nodes.NODE_CLASS_MAPPINGS)
    new = {name.partition(".")[0] for name in set(sys.modules) - before if "/" not in name}
    return {"good": good, "seconds": seconds, "nodes": ours, "new": sorted(new)}
print("RESULT" + json.dumps(asyncio.run(load())))
"""


def rows(minimal: bool) -> Iterator[Row]:
    starts = [start_host() for _ in range(1 if minimal else STARTS)]
    seconds = sorted(start["seconds"] for start in starts)
    value = median(seconds)
    yield Row(
        f"import of the pack, s, median of {len(starts)} fresh starts",
        value,
        GOAL_SECONDS,
        f"{starts[0]['nodes']} nodes; {seconds[0]:.3f}..{seconds[-1]:.3f} s",
    )
    brought = [name for name in HEAVY if name in starts[0]["new"]]
    yield Row(
        "heavy packages imported by it",
        len(brought),
        0,
        f"{', '.join(brought) or 'none'}; new: {', '.join(starts[0]['new']) or 'none'}",
    )


def start_host() -> dict[str, Any]:
    """Load the pack in a fresh process; what it took and what it imported."""
    host = Path(os.environ.get("COMFYUI_PATH") or REPOSITORY / ".host" / "ComfyUI")
    if not (host / "main.py").is_file():
        raise FileNotFoundError(
            f"{host} holds no ComfyUI (main.py). Run `python run.py test`, which installs one, or "
            "set COMFYUI_PATH to a ComfyUI folder."
        )
    command = [sys.executable, "-c", START, str(REPOSITORY), str(host), clock()]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=host, env=environment, capture_output=True, text=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("RESULT")]
    result = json.loads(lines[0].removeprefix("RESULT")) if lines else {"good": False}
    if not result["good"]:
        raise RuntimeError(f"the host did not load the pack:\n{ended.stderr[-3000:]}")
    return result
