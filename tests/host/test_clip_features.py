"""The DiT as a stock MODEL, in a real host: every way to sample it gives the same features.

Limits: against the reference those of the golden set (1e-4; measured 3e-5); between two ways
through the same host 2e-5 where only the order of a batch's sums differs.
"""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from harness.comfy import ORACLE, RANDOM_TINY, RANDOM_TINY_SHARDED, GraphError, Host

GOLDEN = str(ORACLE / "goldens" / "sampling.safetensors")
REFERENCE = {"atol": 1e-4, "rtol": 0}
SAME = {"atol": 2e-5, "rtol": 0}


class Graph(dict):
    """A graph in API form that numbers its own nodes."""

    def add(self, class_type: str, **inputs: Any) -> list:
        name = str(len(self) + 1)
        self[name] = {"class_type": class_type, "inputs": inputs}
        return [name, 0]


def load(graph: Graph, weight_dtype: str = "fp32", checkpoint: str = RANDOM_TINY) -> list:
    node = graph.add("BLIP3U_LoadModel", checkpoint=checkpoint, weight_dtype=weight_dtype)
    return [node[0], 1]


def tokens(graph: Graph, file: str = GOLDEN, key: str = "cond") -> dict[str, list]:
    positive = graph.add("TestConditioning", file=file, key=key, pooled_key="")
    return {
        "positive": positive,
        "negative": graph.add("ConditioningZeroOut", conditioning=positive),
    }


def feature_sampler(graph: Graph, model: list, conditioning: dict, **changes: Any) -> list:
    inputs = {
        "seed": 7,
        "steps": 10,
        "cfg": 3.0,
        "sampler_name": "euler",
        "batch_size": 1,
        "denoise": 1.0,
    }
    return graph.add(
        "BLIP3U_ClipFeatureSampler", model=model, **conditioning, **{**inputs, **changes}
    )


def k_sampler(graph: Graph, model: list, conditioning: dict, latent: list, **changes: Any) -> list:
    inputs = {
        "seed": 7,
        "steps": 10,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    }
    return graph.add(
        "KSampler", model=model, **conditioning, latent_image=latent, **{**inputs, **changes}
    )


def custom_sampler(
    graph: Graph, model: list, conditioning: dict, noise: list, steps: int, cfg: float, latent: list
) -> list:
    return graph.add(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=graph.add("CFGGuider", model=model, cfg=cfg, **conditioning),
        sampler=graph.add("KSamplerSelect", sampler_name="euler"),
        sigmas=graph.add("BLIP3U_FeatureSigmas", steps=steps, denoise=1.0),
        latent_image=latent,
    )


def samples(host: Host, graph: Graph, *values: list) -> list[torch.Tensor]:
    saves = [graph.add("TestSave", value=v, name=f"features-{v[0]}") for v in values]
    result = host.run(graph)
    files = [result.outputs[save[0]]["files"][0] for save in saves]
    return [load_file(host.file(file))["samples"] for file in files]


@pytest.mark.parametrize(
    ("case", "steps", "cfg"),
    [
        ("s1", 1, 3.0),
        ("s10", 10, 3.0),
        ("s30", 30, 3.0),
        ("s10_g1", 10, 1.0),
        ("s10_g5p5", 10, 5.5),
        ("s10_b2", 10, 3.0),
    ],
)
def test_golden_run(host: Host, case: str, steps: int, cfg: float) -> None:
    graph = Graph()
    model = load(graph)
    batch = 2 if case == "s10_b2" else 1
    noise = graph.add("TestNoise", file=GOLDEN, key="noise_b2" if batch == 2 else "noise")
    latent = graph.add("BLIP3U_EmptyFeatures", model=model, batch_size=batch)
    found = custom_sampler(graph, model, tokens(graph), noise, steps, cfg, latent)
    assert_close(samples(host, graph, found)[0], load_file(GOLDEN)[f"{case}.latents"], **REFERENCE)


@pytest.mark.parametrize("steps", [10, 11, 30])
def test_sampler_equals_stock_samplers(host: Host, steps: int) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    latent = graph.add("BLIP3U_EmptyFeatures", model=model, batch_size=1)
    noise = graph.add("RandomNoise", noise_seed=7)
    ours, stock, custom = samples(
        host,
        graph,
        feature_sampler(graph, model, conditioning, steps=steps),
        k_sampler(graph, model, conditioning, latent, steps=steps),
        custom_sampler(graph, model, conditioning, noise, steps, 3.0, latent),
    )
    assert torch.equal(ours, custom)
    # 11 steps do not divide the host's table: its sigmas are up to 2e-5 off.
    assert_close(ours, stock, atol=1e-5 if steps != 11 else 1e-3, rtol=0)


