"""What a mask keeps: the rest of the picture, at its own size, to the last bit."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.comfy import Host
from harness.decoding import Parts, made_tensors
from harness.graph import Graph, Link, output

WIDE = (38, 51)  # no multiple of the VAE's 2 x 2 pixels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features, a picture of odd size, and masks of its right side in several shapes."""
    height, width = WIDE
    values = made_tensors()
    values["odd"] = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(1))
    values["right"] = torch.zeros(1, height, width)
    values["right"][..., 30:] = 1
    values["square"] = torch.zeros(1, 34, 34)  # the same two thirds and one third, squashed
    values["square"][..., 20:] = 1
    values["loaded"] = torch.zeros(1, 64, 64)  # as Load Image makes it of an opaque picture
    values["black"] = torch.zeros(1, height, width)
    values["wide"] = torch.rand(1, 32, 64, 3, generator=torch.Generator().manual_seed(2))
    values["left"] = torch.zeros(1, 32, 32)
    values["left"][..., :12] = 1
    file = tmp_path_factory.mktemp("masks") / "made.safetensors"
    save_file(values, file)
    return str(file)


def pictures(host: Host, graph: Graph, *links: Link) -> list[Tensor]:
    saved = [graph.add("TestSave", value=link, name=f"m{i}") for i, link in enumerate(links)]
    outputs = host.run(graph).outputs
    files = [host.file(outputs[link[0]]["files"][0]) for link in saved]
    return [next(iter(load_file(file).values())) for file in files]


def test_eight_edits_change_nothing_outside_of_the_mask(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    source = parts.graph.add("TestImage", file=made, key="odd")
    mask = parts.graph.add("TestMask", file=made, key="right")
    edited = once = parts.decode(source_image=source, mask=mask, denoise=1.0, steps=2)
    for seed in range(1, 8):
        edited = parts.decode(source_image=edited, mask=mask, denoise=1.0, steps=2, seed=seed)
    first, last = pictures(host, parts.graph, once, edited)
    before = load_file(made)["odd"]
    assert last.shape == before.shape
    assert torch.equal(last[:, :, :30], before[:, :, :30])
    assert (last[:, :, 34:] - before[:, :, 34:]).abs().mean() > 0.05
    edge = (first - before).abs().mean((0, 1, 3))
    assert edge[30] < edge[34:].mean() / 2  # the seam is soft


def test_a_picture_of_odd_size_keeps_it(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    source = parts.graph.add("TestImage", file=made, key="odd")
    (drawn,) = pictures(host, parts.graph, parts.decode(source_image=source, denoise=0.3))
    assert drawn.shape == (1, *WIDE, 3)


def test_a_mask_of_another_shape_lies_over_the_whole_picture(host: Host, made: str) -> None:
    """It is stretched to the picture before both are cropped alike (a square of a wide one)."""
    parts = Parts(Graph(), made)
    source = parts.graph.add("TestImage", file=made, key="wide")
    mask = parts.graph.add("TestMask", file=made, key="left")  # 12 of 32 columns: 24 of 64
    options = {"source_image": source, "mask": mask, "denoise": 1.0}
    own, square = pictures(
        host,
        parts.graph,
        parts.decode(**options),
        parts.decode(**options, width=32, height=32),  # columns 16 to 48 of the source
    )
    before = load_file(made)["wide"]
    assert torch.equal(own[:, :, 26:], before[:, :, 26:])
    assert not torch.equal(own[:, :, 18:22], before[:, :, 18:22])
    kept = (square - before[:, :, 16:48]).abs().amax((0, 1, 3))
    assert kept[10:].max() == 0
    assert kept[:5].min() > 0


def test_a_mask_that_no_one_painted_is_told(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    source = parts.graph.add("TestImage", file=made, key="odd")
    mask = parts.graph.add("TestMask", file=made, key="loaded")
    parts.graph.add("TestSave", value=parts.decode(source_image=source, mask=mask), name="bad")
    assert "nothing would be redrawn" in host.failure(parts.graph)


def test_a_black_mask_gives_the_source(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    source = parts.graph.add("TestImage", file=made, key="odd")
    mask = parts.graph.add("TestMask", file=made, key="black")
    (same,) = pictures(host, parts.graph, parts.decode(source_image=source, mask=mask))
    assert torch.equal(same, load_file(made)["odd"])


def test_large_pictures_go_through_the_vae_in_tiles(host: Host, made: str) -> None:
    """A step of the bar for each tile, where Cancel is looked at."""
    parts = Parts(Graph(), made)
    latent = parts.graph.add("EmptyLatentImage", width=5200, height=4160, batch_size=1)
    decoded = parts.graph.add("VAEDecode", samples=latent, vae=parts.vae)
    small = parts.graph.add("ImageScale", image=decoded, width=8, height=8,
                            upscale_method="area", crop="disabled")  # fmt: skip
    parts.graph.add("TestSave", value=small, name="tiles")
    steps = host.run(parts.graph).progress[decoded[0]]
    assert len({done for done, _ in steps}) >= 12
    assert output(decoded, 0) == decoded
