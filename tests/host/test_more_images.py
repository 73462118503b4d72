"""More than four pictures on one node: inputs that grow, where the host has them."""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from harness.comfy import RANDOM_TINY, Host
from harness.graph import Graph, output

FIXED = ("image", "image_2", "image_3", "image_4")
GROWN = ("more_images.image_5", "more_images.image_6")
HEIGHTS = [40, 44, 48, 52, 56, 60]


def asking_about(folder: Path) -> Graph:
    """One question about pictures of different sizes."""
    file = folder / "images.safetensors"
    save_file({str(height): torch.full((1, height, 40, 3), 0.5) for height in HEIGHTS}, file)
    graph = Graph()
    llm = graph.add("BLIP3U_LoadModel", checkpoint=RANDOM_TINY, weight_dtype="fp32")
    pictures = [graph.add("TestImage", file=str(file), key=str(height)) for height in HEIGHTS]
    asked = graph.add(
        "BLIP3U_VQA",
        llm=llm,
        question="What is in these pictures?",
        batch_mode="all images in one question",
        max_new_tokens=2,
        temperature=0.0,
        top_p=1.0,
        seed=0,
        **dict(zip((*FIXED, *GROWN), pictures, strict=True)),
    )
    graph.add("BLIP3U_ShowChat", chat=output(asked, 1))
    return graph


def test_they_follow_the_first_four_or_the_node_says_what_it_lacks(
    host: Host, tmp_path: Path
) -> None:
    graph = asking_about(tmp_path)
    node = host.get("/object_info/BLIP3U_VQA")["BLIP3U_VQA"]
    if "more_images" not in node["input"]["optional"]:
        failure = host.failure(graph)
        assert "VQA: more_images.image_" in failure
        assert "newer ComfyUI" in failure
        return
    shown = host.run(graph).outputs[str(len(graph))]
    marks = "".join(f"[picture {number}] " for number in range(1, 7))
    assert shown["text"][0].startswith(f"**user:** {marks}What is")
    assert [Image.open(host.file(image)).height for image in shown["images"]] == HEIGHTS
