"""Through a real host: the fast setting against the exact one, and the Decoder against stock nodes.

Seconds are from queueing to the saved file, by the wall: the host computes in another process.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.comfy import Host, make_base_folder, running_host

from .decoder_settings import REFERENCE
from .measure import ROUNDS, Measurement, Times
from .reuse import BUILT_IN, REPOSITORY, SEEDED, WORKFLOW, Graph, run, with_prompt

GOAL_FAST, GOAL_STOCK = 0.5, 1.02
UNET_CONFIG = REPOSITORY / "models" / "blip3u-tiny" / "diffusion-decoder" / "unet" / "config.json"
DECODE = SEEDED[1]


def rows(minimal: bool) -> Iterator[Measurement]:
    with TemporaryDirectory() as base, running_host(make_base_folder(Path(base))) as host:
        yield from decode_rows(host, 2 if minimal else ROUNDS, minimal)


def decode_rows(host: Host, rounds: int, minimal: bool) -> Iterator[Measurement]:
    """Of blip3u-tiny; `minimal` takes two steps."""
    graph = json.loads(WORKFLOW.read_text("utf-8"))
    for node in graph.values():
        if "checkpoint" in node["inputs"]:
            node["inputs"]["checkpoint"] = BUILT_IN
        if minimal and "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    exact = {"steps": 3 if minimal else REFERENCE.steps, "scheduler": REFERENCE.scheduler}
    times = alternate_runs(
        host,
        {
            "fast": lambda number: with_prompt(graph, number),
            "exact": lambda number: with_prompt(with_decoding(graph, **exact), number),
        },
        rounds,
    )
    yield Measurement(
        "blip3u-tiny, new prompt, end to end: fast setting against the exact one",
        times.ratio("fast", "exact"),
        GOAL_FAST,
        times.describe("fast", "exact"),
    )
    times = alternate_runs(
        host,
        {
            "Decoder": lambda number: with_decoding(graph, seed=number),
            "stock": lambda number: stock_chain(with_decoding(graph, seed=number)),
        },
        3 * rounds,  # a few percent are to be seen
    )
    yield Measurement(
        "Decoder node against KSampler and VAE Decode, same sampler, new seed",
        times.ratio("Decoder", "stock"),
        GOAL_STOCK,
        times.describe("Decoder", "stock"),
    )


def alternate_runs(
    host: Host, makers: dict[str, Callable[[int], Graph]], rounds: int, warm_up: int = 1
) -> Times:
    """Seconds of graphs that are new in every round; every second round backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(-warm_up, rounds):
        order = list(enumerate(makers))[:: 1 if number % 2 == 0 else -1]
        for index, name in order:
            # Prompts and seeds of their own: what is cached is not measured.
            graph = makers[name](1 + len(makers) * (number + warm_up) + index)
            spent, _ = run(host, graph)
            if number >= 0:
                seconds[name].append(spent)
    return Times({name: tuple(values) for name, values in seconds.items()})


def with_decoding(graph: Graph, **inputs: object) -> Graph:
    """The graph with other inputs of the Decoder."""
    changed = json.loads(json.dumps(graph))
    decoder_of(changed)["inputs"].update(inputs)
    return changed


def decoder_of(graph: Graph) -> dict:
    return next(node for node in graph.values() if node["class_type"] == DECODE)


def stock_chain(graph: Graph) -> Graph:
    """The same picture by stock nodes in the place of the Decoder."""
    changed = json.loads(json.dumps(graph))
    name = next(key for key, node in changed.items() if node["class_type"] == DECODE)
    given = changed[name]["inputs"]
    side = 8 * json.loads(UNET_CONFIG.read_text("utf-8"))["sample_size"]  # the host divides by 8
    kept = {key: given[key] for key in ("features", "negative_features") if key in given}
    sizes = {"width": 1024, "height": 1024, "crop_top": 0, "crop_left": 0}
    sizes |= {"original_width": 1024, "original_height": 1024}
    sampling = {key: given[key] for key in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    sampling |= {"model": given["decoder"], "latent_image": ["latent", 0], "denoise": 1.0}
    sampling |= {"positive": ["conditioning", 0], "negative": ["conditioning", 1]}
    nodes = {
        "conditioning": ("BLIP3U_FeatureConditioning", kept | sizes),
        "latent": ("EmptyLatentImage", {"width": side, "height": side, "batch_size": 1}),
        "sampler": ("KSampler", sampling),
        name: ("VAEDecode", {"samples": ["sampler", 0], "vae": given["vae"]}),
    }
    return changed | {key: {"class_type": kind, "inputs": i} for key, (kind, i) in nodes.items()}
