"""Graphs in API form, written as calls; and the tensors that come out of them."""

from typing import Any

import torch
from safetensors.torch import load_file

from .comfy import Host

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
