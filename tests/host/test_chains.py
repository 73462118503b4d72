"""Stock nodes on the DiT and the decoder: they do what they promise, or are refused in words."""

from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from harness.comfy import GraphError, Host
from harness.decoding import Parts, made_tensors
from harness.features import SAME, feature_sampler, load, tokens
from harness.graph import Graph, tensors

# Each at the setting at which it changes nothing.
SHIFTS: dict[str, dict[str, Any]] = {
    "ModelSamplingSD3": {"shift": 1.0},
    "ModelSamplingAuraFlow": {"shift": 1.0},
    "ModelSamplingFlux": {"max_shift": 0.0, "base_shift": 0.0, "width": 1024, "height": 1024},
}


def test_every_shift_works_on_our_timesteps(host: Host) -> None:
    """AuraFlow and Flux count timesteps from 0 to 1; the network always hears 1000 sigma."""
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    neutral = [graph.add(name, model=model, **values) for name, values in SHIFTS.items()]
    bent = [
        graph.add(f"ModelSampling{name}", model=model, shift=2.0) for name in ("SD3", "AuraFlow")
    ]
    drawn = [feature_sampler(graph, one, conditioning, steps=3) for one in (model, *neutral, *bent)]
    plain, sd3, aura, flux, sd3_bent, aura_bent = tensors(host, graph, *drawn)
    for same in (sd3, aura, flux):
        assert_close(same, plain, **SAME)
    assert_close(aura_bent, sd3_bent, **SAME)
    assert not torch.allclose(sd3_bent, plain, atol=1e-3)


def test_renorm_cfg_asks_the_network_for_its_channels(host: Host) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    renormed = graph.add("RenormCFG", model=model, cfg_trunc=100.0, renorm_cfg=1.0)
    drawn = [feature_sampler(graph, one, conditioning, steps=3) for one in (model, renormed)]
    plain, smaller = tensors(host, graph, *drawn)
    assert smaller.norm() < plain.norm()


FEW: dict[str, Any] = {
    "seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal",
    "denoise": 1.0,
}  # fmt: skip
REFUSED_ON_DIT: dict[str, dict[str, Any]] = {
    "SkipLayerGuidanceSD3": {
        "layers": "0", "scale": 3.0, "start_percent": 0.0, "end_percent": 1.0
    },
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "TomePatchModel": {"ratio": 0.3},
    "HyperTile": {"tile_size": 256, "swap_size": 2, "max_depth": 0, "scale_depth": False},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_ON_DIT)
def test_patches_of_a_unets_blocks_are_refused_on_the_dit(host: Host, name: str) -> None:
    graph = Graph()
    model = graph.add(name, model=load(graph), **REFUSED_ON_DIT[name])
    drawn = feature_sampler(graph, model, tokens(graph), steps=2)
    with pytest.raises(GraphError, match="inner blocks that the feature DiT does not have"):
        tensors(host, graph, drawn)


def test_guidance_that_no_network_of_ours_reads_is_refused(host: Host) -> None:
    graph = Graph()
    conditioning = dict(tokens(graph))
    conditioning["positive"] = graph.add(
        "FluxGuidance", conditioning=conditioning["positive"], guidance=3.5
    )
    drawn = feature_sampler(graph, load(graph), conditioning, steps=2)
    with pytest.raises(GraphError, match=r"does not read.*FluxGuidance"):
        tensors(host, graph, drawn)


@pytest.mark.parametrize("option", ["control", "unclip_conditioning", "clip_vision_output"])
def test_options_that_the_dit_does_not_read_are_refused(host: Host, option: str) -> None:
    graph = Graph()
    conditioning = dict(tokens(graph))
    positive = conditioning["positive"]
    conditioning["positive"] = graph.add("TestOption", conditioning=positive, option=option)
    drawn = feature_sampler(graph, load(graph), conditioning, steps=2)
    with pytest.raises(GraphError, match=f"carries {option}, which the feature DiT does not read"):
        tensors(host, graph, drawn)


def concat(graph: Graph, conditioning: Any) -> Any:
    return graph.add(
        "ConditioningConcat", conditioning_to=conditioning, conditioning_from=conditioning
    )


def test_two_sets_of_tokens_behind_each_other_are_refused(host: Host) -> None:
    """Neither network draws anything from them; ConditioningCombine draws what both say."""
    graph = Graph()
    conditioning = dict(tokens(graph))
    conditioning["positive"] = concat(graph, conditioning["positive"])
    drawn = feature_sampler(graph, load(graph), conditioning, steps=2)
    with pytest.raises(
        GraphError,
        match=r"holds 128 tokens, expected at most 64 for the feature DiT.*ConditioningCombine",
    ):
        tensors(host, graph, drawn)
    graph, parts = decoder_parts(host)
    pair = parts.conditioning()
    pair["positive"] = concat(graph, pair["positive"])
    drawn = graph.add("KSampler", model=parts.decoder, latent_image=parts.empty(), **pair, **FEW)
    with pytest.raises(
        GraphError,
        match=r"holds 128 tokens, expected at most 64 for the decoder.*ConditioningCombine",
    ):
        tensors(host, graph, drawn)


def test_another_kind_of_noise_is_refused(host: Host) -> None:
    graph = Graph()
    bent = graph.add("ModelSamplingDiscrete", model=load(graph), sampling="eps", zsnr=False)
    drawn = feature_sampler(graph, bent, tokens(graph), steps=2)
    with pytest.raises(GraphError, match=r"EPS, expected that of flow.*ModelSamplingSD3"):
        tensors(host, graph, drawn)
    graph, parts = decoder_parts(host)
    bent = graph.add("ModelSamplingSD3", model=parts.decoder, shift=3.0)
    with pytest.raises(GraphError, match=r"CONST, expected that of diffusion.*Discrete"):
        tensors(host, graph, parts.k_sampler(bent))


def test_scaled_positions_are_refused(host: Host) -> None:
    if "ScaleROPE" not in host.get("/object_info"):
        pytest.skip("this host has no ScaleROPE")
    graph = Graph()
    scales = {f"{kind}_{axis}": 2.0 for kind in ("scale", "shift") for axis in "xyt"}
    model = graph.add("ScaleROPE", model=load(graph), **scales)
    drawn = feature_sampler(graph, model, tokens(graph), steps=2)
    with pytest.raises(GraphError, match="carries rope_options"):
        tensors(host, graph, drawn)


def decoder_parts(host: Host) -> tuple[Graph, Parts]:
    made = host.base / "made.safetensors"
    if not made.exists():
        save_file(made_tensors(), made)
    graph = Graph()
    return graph, Parts(graph, str(made))


def test_skip_layer_guidance_is_refused_on_the_decoder(host: Host) -> None:
    graph, parts = decoder_parts(host)
    settings = REFUSED_ON_DIT["SkipLayerGuidanceSD3"]
    model = graph.add("SkipLayerGuidanceSD3", model=parts.decoder, **settings)
    drawn = parts.chain(graph.add("RandomNoise", noise_seed=1), 2, model)
    with pytest.raises(GraphError, match="inner blocks that the decoder does not have"):
        tensors(host, graph, drawn)
