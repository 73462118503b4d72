"""Text to image again with another seed, through a real host and its cache; and end to end.

What ran is what the host reports over its socket: nodes that it took from its cache are silent.
The checkpoint is blip3u-tiny where it is there, else the golden set's random one.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tests.harness.comfy import RANDOM_TINY, Host, make_base_folder, running_host

from .measure import ROUNDS, Measurement

REPOSITORY = Path(__file__).parents[2]
WORKFLOW = REPOSITORY / "workflows" / "api" / "text_to_image.json"
BUILT_IN = "blip3u-tiny (built-in)"
LANGUAGE_NODES = ("BLIP3U_VisualTokens", "BLIP3U_NegativeFeatures")
SEEDED = ("BLIP3U_ClipFeatureSampler", "BLIP3U_Decode")

SECONDS_A_PICTURE = 6.0  # on two CPU cores

Graph = dict[str, dict[str, Any]]


def rows(minimal: bool) -> Iterator[Measurement]:
    graph = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    trained = (REPOSITORY / "models" / "blip3u-tiny").is_dir() and not minimal
    for node in graph.values():
        if "checkpoint" in node["inputs"]:
            node["inputs"]["checkpoint"] = BUILT_IN if trained else RANDOM_TINY
        if minimal and "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    name = "blip3u-tiny" if trained else "random weights"
    with TemporaryDirectory() as base, running_host(make_base_folder(Path(base))) as host:
        yield from reuse_rows(host, graph, name, 2 if minimal else ROUNDS)


def reuse_rows(host: Host, graph: Graph, name: str, rounds: int) -> Iterator[Measurement]:
    first, all_nodes = run(host, with_seed(graph, 100))
    again = [run(host, with_seed(graph, 101 + i)) for i in range(rounds)]
    seconds = median(seconds for seconds, _ in again)
    ran = [node for _, nodes in again for node in nodes]
    repeated = [node for node in ran if node in LANGUAGE_NODES]
    per_run = sorted({node.removeprefix("BLIP3U_") for node in ran})
    yield Measurement(
        f"text to image, new seed only ({name}): LLM passes, negative features",
        len(repeated),
        0,
        f"{len(again)} runs of {', '.join(per_run)}; the first run had {len(all_nodes)} nodes",
    )
    new_prompt = [run(host, with_prompt(graph, i)) for i in range(rounds)]
    remade = sum(LANGUAGE_NODES[1] in nodes for _, nodes in new_prompt)
    yield Measurement(
        "text to image, new prompt: negative features made again",
        remade,
        0,
        f"{median(s for s, _ in new_prompt):.2f} s",
    )
    if name == "blip3u-tiny":
        yield Measurement(
            f"{name}: seconds a picture of a new prompt, end to end",
            median(s for s, _ in new_prompt),
            SECONDS_A_PICTURE,
            f"{WORKFLOW.name} as it is shipped, from queueing to the saved file, wall clock",
        )
    yield Measurement(
        "text to image, new seed only / first run with loading",
        seconds / first,
        None,
        f"{seconds:.2f} s / {first:.2f} s, wall clock",
    )


def run(host: Host, graph: Graph) -> tuple[float, list[str]]:
    """Seconds from queueing to the end, and the classes of the nodes that ran."""
    start = time.perf_counter()
    result = host.run(graph)
    seconds = time.perf_counter() - start
    return seconds, [graph[node]["class_type"] for node in result.executed]


def with_seed(graph: Graph, seed: int) -> Graph:
    """The graph as after a click on "new seed" in the two nodes that draw."""
    changed = json.loads(json.dumps(graph))
    for node in changed.values():
        if node["class_type"] in SEEDED:
            node["inputs"]["seed"] = seed
    return changed


def with_prompt(graph: Graph, number: int) -> Graph:
    changed = json.loads(json.dumps(graph))
    for node in changed.values():
        if "prompt" in node["inputs"]:
            node["inputs"]["prompt"] = f"{'big ' * number} red circle"
    return changed
