"""The DiT as a stock MODEL, in a real host: every way to sample it gives the same features.

Limits: against the reference those of the golden set (1e-4; measured 3e-5); between two ways
through the same host 2e-5 where only the order of a batch's sums differs.
"""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from harness.comfy import Host
from harness.features import (
    GOLDEN,
    SAME,
    custom_sampler,
    feature_sampler,
    k_sampler,
    load,
    tokens,
)
from harness.graph import Graph, tensors

REFERENCE = {"atol": 1e-4, "rtol": 0}


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
    assert_close(tensors(host, graph, found)[0], load_file(GOLDEN)[f"{case}.latents"], **REFERENCE)


@pytest.mark.parametrize("steps", [10, 11, 30])
def test_sampler_equals_stock_samplers(host: Host, steps: int) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    latent = graph.add("BLIP3U_EmptyFeatures", model=model, batch_size=1)
    noise = graph.add("RandomNoise", noise_seed=7)
    ours, stock, custom = tensors(
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
    batch, *singles = tensors(
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
    batch, first, second = tensors(
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
    short_out, twice_out = tensors(
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
    ours, stock, little = tensors(
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
    """Area, mask, averaging, a shift, a mask on the latent: all of them run."""
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
    shifted = graph.add("ModelSamplingSD3", model=model, shift=1.0)
    empty = graph.add("BLIP3U_EmptyFeatures", model=model, batch_size=1)
    start = graph.add("TestLatent", file=GOLDEN, key="s10.latents")
    inpaint = graph.add("SetLatentNoiseMask", samples=start, mask=stock_mask)
    plain, same, regions, again, kept = tensors(
        host,
        graph,
        feature_sampler(graph, model, conditioning),
        feature_sampler(graph, model, {"positive": averaged, "negative": negative}),
        k_sampler(graph, model, {"positive": combined, "negative": negative}, empty),
        feature_sampler(graph, shifted, conditioning),
        feature_sampler(graph, model, conditioning, init_features=inpaint),
    )
    assert_close(same, plain, **SAME)
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
    (found,) = tensors(host, graph, feature_sampler(graph, model, conditioning, **options))
    assert found.isfinite().all()


def test_a_solver_of_second_order_goes_the_same_way(host: Host) -> None:
    """heun leaves the schedule's timesteps halfway; its features are euler's, more exactly."""
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    euler, heun, exact = tensors(
        host,
        graph,
        feature_sampler(graph, model, conditioning, steps=20),
        feature_sampler(graph, model, conditioning, steps=20, sampler_name="heun"),
        feature_sampler(graph, model, conditioning, steps=250),
    )
    assert (heun - exact).norm() < (euler - exact).norm()


def test_progress_counts_steps_over_the_batch(host: Host) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    options = {"steps": 3, "batch_size": 2, "sampler_name": "euler_ancestral", "seed": 123}
    node = feature_sampler(graph, model, conditioning, **options)
    graph.add("TestSave", value=node, name="progress")
    progress = host.run(graph).progress[node[0]]
    assert progress[-1] == (6, 6)
    assert progress == sorted(progress), "the bar went back"  # newer hosts drop counts on the way
    assert {total for _, total in progress} == {6}


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
