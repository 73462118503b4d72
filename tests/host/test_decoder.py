"""The decoder as a stock MODEL, in a real host: golden chains, shorthands, memory, Cancel.

Limits: against the reference 1e-5 for pictures and 2e-4 for latents that reach 60; between two
ways through the same host 2e-5.
"""

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from blip3u_core.pipeline import Pipeline
from harness.comfy import ORACLE, Host
from harness.decoding import CHAIN, Parts
from harness.graph import Graph, Link, output, tensors

SCALE = 0.13025
REFERENCE = {"atol": 1e-5, "rtol": 0}
SAME = {"atol": 2e-5, "rtol": 0}


@pytest.mark.parametrize(("case", "steps"), [("c10", 10), ("c10_second", 10), ("c50", 50)])
def test_golden_chain(host: Host, made: str, case: str, steps: int) -> None:
    parts = Parts(Graph(), made, case)
    noise = parts.graph.add("TestNoise", file=CHAIN, key=f"{case}.latent_noise")
    latent = parts.chain(noise, steps)
    found, picture = tensors(host, parts.graph, latent, parts.pictures(latent))
    golden = load_file(CHAIN)
    assert_close(found * SCALE, golden[f"{case}.latents"], atol=2e-4, rtol=0)
    assert_close(picture, golden[f"{case}.image"], **REFERENCE)


def test_golden_chain_from_the_text(host: Host, made: str) -> None:
    """Prompt, visual tokens, both feature samplings, decoder, pixels."""
    graph = Graph()
    parts = Parts(graph, made)

    def features(prompt: str, template: str, noise: str) -> Link:
        tokens = graph.add("BLIP3U_VisualTokens", llm=parts.llm, prompt=prompt, template=template)
        pair = {"positive": tokens, "negative": output(tokens, 1)}
        return graph.add(
            "SamplerCustomAdvanced",
            noise=graph.add("TestNoise", file=CHAIN, key=noise),
            guider=graph.add("CFGGuider", model=parts.model, cfg=3.0, **pair),
            sampler=graph.add("KSamplerSelect", sampler_name="euler"),
            sigmas=graph.add("BLIP3U_FeatureSigmas", steps=30, denoise=1.0),
            latent_image=graph.add("BLIP3U_EmptyFeatures", model=parts.model, batch_size=1),
        )

    parts.features = features("A photo of cute cat", "caption", "c10.clip_noise")
    parts.negative = features(" ", "raw", "c10.neg_clip_noise")
    noise = graph.add("TestNoise", file=CHAIN, key="c10.latent_noise")
    (picture,) = tensors(host, graph, parts.pictures(parts.chain(noise, 10)))
    assert_close(picture, load_file(CHAIN)["c10.image"], **REFERENCE)


@pytest.mark.parametrize("steps", [4, 20])
def test_decode_equals_its_stock_chain(host: Host, made: str, steps: int) -> None:
    parts = Parts(Graph(), made)
    noise = parts.graph.add("RandomNoise", noise_seed=3)
    ours, stock, sampler = tensors(
        host,
        parts.graph,
        parts.decode(steps=steps),
        parts.pictures(parts.chain(noise, steps)),
        parts.pictures(parts.k_sampler(steps=steps)),
    )
    assert torch.equal(ours, stock)
    assert_close(sampler, ours, **SAME)  # the host's ddim_uniform has these very sigmas