@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "dpmpp_2m", "dpm_adaptive"])
def test_an_item_of_a_batch_is_its_single_run(host: Host, sampler_name: str) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    options = {"steps": 4, "sampler_name": sampler_name}
    batch, *singles = samples(
        host,
        graph,
        feature_sampler(graph, model, conditioning, seed=5, batch_size=3, **options),
        *(feature_sampler(graph, model, conditioning, seed=5 + i, **options) for i in range(3)),
    )
    assert batch.shape == (3, 48, 8, 8)
    assert_close(batch, torch.cat(singles), **SAME)


def test_several_descriptions_in_one_conditioning(host: Host, tmp_path) -> None:
    file = str(tmp_path / "tokens.safetensors")
    both = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    save_file({"both": both, "0": both[:1].clone(), "1": both[1:].clone()}, file)
    graph = Graph()
    model = load(graph)
    batch, first, second = samples(
        host,
        graph,
        feature_sampler(graph, model, tokens(graph, file, "both"), seed=3, steps=3),
        feature_sampler(graph, model, tokens(graph, file, "0"), seed=3, steps=3),
        feature_sampler(graph, model, tokens(graph, file, "1"), seed=4, steps=3),
    )
    assert_close(batch, torch.cat((first, second)), **SAME)


def test_positive_and_negative_of_different_length(host: Host, tmp_path) -> None:
    file = str(tmp_path / "tokens.safetensors")
    short = torch.randn(1, 7, 64, generator=torch.Generator().manual_seed(0))
    twice = torch.cat((short, short), 1)  # the same to attention and mean
    save_file({"short": short, "twice": twice}, file)
    graph = Graph()
    model, positive = load(graph), tokens(graph)["positive"]
    negatives = [
        graph.add("TestConditioning", file=file, key=key, pooled_key="")
        for key in ("short", "twice")
    ]
    short_out, twice_out = samples(
        host,
        graph,
        *(
            feature_sampler(graph, model, {"positive": positive, "negative": n}, steps=3)
            for n in negatives
        ),
    )
    assert_close(short_out, twice_out, **SAME)


def test_init_features_and_denoise(host: Host) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    start = graph.add("TestLatent", file=GOLDEN, key="s10.latents")
    ours, stock, little = samples(
        host,
        graph,
        feature_sampler(graph, model, conditioning, denoise=0.5, init_features=start),
        k_sampler(graph, model, conditioning, start, denoise=0.5),
        feature_sampler(graph, model, conditioning, denoise=0.01, init_features=start, steps=1),
    )
    assert_close(ours, stock, atol=1e-5, rtol=0)
    given = load_file(GOLDEN)["s10.latents"]
    assert (little - given).norm() < 0.2 * given.norm()


def test_stock_nodes_on_model_and_conditioning(host: Host, tmp_path) -> None:
    """Area, mask, averaging, concatenation, a shift, a mask on the latent: all of them run."""
    file = str(tmp_path / "mask.safetensors")
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    save_file({"mask": mask}, file)
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    positive, negative = conditioning["positive"], conditioning["negative"]
    other = graph.add("TestConditioning", file=GOLDEN, key="cond", pooled_key="")
    stock_mask = graph.add("TestMask", file=file, key="mask")
    averaged = graph.add(
        "ConditioningAverage",
        conditioning_to=positive,
        conditioning_from=negative,
        conditioning_to_strength=1.0,
    )
    masked = graph.add(
        "ConditioningSetMask",
        conditioning=other,
        mask=stock_mask,
        strength=1.0,
        set_cond_area="default",
    )
    area = graph.add(
        "ConditioningSetAreaPercentage",
        conditioning=other,
        width=0.5,
        height=1.0,
        x=0.0,
        y=0.0,
        strength=1.0,
    )
    combined = graph.add("ConditioningCombine", conditioning_1=masked, conditioning_2=area)
    longer = graph.add("ConditioningConcat", conditioning_to=positive, conditioning_from=other)
    shifted = graph.add("ModelSamplingSD3", model=model, shift=1.0)
    empty = graph.add("BLIP3U_EmptyFeatures", model=model, batch_size=1)
    start = graph.add("TestLatent", file=GOLDEN, key="s10.latents")
    inpaint = graph.add("SetLatentNoiseMask", samples=start, mask=stock_mask)
    plain, same, regions, doubled, again, kept = samples(
        host,
        graph,
        feature_sampler(graph, model, conditioning),
        feature_sampler(graph, model, {"positive": averaged, "negative": negative}),
        k_sampler(graph, model, {"positive": combined, "negative": negative}, empty),
        feature_sampler(graph, model, {"positive": longer, "negative": negative}),
        feature_sampler(graph, shifted, conditioning),
        feature_sampler(graph, model, conditioning, init_features=inpaint),
    )
    assert_close(same, plain, **SAME)
    assert_close(doubled, plain, **SAME)  # the same tokens twice: attention and mean are equal
    assert_close(again, plain, **SAME)
    assert regions.isfinite().all()
    given = load_file(GOLDEN)["s10.latents"]
    assert_close(kept[..., 4:], given[..., 4:], atol=1e-5, rtol=0)
    assert not torch.allclose(kept[..., :4], given[..., :4], atol=0.1)


