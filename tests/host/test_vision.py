"""EVA-CLIP in a real host: picture -> features -> picture, by our nodes and by stock ones.

Limits: features 1e-5 (measured 5e-6), pictures 1e-5 (measured 2e-6).
"""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from blip3u_core.convert import convert
from harness.comfy import ORACLE, RANDOM_TOWER, Host
from harness.decoding import Parts
from harness.graph import Graph, Link, output, tensors

GOLDEN = str(ORACLE / "goldens" / "reconstruct.safetensors")
EVA = str(ORACLE / "goldens" / "eva.safetensors")
LIMIT = {"atol": 1e-5, "rtol": 0}


def tower(graph: Graph, name: str = RANDOM_TOWER, dtype: str = "auto") -> Link:
    return graph.add("BLIP3U_LoadVisionTower", vision_tower=name, weight_dtype=dtype)


def encode(graph: Graph, image: Link, **options: str) -> Link:
    return graph.add("BLIP3U_EncodeImage", clip_vision=tower(graph, **options), image=image)


def golden_image(graph: Graph) -> Link:
    return graph.add("TestImage", file=GOLDEN, key="uint8")


def test_features_and_negative_equal_the_reference(host: Host) -> None:
    graph = Graph()
    node = encode(graph, golden_image(graph))
    both = torch.cat(tensors(host, graph, node, output(node, 1)))
    tokens = both.flatten(2).transpose(1, 2)
    assert_close(tokens, load_file(GOLDEN)["prompt_embeds"], **LIMIT)


def test_picture_to_picture_equals_the_reference(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    graph = parts.graph
    parts.features = encode(graph, golden_image(graph))
    parts.negative = output(parts.features, 1)
    noise = graph.add("TestNoise", file=GOLDEN, key="latent_noise")
    picture, variation = tensors(
        host,
        graph,
        parts.pictures(parts.chain(noise, 10)),
        parts.decode(features=parts.features, negative_features=parts.negative),
    )
    assert_close(picture, load_file(GOLDEN)["image"], **LIMIT)
    assert variation.shape == (1, 32, 32, 3)


def test_a_picture_of_a_batch_is_the_picture_alone(host: Host, tmp_path) -> None:
    file = str(tmp_path / "pictures.safetensors")
    pictures = torch.rand(11, 30, 50, 3, generator=torch.Generator().manual_seed(1))
    save_file({"all": pictures, "last": pictures[10:].clone()}, file)
    graph = Graph()
    images = [graph.add("TestImage", file=file, key=key) for key in ("all", "last")]
    together, alone = tensors(host, graph, *(encode(graph, image) for image in images))
    assert together.shape == (11, 48, 2, 2)
    assert_close(together[10:], alone, **LIMIT)


def test_two_pictures_are_mixed_by_a_stock_node(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    graph = parts.graph
    clip_vision = tower(graph)
    first, second = (
        graph.add("BLIP3U_EncodeImage", clip_vision=clip_vision, image=image)
        for image in (golden_image(graph), parts.source())
    )
    mixed = graph.add("LatentBlend", samples1=first, samples2=second, blend_factor=0.5)
    a, b, both = tensors(host, graph, first, second, mixed)
    assert_close(both, 0.5 * a + 0.5 * b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 40, 30, 4), (1, 40, 30, 1), (1, 2000, 16, 3)])
def test_pictures_of_any_kind(host: Host, tmp_path, shape: tuple[int, ...]) -> None:
    file = str(tmp_path / "picture.safetensors")
    save_file({"picture": torch.rand(shape)}, file)
    graph = Graph()
    node = encode(graph, graph.add("TestImage", file=file, key="picture"))
    assert tensors(host, graph, node)[0].isfinite().all()


def test_a_broken_picture_is_told(host: Host, tmp_path) -> None:
    file = str(tmp_path / "picture.safetensors")
    save_file({"picture": torch.full((1, 8, 8, 3), float("nan"))}, file)
    graph = Graph()
    node = encode(graph, graph.add("TestImage", file=file, key="picture"))
    graph.add("TestSave", value=node, name="bad")
    assert "NaN" in host.failure(graph)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_the_stock_encoder_takes_the_tower(host: Host, crop: str) -> None:
    graph = Graph()
    image = graph.add("TestImage", file=EVA, key="img0.uint8")
    node = graph.add("CLIPVisionEncode", clip_vision=tower(graph), image=image, crop=crop)
    graph.add("TestSave", value=node, name="clip-vision")
    saved = host.file(host.run(graph).outputs["4"]["files"][0])
    patches = load_file(saved)["last_hidden_state"]
    golden = load_file(EVA)["img0.features"]
    assert patches.shape == golden.shape
    if crop == "center":
        assert_close(patches, golden, **LIMIT)


@pytest.mark.parametrize(("dtype", "limit"), [("fp32", 1e-6), ("bf16", 1e-5), ("fp8_e4m3fn", 0.2)])
def test_weight_dtypes(host: Host, dtype: str, limit: float) -> None:
    graph = Graph()
    image = golden_image(graph)
    plain, other = tensors(host, graph, encode(graph, image), encode(graph, image, dtype=dtype))
    assert (plain - other).norm() / plain.norm() < limit


def test_low_vram_gives_the_same(host: Host) -> None:
    found = []
    for limit in ({}, {"low_vram_bytes": 50_000}):
        host.free()
        host.hook(**limit)
        graph = Graph()
        found += tensors(host, graph, encode(graph, golden_image(graph)))
        if limit:
            (loaded,) = (m for m in host.loaded_models() if m["class"] == "EvaClip")
            assert loaded["loaded_bytes"] < loaded["total_bytes"]
    assert_close(found[0], found[1], **LIMIT)


def test_a_converted_tower_is_listed_and_gives_the_same(host: Host) -> None:
    source = ORACLE / "eva_clip_vision_tower"
    convert(source, host.base / "models" / "clip_vision" / "converted.safetensors")
    graph = Graph()
    image = golden_image(graph)
    names = (RANDOM_TOWER, "converted.safetensors")
    assert torch.equal(*tensors(host, graph, *(encode(graph, image, name=n) for n in names)))


def test_wrong_towers_are_told(host: Host) -> None:
    graph = Graph()
    parts = graph.add("BLIP3U_LoadVisionTower", vision_tower="none", weight_dtype="auto")
    graph.add(
        "TestSave",
        value=graph.add("BLIP3U_EncodeImage", clip_vision=parts, image=golden_image(graph)),
        name="bad",
    )
    assert "none" in host.failure(graph)
