"""From a file to the first step inside the host, against reading the file's bytes.

A DiT of the published width, nine layers: 2 GB in float32, in one file of the converter's layout.
What the first step costs more than the second is loading. The file lies in the page cache for
both; every measurement is a fresh process.
"""

import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .in_host import call_in_host, load_pack, pack_module
from .measure import CLOCKS, Measurement, clock, peak_rss, threads

GOAL_TIME, GOAL_MEMORY = 1.25, 1.1
FRESH_STARTS = 3
SIZES = {
    "in_channels": 1792,
    "dim": 1792,
    "num_layers": 9,
    "num_heads": 28,
    "num_kv_heads": 28,
    "ffn_dim": 4864,
    "condition_dim": 1792,
    "input_size": 8,
}
SMALL = SIZES | {"in_channels": 64, "dim": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4}
READ_BYTES = 16 * 1024**2


def rows(minimal: bool) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        sizes = (SMALL | {"ffn_dim": 256}) if minimal else SIZES
        write_checkpoint(Path(folder), sizes)
        found = [
            call_in_host("loading", "measure_in_host", folder)
            for _ in range(1 if minimal else FRESH_STARTS)
        ]
    middle = {name: median(one[name] for one in found) for name in found[0]}
    size = f"{middle['bytes'] / 1e9:.2f} GB"
    yield Measurement(
        f"loading {size} to the first step: against reading the bytes",
        middle["loading"] / middle["reading"],
        GOAL_TIME,
        f"{middle['loading']:.2f} s / {middle['reading']:.2f} s; a step {middle['step']:.2f} s",
    )
    yield Measurement(
        f"loading {size}: peak RSS above the start's, against the weights",
        middle["memory"] / middle["bytes"],
        GOAL_MEMORY,
        f"{middle['memory'] / 1e9:.2f} GB",
    )


def write_checkpoint(folder: Path, sizes: dict[str, int]) -> None:
    """A folder of the converted layout that holds a DiT alone."""
    from blip3u_core.features.config import NextDiTConfig
    from blip3u_core.features.nextdit import NextDiT
    from blip3u_core.weights.writer import write_safetensors

    dit = NextDiT(NextDiTConfig(**sizes), torch.float32)
    with torch.no_grad():
        for weight in dit.parameters():
            weight.uniform_(-0.01, 0.01)
    config = json.dumps({"n_query": sizes["input_size"] ** 2})
    write_safetensors(folder / "dit.safetensors", dit.state_dict(), {"config": config})


def measure_in_host(folder: str) -> dict[str, Any]:
    """Inside the host: seconds and bytes of one fresh start."""
    load_pack()
    memory, now = __import__("comfy.model_management").model_management, CLOCKS[clock()]
    checkpoint = pack_module("blip3u_core.weights.checkpoint").open_checkpoint(Path(folder))
    load_dit = pack_module("nodes.host.dit").load_dit
    start = now()
    size = read_bytes(Path(folder) / "dit.safetensors")
    reading, before = now() - start, rss()
    with threads(1), torch.inference_mode():
        start = now()
        patcher = load_dit(checkpoint, torch.float32)
        memory.load_models_gpu([patcher])
        step(patcher)
        loading_and_step = now() - start
        start = now()
        step(patcher)
        second_step = now() - start
    return {
        "bytes": size,
        "reading": reading,
        "loading": loading_and_step - second_step,
        "step": second_step,
        "memory": peak_rss() - before,
    }


def rss() -> int:
    """Bytes this process holds in RAM now, mapped files included; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def read_bytes(file: Path) -> int:
    """Read a file through one buffer."""
    buffer, total = bytearray(READ_BYTES), 0
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            total += count
    return total


def step(patcher: Any) -> None:
    """One evaluation of the network on the smallest input, which still uses every weight."""
    network = patcher.model.diffusion_model
    config = network.config
    x = torch.zeros(1, config.in_channels, 2, 2)
    network(x, torch.tensor([500.0]), torch.zeros(1, 1, config.condition_dim))
