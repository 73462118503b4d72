"""Sampling through the host, by our node and by KSampler, against the bare loop of the core.

The same weights and steps; the network lies inside the host's model in all three. float32: the
host computes in nothing else on a CPU. 10 steps, so that what a sampling costs once counts more
than in real use.
"""

from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch

from .in_host import call_in_host, load_pack, pack_module
from .measure import ROUNDS, Measurement, Times, alternate, threads
from .models import stage_in_memory

GOAL = 1.03
GOAL_PREVIEW = 0.02
STEPS = 10
SCALE = 3.0
NUM_QUERIES = 64


def rows(minimal: bool) -> Iterator[Measurement]:
    result = call_in_host("sampler", "measure_in_host", minimal)
    times = Times({name: tuple(values) for name, values in result["seconds"].items()})
    for name in ("CLIP Feature Sampler", "KSampler"):
        yield Measurement(
            f"{name} against the bare loop, {STEPS} steps, float32",
            times.ratio(name, "bare"),
            GOAL,
            f"{times.describe(name, 'bare')}; results differ by {result['difference'][name]:.0e}",
        )
    yield Measurement(
        "a preview at every step against CLIP Feature Sampler",
        times.ratio("previews", "CLIP Feature Sampler"),
        GOAL_PREVIEW,
        times.describe("previews", "CLIP Feature Sampler"),
    )


def measure_in_host(minimal: bool, rounds: int = ROUNDS) -> dict[str, Any]:
    """Inside the host: seconds of all rounds, and how far the results lie apart."""
    load_pack()
    nodes = import_module("nodes")
    flow = pack_module("blip3u_core.features.flow")
    patcher = hosted_dit(minimal)
    config = patcher.model.network_config
    tokens = flow.item_noise(1, 1, (NUM_QUERIES, config.condition_dim))
    shape = (config.in_channels, config.input_size, config.input_size)
    positive, negative = [[tokens, {}]], [[torch.zeros_like(tokens), {}]]
    empty = {"samples": torch.zeros(1, *shape)}
    ours = nodes.NODE_CLASS_MAPPINGS["BLIP3U_ClipFeatureSampler"]
    stock = nodes.KSampler()

    def bare() -> torch.Tensor:
        noise = flow.item_noise(5, 1, shape)
        return flow.sample_clip_features(patcher.model.diffusion_model, tokens, noise, STEPS, SCALE)

    def by_node() -> torch.Tensor:
        given = (patcher, positive, negative, 5, STEPS, SCALE, "euler", 1, 1.0)
        return ours.execute(*given).result[0]["samples"]

    def by_ksampler() -> torch.Tensor:
        given = (patcher, 5, STEPS, SCALE, "euler", "simple", positive, negative, empty)
        return stock.sample(*given)[0]["samples"]

    def previews() -> None:
        factors = patcher.model.latent_format
        previewer = import_module("latent_preview").Latent2RGBPreviewer(
            factors.latent_rgb_factors, factors.latent_rgb_factors_bias
        )
        for _ in range(STEPS):
            previewer.decode_latent_to_preview_image("JPEG", empty["samples"])

    functions = {"bare": bare, "CLIP Feature Sampler": by_node, "KSampler": by_ksampler}
    with threads(1), torch.inference_mode():  # as the host's executor runs every node
        by_node()  # the host places the weights
        expected = bare()
        difference = {
            name: float((run() - expected).abs().max()) for name, run in functions.items()
        }
        functions |= {"previews": previews}
        times = alternate(functions, 2 if minimal else rounds)
    return {"seconds": times.seconds, "difference": difference}


def hosted_dit(minimal: bool) -> Any:
    """A DiT with random weights as a MODEL, without a file."""
    from .dit import MINIMAL, SIZE, random_dit

    network = random_dit(MINIMAL if minimal else SIZE, torch.float32)
    stage = stage_in_memory("dit", {}, network.state_dict())
    checkpoint = SimpleNamespace(dit=stage, config={"n_query": network.config.input_size**2})
    return pack_module("nodes.host.dit").load_dit(checkpoint, torch.float32)
