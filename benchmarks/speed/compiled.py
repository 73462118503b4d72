"""CLIP Feature Sampler behind the host's TorchCompileModel (inductor) against without it.

float32, as the host computes on a CPU; needs a C++ compiler there. On a GPU the same node takes the
launches away that bound the DiT, see the README.
"""

from collections.abc import Iterator
from importlib import import_module
from time import perf_counter
from typing import Any

import torch

from .in_host import call_in_host, load_pack, pack_module
from .measure import ROUNDS, Measurement, Times, alternate, threads
from .sampler import NUM_QUERIES, SCALE, STEPS, hosted_dit

PLAIN, COMPILED = "as it is", "compiled"


def rows(minimal: bool) -> Iterator[Measurement]:
    result = call_in_host("compiled", "measure_in_host", minimal)
    times = Times({name: tuple(values) for name, values in result["seconds"].items()})
    yield Measurement(
        f"CLIP Feature Sampler, {STEPS} steps, float32: compiled against as it is",
        times.ratio(COMPILED, PLAIN),
        None,
        f"{times.describe(COMPILED, PLAIN)}; compiled once in {result['compiling']:.0f} s; "
        f"results differ by {result['difference']:.0e}",
    )


def measure_in_host(minimal: bool) -> dict[str, Any]:
    """Inside the host: seconds of all rounds and of compiling, and how far the results differ."""
    load_pack()
    sampler = import_module("nodes").NODE_CLASS_MAPPINGS["BLIP3U_ClipFeatureSampler"]
    compiler = import_module("comfy_extras.nodes_torch_compile").TorchCompileModel
    model = hosted_dit(minimal)
    compiled = compiler.execute(model, "inductor").result[0]
    width = model.model.network_config.condition_dim
    tokens = pack_module("blip3u_core.features.flow").item_noise(1, 1, (NUM_QUERIES, width))
    positive, negative = [[tokens, {}]], [[torch.zeros_like(tokens), {}]]

    def sample(patcher: Any) -> torch.Tensor:
        given = (patcher, positive, negative, 5, STEPS, SCALE, "euler", 1, 1.0)
        return sampler.execute(*given).result[0]["samples"]

    with threads(1), torch.inference_mode():
        expected = sample(model)
        start = perf_counter()
        difference = float((sample(compiled) - expected).abs().max())
        compiling = perf_counter() - start
        functions = {PLAIN: lambda: sample(model), COMPILED: lambda: sample(compiled)}
        times = alternate(functions, 2 if minimal else ROUNDS)
    return {"seconds": times.seconds, "compiling": compiling, "difference": difference}
