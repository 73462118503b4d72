"""Graphs in API form, written as calls; and the tensors that come out of them."""

from typing import Any

import torch
from safetensors.torch import load_file

from .comfy import Host

BUILT_IN = "blip3u-tiny (built-in)"
Link = list  # [node id, output]


class Graph(dict):
    """Numbers its own nodes; `add` gives the link to the node's first output."""

    def add(self, class_type: str, **inputs: Any) -> Link:
        name = str(len(self) + 1)
        self[name] = {"class_type": class_type, "inputs": inputs}
        return [name, 0]


def output(link: Link, index: int) -> Link:
    """Another output of the same node."""
    return [link[0], index]


def tensors(host: Host, graph: Graph, *values: Link) -> list[torch.Tensor]:
    """Run the graph and read these LATENTs (their samples), IMAGEs or other tensors."""
    saves = [graph.add("TestSave", value=v, name=f"value-{v[0]}-{v[1]}") for v in values]
    shown = host.run(graph).outputs
    read = [load_file(host.file(shown[save[0]]["files"][0])) for save in saves]
    return [named["samples"] if "samples" in named else named["value"] for named in read]


def converse_graph(message: str = "", conversation: str = "", **more: Any) -> dict[str, Any]:
    """Load, converse, save; small numbers of steps that still draw what was asked."""
    models = {"llm": ["1", 0], "model": ["1", 1], "decoder": ["1", 2], "vae": ["1", 3]}
    settings = {
        "max_images": 1,
        "seed": 7,
        "steps": 20,
        "decoder_steps": 12,
        "cfg": 3.0,
        "max_new_tokens": 60,
        "picture_request": "auto",
        "remember_last": 0,
    }
    checkpoint = more.pop("checkpoint", BUILT_IN)
    inputs = {**models, "message": message, "conversation": conversation, **settings, **more}
    loader = {"checkpoint": checkpoint, "weight_dtype": "fp32"}
    save = {"images": ["2", 1], "filename_prefix": "talk"}
    return {
        "1": {"class_type": "BLIP3U_LoadModel", "inputs": loader},
        "2": {"class_type": "BLIP3U_Converse", "inputs": inputs},
        "3": {"class_type": "SaveImage", "inputs": save},
    }
