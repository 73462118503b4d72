"""The DiT under the host's hands: LoRA, low VRAM, dtypes, Cancel, wrong inputs, no memory left."""

import pytest
import torch
from torch.testing import assert_close

from harness.comfy import ORACLE, RANDOM_TINY, RANDOM_TINY_SHARDED, Host
from harness.features import (
    GOLDEN,
    SAME,
    feature_sampler,
    k_sampler,
    load,
    tokens,
    write_lora,
)
from harness.graph import Graph, output, tensors


def with_lora(graph: Graph, model: list, strength: float) -> list:
    return graph.add(
        "LoraLoaderModelOnly", model=model, lora_name="dit.safetensors", strength_model=strength
    )


def test_lora_by_the_published_names(host: Host) -> None:
    write_lora(host)
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    plain, none, some = tensors(
        host,
        graph,
        *(
            feature_sampler(graph, patched, conditioning, steps=3)
            for patched in (model, with_lora(graph, model, 0.0), with_lora(graph, model, 1.0))
        ),
    )
    assert torch.equal(plain, none)
    assert not torch.allclose(plain, some, atol=1e-3)


def test_cancel_stops_within_a_step(host: Host) -> None:
    host.hook(slow="HostedNextDiT", seconds=0.3)
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    graph.add(
        "TestSave", value=feature_sampler(graph, model, conditioning, steps=60, seed=99), name="x"
    )
    assert host.cancel(graph) <= 6
    host.hook()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("low_vram_bytes", [1, 300_000])
def test_low_vram_gives_the_same(host: Host, low_vram_bytes: int, lora: bool) -> None:
    """Nothing, or a part of the 850 KB of float32 weights, fits: the rest is cast when used."""
    write_lora(host)
    found = []
    for limit in ({}, {"low_vram_bytes": low_vram_bytes}):
        host.free()
        host.hook(**limit)
        graph = Graph()
        model, conditioning = load(graph), tokens(graph)
        if lora:
            model = with_lora(graph, model, 1.0)
        found += tensors(host, graph, feature_sampler(graph, model, conditioning))
        if limit:
            (loaded,) = (m for m in host.loaded_models() if m["class"] == "ClipFeatureDiT")
            assert loaded["loaded_bytes"] < loaded["total_bytes"]
    assert_close(found[0], found[1], **SAME)


@pytest.mark.parametrize(
    ("weight_dtype", "limit"),
    [("auto", 1e-6), ("bf16", 1e-5), ("fp16", 0.01), ("fp8_e4m3fn", 0.2)],
)
def test_weight_dtypes(host: Host, weight_dtype: str, limit: float) -> None:
    """The golden weights are exact in bf16. fp8 keeps norms and biases as they are."""
    found = []
    for dtype in ("fp32", weight_dtype):
        graph = Graph()
        model, conditioning = load(graph, dtype), tokens(graph)
        found += tensors(host, graph, feature_sampler(graph, model, conditioning, steps=30))
    assert (found[0] - found[1]).norm() / found[0].norm() < limit


def test_shards_give_the_same(host: Host) -> None:
    found = []
    for checkpoint in (RANDOM_TINY, RANDOM_TINY_SHARDED):
        graph = Graph()
        model, conditioning = load(graph, checkpoint=checkpoint), tokens(graph)
        found += tensors(host, graph, feature_sampler(graph, model, conditioning))
    assert torch.equal(*found)


