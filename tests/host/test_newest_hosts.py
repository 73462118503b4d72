"""What the newest hosts do and this one does not: lazy layers, caches that look around."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from harness.comfy import ORACLE, RANDOM_TINY, RANDOM_TOWER, Host
from harness.graph import Graph, Link, output, tensors

UNET = "diffusion-decoder/unet/diffusion_pytorch_model.bf16.safetensors"
SHORT = {"max_new_tokens": 4, "temperature": 0.0, "top_p": 1.0, "seed": 0}


def checkpoint(host: Host, name: str) -> Path:
    folder = host.base / "models" / "blip3u" / name
    shutil.copytree(ORACLE / "checkpoint", folder)
    return folder


def load(graph: Graph, name: str) -> Link:
    return graph.add("BLIP3U_LoadModel", checkpoint=name, weight_dtype="auto")


def answer(host: Host, graph: Graph, llm: Link) -> str:
    vqa = graph.add("BLIP3U_VQA", llm=llm, question="?", batch_mode="one answer per image", **SHORT)
    shown = graph.add("PreviewAny", source=vqa)
    return host.run(graph).outputs[shown[0]]["text"][0]


def draw(graph: Graph, loaded: Link) -> tuple[Link, Link]:
    """Visual tokens, and what the decoder draws of fresh features."""
    tokens = graph.add("BLIP3U_VisualTokens", llm=loaded, prompt="a cat", template="caption")
    features = graph.add(
        "BLIP3U_ClipFeatureSampler",
        model=output(loaded, 1),
        positive=tokens,
        negative=output(tokens, 1),
        seed=3,
        steps=2,
        cfg=3.0,
        sampler_name="euler",
        batch_size=1,
        denoise=1.0,
    )
    picture = graph.add(
        "BLIP3U_Decode",
        decoder=output(loaded, 2),
        vae=output(loaded, 3),
        features=features,
        seed=3,
        steps=2,
        cfg=3.0,
        width=0,
        height=0,
        denoise=1.0,
    )
    return features, picture


@pytest.fixture(scope="module")
def broken(host: Host) -> str:
    """A checkpoint whose UNet lost the end of its weights."""
    folder = checkpoint(host, "broken-unet")
    weights = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(weights[: len(weights) // 2])
    return folder.name


def test_layers_without_weights_take_theirs(host: Host) -> None:
    """The same pictures and answers as with layers that have parameters from the start."""

    def results() -> tuple[list[torch.Tensor], str]:
        host.free()
        graph = Graph()
        loaded = load(graph, RANDOM_TINY)
        tower = graph.add("BLIP3U_LoadVisionTower", vision_tower=RANDOM_TOWER, weight_dtype="auto")
        features, picture = draw(graph, loaded)
        seen = graph.add("BLIP3U_EncodeImage", clip_vision=tower, image=picture)
        said = Graph()
        return (
            tensors(host, graph, features, picture, seen),
            answer(host, said, load(said, RANDOM_TINY)),
        )

    plain, said = results()
    host.hook(lazy_layers=True)
    lazy, said_lazily = results()
    assert all(torch.equal(a, b) for a, b in zip(plain, lazy, strict=True))
    assert said == said_lazily


@pytest.mark.parametrize("lacks", ["nothing", "decoder", "tokenizer"])
def test_the_host_may_look_at_every_socket(host: Host, lacks: str) -> None:
    """Whatever is missing, and before anything was used, looking raises and builds nothing."""
    folder = checkpoint(host, f"lacks-{lacks}")
    if lacks == "decoder":
        shutil.rmtree(folder / "diffusion-decoder")
    elif lacks == "tokenizer":
        for name in ("tokenizer.json", "vocab.json"):
            (folder / name).unlink(missing_ok=True)
    host.free()
    graph = Graph()
    loaded = load(graph, folder.name)
    peeks = [graph.add("TestPeek", value=output(loaded, index)) for index in range(4)]
    shown = host.run(graph).outputs
    assert "[]" in shown[peeks[0][0]]["calls"]  # the language model has built nothing
    if lacks == "decoder":
        assert "is_dynamic" not in shown[peeks[2][0]]["seen"]
    assert not host.loaded_models()


def test_a_broken_decoder_stops_only_who_draws(host: Host, broken: str) -> None:
    graph = Graph()
    answer(host, graph, load(graph, broken))
    graph = Graph()
    _, picture = draw(graph, load(graph, broken))
    graph.add("PreviewImage", images=picture)
    said = host.failure(graph)
    assert "ValueError" in said
    assert "diffusion_pytorch_model" in said
    assert "the decoder of broken-unet cannot be used" in host.log_text()


def test_a_stock_node_says_which_part_is_missing(host: Host) -> None:
    folder = checkpoint(host, "no-vae")
    shutil.rmtree(folder / "diffusion-decoder" / "vae")
    graph = Graph()
    loaded = load(graph, folder.name)
    empty = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    picture = graph.add("VAEDecode", samples=empty, vae=output(loaded, 3))
    graph.add("PreviewImage", images=picture)
    assert "has no diffusion-decoder/vae" in host.failure(graph)


def test_a_config_that_is_no_json_stops_the_loader(host: Host) -> None:
    folder = checkpoint(host, "no-json")
    (folder / "config.json").write_text(json.dumps({})[:1])
    graph = Graph()
    graph.add("PreviewAny", source=load(graph, folder.name))
    assert "config.json is not JSON" in host.failure(graph)
