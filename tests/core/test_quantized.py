"""Quantised checkpoints: written beside their scales, read by name and shape, made whole again."""

import json
from hashlib import sha256
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from blip3u_core.convert import convert
from blip3u_core.weights.assign import kept_weights
from blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint
from blip3u_core.weights.nvfp4 import quantize_nvfp4
from blip3u_core.weights.quantized import (
    FORMATS,
    QuantizedRows,
    Quantizer,
    dequantize,
    layer_of,
)

ROOT = Path(__file__).parents[2]
TINY = ROOT / "models" / "blip3u-tiny"
UNTIED = ROOT / "tests" / "golden" / "oracle" / "checkpoint"  # its output layer is not its table
STAGES = ("llm", "dit", "unet", "vae")
# Of matrices as they are trained, whose rows' largest numbers are some times the usual ones.
LARGEST_ERROR = {"fp8_scaled": 0.035, "int8": 0.02, "nvfp4": 0.12}
ALL_FORMATS = {name for pair in FORMATS.values() for name in pair}
TABLE = "model.embed_tokens"
KITCHEN = "c997ffa7657b17bc2fb5ff7395db519b8b8c0fda7bef8b0bee3ccf4b90b1506e"


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
        exact, read = before.state_dict(), kept_weights(after, None, quantized=())
        for weight, value in exact.items():
            if weight.rpartition(".")[0] in after.quantized and weight.endswith(".weight"):
                error = (read[weight].float() - value.float()).norm() / value.float().norm()
                assert 0 < error < LARGEST_ERROR[kind], weight
            else:
                assert torch.equal(read[weight], value), weight


def test_a_host_with_the_layouts_gets_them_as_they_lie(quantised: tuple[str, Checkpoint]) -> None:
    kind, checkpoint = quantised
    stage = checkpoint.dit
    raw, kept = stage.state_dict(), kept_weights(stage, None, ALL_FORMATS)
    assert kept.keys() == raw.keys()
    layer = "layers.0.attn1.to_q"
    assert kept[f"{layer}.weight"].dtype.itemsize == 1
    assert kept[f"{layer}.weight_scale"].dtype.is_floating_point
    assert json.loads(bytes(kept[f"{layer}.comfy_quant"].tolist()))["format"].startswith(
        FORMATS[kind].matrix
    )


def test_another_dtype_makes_the_matrices_whole(quantised: tuple[str, Checkpoint]) -> None:
    kept = kept_weights(quantised[1].dit, torch.float32, quantized=())
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


@pytest.mark.parametrize("kind", list(FORMATS))
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_zeros_and_extremes_survive(kind: str, scale: float) -> None:
    weight = torch.zeros(16, 32)
    weight[0, 0], weight[1, 2] = -scale, scale / 3
    name = "layers.0.attn1.to_q"
    parts = Quantizer("dit", kind).make(f"{name}.weight", weight)
    back = dequantize(FORMATS[kind].matrix, name, parts)
    torch.testing.assert_close(back / scale, weight / scale, atol=0.02, rtol=0.06)


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
        kept_weights(open_checkpoint(tmp_path).dit, None, quantized=())


def test_4_bits_are_the_bytes_of_comfy_kitchen() -> None:
    weight = ((torch.arange(130 * 80) * 37 % 101 - 50) / 7).view(130, 80)
    weight[3] = 0
    weight[:, :16] *= 1e-3
    weight[5, 16:32] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6] * 2)  # ties
    numbers, scales, _ = quantize_nvfp4(weight)
    written = numbers.numpy().tobytes() + scales.view(torch.uint8).numpy().tobytes()
    # Of comfy_kitchen.quantize_nvfp4 0.2.31, pad_16x=False, with the same scale.
    assert sha256(written).hexdigest() == KITCHEN