def bad_graph(kind: str, graph: Graph) -> list:
    model, conditioning = load(graph), tokens(graph)
    latent = graph.add("EmptyLatentImage", width=512, height=512, batch_size=1)
    if kind == "features as conditioning":
        file = str(ORACLE / "goldens" / "chain.safetensors")
        wrong = graph.add("TestConditioning", file=file, key="c10.prompt_embeds", pooled_key="")
        return feature_sampler(graph, model, {**conditioning, "positive": wrong})
    if kind == "empty latent of a picture":
        return k_sampler(graph, model, conditioning, latent)
    if kind == "latent of another model":
        file = str(ORACLE / "goldens" / "chain.safetensors")
        wrong = graph.add("TestLatent", file=file, key="c10.latents")
        return k_sampler(graph, model, conditioning, wrong)
    if kind == "init features of another model":
        file = str(ORACLE / "goldens" / "chain.safetensors")
        wrong = graph.add("TestLatent", file=file, key="c10.latents")
        return feature_sampler(graph, model, conditioning, init_features=wrong)
    if kind == "decoder as model":
        return feature_sampler(graph, [model[0], 2], conditioning)
    if kind == "decoder for empty features":
        return graph.add("BLIP3U_EmptyFeatures", model=[model[0], 2], batch_size=1)
    if kind == "batches that differ":
        start = graph.add("TestLatent", file=GOLDEN, key="s10_b2.latents")
        return feature_sampler(graph, model, conditioning, init_features=start, batch_size=3)
    if kind == "steps 0":
        return feature_sampler(graph, model, conditioning, steps=0)
    if kind == "batch 0":
        return feature_sampler(graph, model, conditioning, batch_size=0)
    node = graph.add("BLIP3U_LoadModel", checkpoint=RANDOM_TINY_SHARDED, weight_dtype="auto")
    assert kind == "no decoder"
    return graph.add("BLIP3U_EmptyFeatures", model=[node[0], 2], batch_size=1)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("features as conditioning", "belong to the decoder"),
        ("empty latent of a picture", "a grid of 64 x 64"),
        ("latent of another model", "the latent is (1, 4, 16, 16), expected CLIP features"),
        ("init features of another model", "init_features is a LATENT (1, 4, 16, 16)"),
        ("decoder as model", "expected the feature DiT"),
        ("decoder for empty features", "expected the feature DiT"),
        ("batches that differ", "batch_size is 3"),
        ("steps 0", "0 smaller than min of 1"),
        ("batch 0", "0 smaller than min of 1"),
        ("no decoder", "has no diffusion-decoder/unet"),
    ],
)
def test_bad_input_is_told_and_survived(host: Host, kind: str, text: str) -> None:
    graph = Graph()
    graph.add("TestSave", value=bad_graph(kind, graph), name="bad")
    assert text in host.failure(graph)
    good = Graph()
    model, conditioning = load(good), tokens(good)
    assert tensors(host, good, feature_sampler(good, model, conditioning, steps=1))


def test_out_of_memory_is_told_and_freed(host: Host) -> None:
    host.hook(out_of_memory="HostedNextDiT")
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    node = feature_sampler(graph, model, conditioning, seed=31)
    graph.add("TestSave", value=node, name="oom")
    assert "out of memory" in host.failure(graph).lower()
    assert "ClipFeatureDiT" not in [model["class"] for model in host.loaded_models()]
    host.hook()
    assert host.run(graph).outputs


def test_a_cache_that_writes_into_its_input_leaves_the_sampler_alone(host: Host) -> None:
    """EasyCache adds to its input in place; the sampler's x must not be that very tensor."""
    graph = Graph()
    loaded = graph.add("BLIP3U_LoadModel", checkpoint="blip3u-tiny (built-in)", weight_dtype="fp32")
    llm, model = loaded, output(loaded, 1)
    positive = graph.add("BLIP3U_VisualTokens", llm=llm, prompt="a red circle", template="caption")
    conditioning = {"positive": positive, "negative": output(positive, 1)}
    options = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95}
    cached = graph.add("EasyCache", model=model, verbose=False, **options)
    plain, quick = tensors(
        host,
        graph,
        *(feature_sampler(graph, patched, conditioning, steps=30) for patched in (model, cached)),
    )
    assert not torch.equal(plain, quick)
    assert (plain - quick).norm() < 0.1 * plain.norm()  # 1.9 where the sampler's x was changed


def test_seeds_wrap_behind_the_largest(host: Host) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    ancestral = {"sampler_name": "euler_ancestral", "steps": 3}
    largest, first = 2**64 - 1, 0
    both, second = tensors(
        host,
        graph,
        feature_sampler(graph, model, conditioning, **ancestral, seed=largest, batch_size=2),
        feature_sampler(graph, model, conditioning, **ancestral, seed=first),
    )
    assert torch.equal(both[1:], second)
