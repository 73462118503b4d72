"""Converted checkpoints in a real host: the same pictures; fp8 stays fp8 and draws."""

import pytest
import torch

from blip3u_core.convert import convert
from harness.comfy import ORACLE, RANDOM_TINY, Host
from harness.graph import Graph, Link, output, tensors

SAMPLING = {"seed": 1, "steps": 3, "cfg": 3.0}


def draw(graph: Graph, checkpoint: str, weight_dtype: str = "auto") -> tuple[Link, Link]:
    """Features and picture of a prompt."""
    load = graph.add("BLIP3U_LoadModel", checkpoint=checkpoint, weight_dtype=weight_dtype)
    llm, model, decoder, vae = (output(load, i) for i in range(4))
    tokens = graph.add("BLIP3U_VisualTokens", llm=llm, prompt="a cat", template="caption")
    features = graph.add(
        "BLIP3U_ClipFeatureSampler",
        model=model,
        positive=tokens,
        negative=output(tokens, 1),
        sampler_name="euler",
        batch_size=1,
        denoise=1.0,
        **SAMPLING,
    )
    size = {"width": 0, "height": 0, "denoise": 1.0}
    picture = graph.add(
        "BLIP3U_Decode", decoder=decoder, vae=vae, features=features, **SAMPLING, **size
    )
    return features, picture


@pytest.fixture(scope="module")
def converted(host: Host) -> Host:
    folder = host.base / "models" / "blip3u"
    convert(ORACLE / "checkpoint", folder / "one-file-a-stage")
    convert(ORACLE / "checkpoint", folder / "in-fp8", "fp8_e4m3fn")
    for kind in ("int8", "nvfp4"):
        convert(ORACLE / "checkpoint", folder / f"in-{kind}", kind)
    return host


def test_one_file_a_stage_draws_the_same(converted: Host) -> None:
    graph = Graph()
    published, one_file = (draw(graph, name)[1] for name in (RANDOM_TINY, "one-file-a-stage"))
    assert torch.equal(*tensors(converted, graph, published, one_file))


def test_fp8_stays_as_stored_and_draws(converted: Host) -> None:
    converted.free()
    graph = Graph()
    features, picture = tensors(converted, graph, *draw(graph, "in-fp8"))
    sizes = {m["class"]: m["total_bytes"] for m in converted.loaded_models()}
    exact = Graph()
    (expected,) = tensors(converted, exact, draw(exact, RANDOM_TINY)[0])
    assert picture.isfinite().all()
    assert (features - expected).norm() / expected.norm() < 0.3
    whole = {m["class"]: m["total_bytes"] for m in converted.loaded_models()}
    assert sizes["ClipFeatureDiT"] < 0.55 * whole["ClipFeatureDiT"]


@pytest.mark.parametrize(
    ("kind", "weight_dtype", "largest_error"),
    [("int8", "auto", 0.1), ("int8", "fp32", 0.1), ("nvfp4", "auto", 0.5)],
)
def test_a_quantised_checkpoint_draws(
    converted: Host, kind: str, weight_dtype: str, largest_error: float
) -> None:
    """By the host's kernels where it has them, as plain matrices elsewhere."""
    converted.free()
    graph, exact = Graph(), Graph()
    quantised = draw(graph, f"in-{kind}", weight_dtype)
    features, picture = tensors(converted, graph, *quantised)
    (expected,) = tensors(converted, exact, draw(exact, RANDOM_TINY)[0])
    assert picture.isfinite().all()
    assert 0 < (features - expected).norm() / expected.norm() < largest_error
