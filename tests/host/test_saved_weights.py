"""What the host saves of our MODELs comes back through Load Saved BLIP3-U Weights."""

import pytest
import torch
from safetensors.torch import save_file

from harness.comfy import GraphError, Host
from harness.decoding import Parts, made_tensors
from harness.features import feature_sampler, load, tokens
from harness.graph import Graph, tensors


def saved(host: Host, graph: Graph, model: list, name: str) -> str:
    """The file that Save Model writes of a MODEL, by the name under which loaders list it."""
    graph.add("ModelSave", model=model, filename_prefix=f"diffusion_models/{name}")
    host.run(graph)
    files = sorted((host.base / "output" / "diffusion_models").glob(f"{name}_*.safetensors"))
    return files[-1].name


def back(graph: Graph, model: list, file: str) -> list:
    return graph.add("BLIP3U_LoadSavedWeights", model=model, file=file)


def test_a_merged_dit_comes_back(host: Host) -> None:
    graph = Graph()
    merged = graph.add("ModelMergeSubtract", model1=load(graph), model2=load(graph), multiplier=0.5)
    file = saved(host, graph, merged, "merged_dit")
    graph = Graph()
    model = load(graph)
    halved = graph.add("ModelMergeSubtract", model1=model, model2=load(graph), multiplier=0.5)
    models = (model, halved, back(graph, model, file))
    drawn = [feature_sampler(graph, one, tokens(graph), steps=2) for one in models]
    plain, merge, again = tensors(host, graph, *drawn)
    assert not torch.allclose(plain, merge, atol=1e-3)
    torch.testing.assert_close(again, merge, atol=2e-3, rtol=0)


def test_a_decoder_comes_back_and_a_dit_is_no_decoder(host: Host) -> None:
    made = host.base / "made.safetensors"
    save_file(made_tensors(), made)
    graph = Graph()
    file = saved(host, graph, Parts(graph, str(made)).decoder, "decoder")
    graph = Graph()
    parts = Parts(graph, str(made))
    noise = graph.add("RandomNoise", noise_seed=1)
    models = (None, back(graph, parts.decoder, file))
    plain, again = tensors(host, graph, *(parts.chain(noise, 1, model) for model in models))
    torch.testing.assert_close(again, plain, atol=1e-5, rtol=0)
    graph = Graph()
    drawn = feature_sampler(graph, back(graph, load(graph), file), tokens(graph), steps=1)
    with pytest.raises(GraphError, match="do not fit the network"):
        tensors(host, graph, drawn)
