"""Quantised checkpoints: written beside their scales, read by name and shape, made whole again."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from blip3u_core.convert import convert
from blip3u_core.weights.assign import kept_weights
from blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint
from blip3u_core.weights.quantized import Quantizer, dequantize

TINY = Path(__file__).parents[2] / "models" / "blip3u-tiny"
STAGES = ("llm", "dit", "unet", "vae")
# Of matrices as they are trained, whose rows' largest numbers are some times the usual ones.
LARGEST_ERROR = {"fp8_scaled": 0.035, "int8": 0.02}


@pytest.fixture(scope="module", params=list(LARGEST_ERROR))
def quantised(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[str, Checkpoint]:
    target = tmp_path_factory.mktemp(request.param)
    convert(TINY, target, request.param)
    return request.param, open_checkpoint(target)


def test_matrices_come_back_and_all_else_is_as_it_was(quantised: tuple[str, Checkpoint]) -> None:
    kind, checkpoint = quantised
    for name in STAGES:
        before, after = getattr(open_checkpoint(TINY), name), getattr(checkpoint, name)
        assert after.shapes() == before.shapes()
        assert bool(after.quantized) == (name != "vae")
        exact, read = before.state_dict(), kept_weights(after, None, quantized=False)
        for weight, value in exact.items():
            if weight.rpartition(".")[0] in after.quantized and weight.endswith(".weight"):
                error = (read[weight].float() - value.float()).norm() / value.float().norm()
                assert 0 < error < LARGEST_ERROR[kind], weight
            else:
                assert torch.equal(read[weight], value), weight


def test_a_host_with_the_layouts_gets_them_as_they_lie(quantised: tuple[str, Checkpoint]) -> None:
    kind, checkpoint = quantised
    stage = checkpoint.dit
    raw, kept = stage.state_dict(), kept_weights(stage, None, quantized=True)
    assert kept.keys() == raw.keys()
    layer = "layers.0.attn1.to_q"
    assert kept[f"{layer}.weight"].dtype.itemsize == 1
    assert kept[f"{layer}.weight_scale"].dtype == torch.float32
    assert json.loads(bytes(kept[f"{layer}.comfy_quant"].tolist()))["format"].startswith(
        {"fp8_scaled": "float8_e4m3fn", "int8": "int8_tensorwise"}[kind]
    )


def test_another_dtype_makes_the_matrices_whole(quantised: tuple[str, Checkpoint]) -> None:
    kept = kept_weights(quantised[1].dit, torch.float32, quantized=False)
    assert {weight.dtype for weight in kept.values()} == {torch.float32}


def test_quantised_numbers_are_copied_but_not_rounded_again(
    quantised: tuple[str, Checkpoint], tmp_path: Path
) -> None:
    kind, checkpoint = quantised
    with pytest.raises(ValueError, match="quantised already"):
        convert(checkpoint.path, tmp_path / "again", kind)
    convert(checkpoint.path, tmp_path / "copy")
    for name in STAGES:
        copy = load_file(tmp_path / "copy" / f"{name}.safetensors")
        for weight, value in load_file(checkpoint.path / f"{name}.safetensors").items():
            assert torch.equal(copy[weight].float(), value.float()), weight


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "int8_tensorwise"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_zeros_and_extremes_survive(kind: str, scale: float) -> None:
    weight = torch.zeros(4, 6)
    weight[0, 0], weight[1, 2] = -scale, scale / 3
    name = "layers.0.attn1.to_q"
    parts = Quantizer("dit", kind).make(f"{name}.weight", weight)
    back = dequantize(kind, name, parts)
    torch.testing.assert_close(back / scale, weight / scale, atol=0.02, rtol=0.04)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"format": "mxfp4"}, "quantised as 'mxfp4', expected one of float8_e4m3fn"),
        ({}, "is not JSON with a format"),
        ([], "is not JSON with a format"),
    ],
)
def test_an_unknown_format_is_told(
    quantised: tuple[str, Checkpoint], tmp_path: Path, content: object, said: str
) -> None:
    _, checkpoint = quantised
    file = checkpoint.path / "dit.safetensors"
    weights = load_file(file)
    mark = torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)
    weights["layers.0.attn1.to_q.comfy_quant"] = mark
    save_file(weights, tmp_path / "dit.safetensors", {"config": "{}"})
    with pytest.raises(ValueError, match=said):
        open_checkpoint(tmp_path).dit.shapes()


def test_a_missing_scale_is_told(quantised: tuple[str, Checkpoint], tmp_path: Path) -> None:
    _, checkpoint = quantised
    weights = load_file(checkpoint.path / "dit.safetensors")
    del weights["layers.0.attn1.to_q.weight_scale"]
    save_file(weights, tmp_path / "dit.safetensors", {"config": "{}"})
    with pytest.raises(ValueError, match=r"layers.0.attn1.to_q is quantised .* is missing"):
        kept_weights(open_checkpoint(tmp_path).dit, None, quantized=False)


def test_four_bits_need_their_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comfy_kitchen", None)
    with pytest.raises(ValueError, match="nvfp4 needs the package comfy-kitchen"):
        convert(TINY, tmp_path / "nvfp4", "nvfp4")
    assert not list(tmp_path.rglob("*.safetensors"))
