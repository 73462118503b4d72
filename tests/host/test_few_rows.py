"""The host's quantised layers by our product of few rows: which of them, and what is left to it."""

import json
import os
import subprocess
import sys

import pytest

from harness.comfy import REPOSITORY, host_folder

RUN = """
import asyncio, json, sys, tempfile
host, repository = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path[:0] = [host]
sys.path.append(repository)
from importlib import import_module
from pathlib import Path
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config, execution, latent_preview, nodes, server
import comfy.model_management, torch

assert asyncio.run(nodes.load_custom_node(repository))
pack = repository.replace(".", "_x_")
llm, placement, core = (
    import_module(f"{pack}.{name}")
    for name in ("nodes.host.llm", "nodes.host.placement", "blip3u_core.weights.checkpoint")
)
calls = []

def kernel(x, matrix, bias):
    calls.append(matrix.kind)
    y = x.float() @ matrix.rows(torch.arange(matrix.shape[0])).T
    return (y if bias is None else y + bias.float()).to(x.dtype)

def called(layer, x):
    calls.clear()
    with torch.no_grad():
        y = layer(x)
    return y, list(calls)

found = {"formats": sorted(placement.quantized_formats())}
source = Path(repository) / "tests/golden/oracle/checkpoint"  # its output layer is not its table
for kind in ("int8", "nvfp4"):
    target = Path(tempfile.mkdtemp()) / kind
    import_module(f"{pack}.blip3u_core.convert").convert(source, target, kind)
    layers = {}
    for name, given in (("without", None), ("with", kernel)):
        llm.kernel_for = lambda device: given
        hosted = llm.load_llm(core.open_checkpoint(target), None)
        comfy.model_management.load_models_gpu([hosted.open()])
        layers[name] = hosted.network().model.layers[0].mlp.down_proj, hosted.network().lm_head
    layer, head = layers["with"]
    one, many = (torch.randn(n, 1, layer.in_features).to(hosted.network().dtype) for n in (1, 17))
    (y, seen), (exact, _) = called(layer, one), called(layers["without"][0], one)
    found[kind] = {
        "one": seen,
        "many": called(layer, many)[1],
        "head": called(head, one[..., : head.in_features])[1],
        "apart": float((y.float() - exact.float()).norm() / exact.float().norm()),
    }
    layer.weight_function = [lambda weight: 2 * weight]
    doubled, found[kind]["patched"] = called(layer, one)
    rest = doubled.float() - 2 * exact.float()
    if layer.bias is None:
        found[kind]["doubled apart"] = float(rest.norm() / exact.float().norm() / 2)
print("RESULT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict:
    """What layers did in a process that came up as the host does, with a kernel that is torch's."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    host = str(host_folder())
    ended = subprocess.run(
        [sys.executable, "-c", RUN, host, str(REPOSITORY)],
        cwd=host,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, ended.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT"))


@pytest.mark.parametrize(("kind", "layout"), [("int8", "int8_tensorwise"), ("nvfp4", "nvfp4")])
def test_few_rows_go_to_the_kernel_and_the_rest_to_the_host(
    found: dict, kind: str, layout: str
) -> None:
    ours, formats = found[kind], found["formats"]
    # A host without a layout has plain matrices; what 4 bits keep in 8 is the output layer.
    assert ours["one"] == [layout] * (layout in formats)
    assert ours["head"] == ["int8_tensorwise"] * ("int8_tensorwise" in formats)
    assert ours["many"] == ours["patched"] == []
    assert ours["apart"] < 0.03  # the host rounds what int8 is multiplied by, too
    assert ours.get("doubled apart", 0) < 0.03