@pytest.mark.parametrize(
    ("sampler", "scheduler"), [("dpmpp_2m", "karras"), ("euler_ancestral", "normal")]
)
def test_any_sampler_and_schedule_of_the_host(
    host: Host, made: str, sampler: str, scheduler: str
) -> None:
    """As KSampler does it; a picture of a batch is the picture alone, also with fresh noise."""
    parts = Parts(Graph(), made)
    chosen = {"sampler_name": sampler, "scheduler": scheduler}
    batch = parts.graph.add("TestLatent", file=made, key="features.b3")
    alone = parts.graph.add("LatentFromBatch", samples=batch, batch_index=1, length=1)
    ours, stock, three, second = tensors(
        host,
        parts.graph,
        parts.decode(**chosen),
        parts.pictures(parts.k_sampler(**chosen)),
        parts.decode(**chosen, features=batch),
        parts.decode(**chosen, features=alone, seed=4),
    )
    assert_close(ours, stock, **SAME)
    assert_close(three[1:2], second, **SAME)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_the_pipeline_solves_as_the_host_does(host: Host, made: str, sampler: str) -> None:
    """Two implementations of each: diffusers' solver on diffusers' UNet, the host's on its own."""
    parts = Parts(Graph(), made)
    chosen = {"sampler_name": sampler, "scheduler": "karras"}
    drawn, moved = tensors(
        host,
        parts.graph,
        parts.decode(**chosen, steps=9),
        parts.decode(**chosen, source_image=parts.source(), denoise=0.5),
    )
    pipeline = Pipeline.from_checkpoint(ORACLE / "checkpoint")
    values = load_file(made)
    features, negative = values["c10.features"], values["c10.negative"]
    plain = pipeline.decode(features, negative, seed=3, decoder_steps=9, size=(32, 32), **chosen)
    assert_close(plain, drawn, **REFERENCE)
    plain = pipeline.decode(
        features.expand(2, -1, -1, -1), negative, source=values["image"], seed=3,
        decoder_steps=4, decoder_denoise=0.5, size=(32, 32), **chosen,
    )  # fmt: skip
    assert_close(plain, moved, **REFERENCE)


