"""Load BLIP3-U LoRA in the host: every trainer's names do the same, and nothing is silent."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.comfy import GraphError, Host
from harness.decoding import Parts, made_tensors
from harness.features import feature_sampler, load, tokens
from harness.graph import Graph, tensors

DIT = "layers.0.attn2.to_q"
DIT_NAMES = {
    "stock": f"diffusion_model.{DIT}",
    "peft": f"base_model.model.{DIT}",
    "published": f"model.dit.model.{DIT}",
    "kohya": "lora_unet_layers_0_attn2_to_q",
    "onetrainer": "lora_transformer_layers_0_attn2_to_q",
    "lycoris": "lycoris_layers_0_attn2_to_q",
}


@pytest.fixture(scope="module")
def loras(host: Host) -> Path:
    folder = host.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    for name, module in DIT_NAMES.items():
        write(folder / f"{name}.safetensors", module, 48)
    write(folder / "other.safetensors", "text_model.layers.0.q_proj", 48)
    write(folder / "wide.safetensors", DIT, 64)
    return folder


def write(file: Path, module: str, width: int, rows: int | None = None) -> None:
    random = torch.Generator().manual_seed(0)
    up = torch.randn(rows or width, 2, generator=random)
    down = torch.randn(2, width, generator=random)
    save_file({f"{module}.lora_B.weight": up, f"{module}.lora_A.weight": down}, file)


def patched(graph: Graph, model: list, name: str, strength: float = 1.0) -> list:
    file = f"{name}.safetensors"
    return graph.add("BLIP3U_LoadLora", model=model, lora_name=file, strength=strength)


def test_every_trainers_names_do_the_same(host: Host, loras: Path) -> None:
    graph = Graph()
    model, conditioning = load(graph), tokens(graph)
    models = [model, patched(graph, model, "stock", 0.0)]
    models += [patched(graph, model, name) for name in DIT_NAMES]
    drawn = [feature_sampler(graph, one, conditioning, steps=1) for one in models]
    plain, none, stock, *others = tensors(host, graph, *drawn)
    assert torch.equal(plain, none)
    assert not torch.allclose(plain, stock, atol=1e-3)
    for other in others:
        assert torch.equal(other, stock)


def test_the_decoder_takes_the_names_of_diffusers(host: Host, loras: Path) -> None:
    made = host.base / "made.safetensors"
    save_file(made_tensors(), made)
    graph = Graph()
    parts = Parts(graph, str(made))
    names = ["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"]
    names += [f"unet.{names[0]}", f"base_model.model.{names[0]}"]
    for index, name in enumerate(names):
        write(loras / f"unet{index}.safetensors", name, 48, rows=32)
    models = [None, *(patched(graph, parts.decoder, f"unet{i}") for i in range(len(names)))]
    noise = graph.add("RandomNoise", noise_seed=1)
    drawn = [parts.chain(noise, 1, model) for model in models]
    plain, first, *others = tensors(host, graph, *drawn)
    assert not torch.allclose(plain, first, atol=1e-4)
    for other in others:
        assert torch.equal(other, first)


@pytest.mark.parametrize(
    ("name", "message"),
    [("other", "nothing of the 1 modules"), ("wide", "64 x 64, the model's is 48 x 48")],
)
def test_a_lora_of_something_else_is_an_error(
    host: Host, loras: Path, name: str, message: str
) -> None:
    graph = Graph()
    model = patched(graph, load(graph), name)
    with pytest.raises(GraphError, match=message):
        tensors(host, graph, feature_sampler(graph, model, tokens(graph), steps=1))
