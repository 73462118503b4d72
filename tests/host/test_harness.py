"""The harness itself: tensors go in and come out unchanged, and failures are told as texts."""

import torch
from safetensors.torch import load_file

from harness.comfy import ORACLE, Host

DIT = str(ORACLE / "goldens" / "dit.safetensors")


def test_a_latent_comes_back_unchanged(host: Host) -> None:
    result = host.run(
        {
            "1": {"class_type": "TestLatent", "inputs": {"file": DIT, "key": "x"}},
            "2": {"class_type": "TestSave", "inputs": {"value": ["1", 0], "name": "x"}},
        }
    )
    saved = load_file(host.file(result.outputs["2"]["files"][0]))
    torch.testing.assert_close(saved["samples"], load_file(DIT)["x"])


def test_a_node_error_is_told(host: Host) -> None:
    text = host.failure(
        {
            "1": {"class_type": "TestLatent", "inputs": {"file": DIT, "key": "no such key"}},
            "2": {"class_type": "TestSave", "inputs": {"value": ["1", 0], "name": "x"}},
        }
    )
    assert "no such key" in text


def test_a_refused_graph_is_told(host: Host) -> None:
    text = host.failure({"1": {"class_type": "TestSave", "inputs": {"name": "x"}}})
    assert "value" in text
