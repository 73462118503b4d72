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


def test_skip_layer_guidance_is_refused_on_the_decoder(host: Host) -> None:
    made = host.base / "made.safetensors"
    save_file(made_tensors(), made)
    graph = Graph()
    parts = Parts(graph, str(made))
    settings = REFUSED_ON_DIT["SkipLayerGuidanceSD3"]
    model = graph.add("SkipLayerGuidanceSD3", model=parts.decoder, **settings)
    drawn = parts.chain(graph.add("RandomNoise", noise_seed=1), 2, model)
    with pytest.raises(GraphError, match="inner blocks that the decoder does not have"):
        tensors(host, graph, drawn)
