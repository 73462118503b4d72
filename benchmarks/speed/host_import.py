"""What the pack adds to the start of its host: seconds, and packages imported for it."""

import asyncio
import sys
from collections.abc import Iterator
from importlib import import_module
from statistics import median
from typing import Any

from .in_host import call_in_host, load_pack
from .measure import CLOCKS, Measurement, clock

GOAL_SECONDS = 0.15
STARTS = 5
HEAVY = ("diffusers", "transformers", "accelerate", "einops", "scipy", "tokenizers")


def rows(minimal: bool) -> Iterator[Measurement]:
    starts = [call_in_host("host_import", "start") for _ in range(1 if minimal else STARTS)]
    seconds = sorted(start["seconds"] for start in starts)
    yield Measurement(
        f"import of the pack, s, median of {len(starts)} fresh starts",
        median(seconds),
        GOAL_SECONDS,
        f"{starts[0]['nodes']} nodes; {seconds[0]:.3f}..{seconds[-1]:.3f} s",
    )
    brought = [name for name in HEAVY if name in starts[0]["new"]]
    yield Measurement(
        "heavy packages imported by it",
        len(brought),
        0,
        f"{', '.join(brought) or 'none'}; new: {', '.join(starts[0]['new']) or 'none'}",
    )


def start() -> dict[str, Any]:
    """Inside the host: load the pack behind all that ComfyUI imports before custom nodes."""
    nodes = import_module("nodes")
    import_module("comfy_config.config_parser")
    asyncio.run(nodes.init_builtin_extra_nodes())
    before, now = set(sys.modules), CLOCKS[clock()]
    started = now()
    load_pack()
    seconds = now() - started
    new = {name.partition(".")[0] for name in set(sys.modules) - before if "/" not in name}
    ours = sum(name.startswith("BLIP3U_") for name in nodes.NODE_CLASS_MAPPINGS)
    return {"seconds": seconds, "nodes": ours, "new": sorted(new)}