def test_decode_equals_its_stock_chain_from_a_picture(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    graph = parts.graph
    one = graph.add("ImageFromBatch", image=parts.source(), batch_index=0, length=1)
    encoded = graph.add("VAEEncode", pixels=one, vae=parts.vae)
    masked = graph.add("SetLatentNoiseMask", samples=encoded, mask=parts.mask())
    noise = graph.add("RandomNoise", noise_seed=3)
    ours, stock, ours_masked, stock_masked = tensors(
        host,
        graph,
        parts.decode(source_image=one, denoise=0.5),
        parts.pictures(parts.chain(noise, 4, denoise=0.5, latent_image=encoded)),
        parts.decode(source_image=one, mask=parts.mask(), denoise=0.8),
        parts.pictures(parts.chain(noise, 4, denoise=0.8, latent_image=masked)),
    )
    assert torch.equal(ours, stock)
    assert_close(ours_masked[:, :, 20:], stock_masked[:, :, 20:], **SAME)  # behind the soft edge


def test_an_item_of_a_batch_is_its_single_run(host: Host, made: str) -> None:
    graph = Graph()
    parts = Parts(graph, made)
    batch = graph.add("TestLatent", file=made, key="features.b3")
    third = graph.add("LatentFromBatch", samples=batch, batch_index=2, length=1)
    together, alone = tensors(
        host, graph, parts.decode(features=batch), parts.decode(features=third, seed=5)
    )
    assert together.shape == (3, 32, 32, 3)
    assert_close(together[2:], alone, **SAME)


def test_several_sources_of_one_set_of_features(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    (pictures,) = tensors(host, parts.graph, parts.decode(source_image=parts.source(), denoise=0.5))
    assert pictures.shape == (2, 32, 32, 3)


def test_sizes(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    own, wide, resized = tensors(
        host,
        parts.graph,
        parts.decode(),
        parts.decode(width=64, height=48),
        parts.decode(source_image=parts.source(), width=48, height=16, denoise=0.5),
    )
    assert own.shape == (1, 32, 32, 3)
    assert wide.shape == (1, 48, 64, 3)
    assert resized.shape == (2, 16, 48, 3)


def test_denoise_zero_gives_the_source_back(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    encoded = parts.graph.add("VAEEncode", pixels=parts.source(), vae=parts.vae)
    ours, through = tensors(
        host,
        parts.graph,
        parts.decode(source_image=parts.source(), denoise=0.0),
        parts.pictures(encoded),
    )
    assert torch.equal(ours, through)


def test_kept_latents_stay(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    graph = parts.graph
    encoded = graph.add("VAEEncode", pixels=parts.source(), vae=parts.vae)
    masked = graph.add("SetLatentNoiseMask", samples=encoded, mask=parts.mask())
    before, after = tensors(host, graph, encoded, parts.k_sampler(latent=masked))
    assert_close(after[..., :8], before[..., :8], atol=1e-4, rtol=0)
    assert not torch.allclose(after[..., 8:], before[..., 8:], atol=0.1)


@pytest.mark.parametrize(
    ("dtype", "limit"), [("fp32", 1e-6), ("bf16", 1e-5), ("fp16", 0.01), ("fp8_e4m3fn", 0.3)]
)
def test_weight_dtypes(host: Host, made: str, dtype: str, limit: float) -> None:
    """The golden weights are exact in bf16. fp8 keeps all but matrices as they are."""
    found = []
    for name in ("auto", dtype):
        parts = Parts(Graph(), made, dtype=name)
        found += tensors(host, parts.graph, parts.k_sampler())
    assert (found[0] - found[1]).norm() / found[0].norm() < limit


def test_low_vram_gives_the_same(host: Host, made: str) -> None:
    found = []
    for limit in ({}, {"low_vram_bytes": 100_000}):
        host.free()
        host.hook(**limit)
        parts = Parts(Graph(), made)
        found += tensors(host, parts.graph, parts.decode())
        if limit:
            (loaded,) = (m for m in host.loaded_models() if m["class"] == "ClipFeatureDecoder")
            assert loaded["loaded_bytes"] < loaded["total_bytes"]
    assert_close(found[0], found[1], **SAME)


def test_unload_frees_decoder_and_vae(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    tensors(host, parts.graph, parts.decode(seed=77))
    assert {"ClipFeatureDecoder", "Vae"} <= {m["class"] for m in host.loaded_models()}
    host.free()
    assert host.loaded_models() == []


def test_cancel_stops_within_a_step(host: Host, made: str) -> None:
    host.hook(slow="DecoderUNet", seconds=0.3)
    parts = Parts(Graph(), made)
    parts.graph.add("TestSave", value=parts.decode(steps=60, seed=99), name="cancelled")
    assert host.cancel(parts.graph) <= 6
    host.hook()
    parts = Parts(Graph(), made)
    assert tensors(host, parts.graph, parts.decode())[0].isfinite().all()


@pytest.mark.parametrize("part", ["DecoderUNet", "Vae"])
def test_out_of_memory_is_told_and_the_next_run_works(host: Host, made: str, part: str) -> None:
    host.hook(out_of_memory=part)
    parts = Parts(Graph(), made)
    parts.graph.add("TestSave", value=parts.decode(seed=55), name="memory")
    if part == "DecoderUNet":
        assert "memory" in host.failure(parts.graph)
        host.hook()
    parts = Parts(Graph(), made)
    assert tensors(host, parts.graph, parts.decode(seed=55))[0].isfinite().all()


def test_negative_features_are_those_of_a_bare_blank(host: Host, made: str) -> None:
    graph = Graph()
    parts = Parts(graph, made)
    tokens = graph.add("BLIP3U_VisualTokens", llm=parts.llm, prompt=" ", template="raw")
    sampling = {"seed": 4, "steps": 5, "cfg": 3.0}
    sampled = graph.add(
        "BLIP3U_ClipFeatureSampler",
        model=parts.model,
        positive=tokens,
        negative=output(tokens, 1),
        sampler_name="euler",
        batch_size=1,
        denoise=1.0,
        **sampling,
    )
    ours = graph.add("BLIP3U_NegativeFeatures", llm=parts.llm, model=parts.model, **sampling)
    assert torch.equal(*tensors(host, graph, ours, sampled))


def test_a_new_seed_makes_no_negative_features(host: Host, made: str) -> None:
    def executed(seed: int) -> list[str]:
        graph = Graph()
        parts = Parts(graph, made)
        negative = graph.add(
            "BLIP3U_NegativeFeatures", llm=parts.llm, model=parts.model, seed=0, steps=3, cfg=3.0
        )
        drawn = parts.decode(negative_features=negative, seed=seed)
        graph.add("TestSave", value=drawn, name="seed")
        return [graph[node]["class_type"] for node in host.run(graph).executed]

    executed(1)
    again = executed(2)
    assert "BLIP3U_Decode" in again
    assert "BLIP3U_NegativeFeatures" not in again
    assert "BLIP3U_LoadModel" not in again