@pytest.mark.parametrize(
    "sampler_name", ["dpm_2", "heun", "dpmpp_2m_sde", "lcm", "uni_pc", "res_multistep"]
)
def test_other_samplers(host: Host, sampler_name: str) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    options = {"sampler_name": sampler_name, "steps": 40}
    (found,) = samples(host, graph, feature_sampler(graph, model, conditioning, **options))
    assert found.isfinite().all()


def test_a_solver_of_second_order_goes_the_same_way(host: Host) -> None:
    """heun leaves the schedule's timesteps halfway; its features are euler's, more exactly."""
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    euler, heun, exact = samples(
        host,
        graph,
        feature_sampler(graph, model, conditioning, steps=20),
        feature_sampler(graph, model, conditioning, steps=20, sampler_name="heun"),
        feature_sampler(graph, model, conditioning, steps=250),
    )
    assert (heun - exact).norm() < (euler - exact).norm()


def write_lora(host: Host) -> None:
    up, down = torch.randn(2, 48, 2, generator=torch.Generator().manual_seed(0))
    name = "diffusion_model.layers.0.attn2.to_q"
    folder = host.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    lora = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down.T.contiguous()}
    save_file(lora, folder / "dit.safetensors")


def with_lora(graph: Graph, model: list, strength: float) -> list:
    return graph.add(
        "LoraLoaderModelOnly", model=model, lora_name="dit.safetensors", strength_model=strength
    )


def test_lora_by_the_published_names(host: Host) -> None:
    write_lora(host)
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    plain, none, some = samples(
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
    steps: list[int] = []

    def stop(event: dict[str, Any]) -> None:
        if event["type"] == "progress":
            steps.append(event["data"]["value"])
            if len(steps) == 3:
                host.interrupt()

    with pytest.raises(GraphError) as caught:
        host.run(graph, on_event=stop)
    assert caught.value.interrupted
    assert max(steps) <= 6
    host.hook()


def test_progress_counts_steps_over_the_batch(host: Host) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    options = {"steps": 3, "batch_size": 2, "sampler_name": "euler_ancestral", "seed": 123}
    node = feature_sampler(graph, model, conditioning, **options)
    graph.add("TestSave", value=node, name="progress")
    progress = host.run(graph).progress[node[0]]
    assert progress[-1] == (6, 6)
    assert len(set(progress)) == 6


def test_preview_features(host: Host) -> None:
    graph = Graph()
    features = graph.add("TestLatent", file=GOLDEN, key="s10_b2.latents")
    image = graph.add("BLIP3U_PreviewFeatures", features=features)
    save = graph.add("TestSave", value=image, name="preview")
    file = host.file(host.run(graph).outputs[save[0]]["files"][0])
    pictures = load_file(file)["value"]
    assert pictures.shape == (2, 256, 256, 3)
    assert pictures.min() >= 0
    assert pictures.max() <= 1


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
        found += samples(host, graph, feature_sampler(graph, model, conditioning))
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
        found += samples(host, graph, feature_sampler(graph, model, conditioning, steps=30))
    assert (found[0] - found[1]).norm() / found[0].norm() < limit


def test_shards_give_the_same(host: Host) -> None:
    found = []
    for checkpoint in (RANDOM_TINY, RANDOM_TINY_SHARDED):
        graph = Graph()
        model, conditioning = load(graph, checkpoint=checkpoint), tokens(graph)
        found += samples(host, graph, feature_sampler(graph, model, conditioning))
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
    assert samples(host, good, feature_sampler(good, model, conditioning, steps=1))


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