@pytest.mark.parametrize("kind", list(FORMATS))
def test_rows_of_a_quantised_table_are_looked_up(kind: str) -> None:
    class Table(QuantizedRows, nn.Embedding):
        pass

    weight = torch.randn(301, 48)
    parts = Quantizer("llm", kind).make(f"{TABLE}.weight", weight)
    with torch.device("meta"):
        table = Table(301, 48)
    names = {name.removeprefix(f"{TABLE}."): part for name, part in parts.items()}
    table.load_state_dict(names, strict=True, assign=True)
    ids = torch.tensor([[0, 300, 129], [127, 128, 0]])
    assert table.quant_format == FORMATS[kind].matrix
    assert torch.equal(table.rows(ids), dequantize(table.quant_format, TABLE, parts)[ids])
    assert (table.rows(ids) - weight[ids]).norm() / weight[ids].norm() < LARGEST_ERROR[kind]


def test_a_plain_table_loads_as_ever() -> None:
    class Table(QuantizedRows, nn.Embedding):
        pass

    table, weight = Table(3, 4), torch.randn(3, 4)
    table.load_state_dict({"weight": weight})
    assert table.quant_format is None
    assert torch.equal(table(torch.tensor([2])), weight[2:])


def roles(shapes: dict[str, tuple[int, ...]], kind: str, tied: bool) -> dict[str, str]:
    """The format by layer of what `kind` would quantise, from the marks that it writes."""
    change, found = Quantizer("llm", kind, tied), {}
    for name, shape in shapes.items():
        mark = change.make(name, torch.ones(shape)).get(f"{layer_of(name)}.comfy_quant")
        if mark is not None:
            found[name] = json.loads(bytes(mark.tolist()))["format"]
    return found


def test_what_is_beside_the_layers_is_small_too() -> None:
    layer, vision = "model.layers.0.mlp.up_proj.weight", "visual.blocks.0."
    shapes = {
        layer: (32, 16),
        "model.layers.0.mlp.down_proj.weight": (16, 20),  # no whole blocks of 16
        f"{vision}attn.qkv.weight": (48, 16),
        f"{vision}attn.proj.weight": (16, 16),
        "visual.merger.mlp.2.weight": (16, 64),
        "visual.patch_embed.proj.weight": (16, 32),
        f"{TABLE}.weight": (33, 16),
        "lm_head.weight": (33, 16),
        "model.norm.weight": (16,),
    }
    small, byte = "nvfp4", "int8_tensorwise"
    expected = dict.fromkeys(shapes, byte) | {
        layer: small,
        f"{vision}attn.qkv.weight": small,
        f"{TABLE}.weight": small,  # looked up by row: any number of rows will do
    }
    del expected["visual.patch_embed.proj.weight"], expected["model.norm.weight"]
    assert roles(shapes, "nvfp4", tied=False) == expected
    assert set(roles(shapes, "int8", tied=False).values()) == {byte}
    del expected["lm_head.weight"], expected[f"{TABLE}.weight"]
    assert roles(shapes, "nvfp4", tied=True) == expected


def test_layers_of_a_format_that_a_host_lacks_become_whole(tmp_path: Path) -> None:
    convert(UNTIED, tmp_path, "nvfp4")
    stage = open_checkpoint(tmp_path).llm
    kept = kept_weights(stage, None, {"nvfp4"})
    assert kept["lm_head.weight"].dtype == torch.bfloat16
    assert kept[f"{TABLE}.weight"].dtype == torch.uint8
    assert "lm_head.comfy_quant" not in kept
    assert f"{TABLE}.comfy_quant" in kept


@pytest.mark.parametrize("kind", list(FORMATS))
def test_memory_is_what_the_file_takes(tmp_path: Path, kind: str) -> None:
    convert(UNTIED, tmp_path, kind)
    stage, change = open_checkpoint(tmp_path).llm, Quantizer("llm", kind)
    before = open_checkpoint(UNTIED).llm.state_dict()
    counted = sum(
        prod(shape) * dtype.itemsize
        for name, weight in before.items()
        for dtype, shape in change.entries(name, weight.to("meta")).values()
    )
    kept = kept_weights(stage, None, ALL_FORMATS)
    assert sum(weight.nbytes for weight in kept.values()) == counted == stage.num_bytes
