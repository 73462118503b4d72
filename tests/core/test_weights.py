"""Weights into networks: by whose way, in which dtype, and back to their files."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from blip3u_core.convert import convert
from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.nextdit import NextDiT
from blip3u_core.weights.assign import assign_weights, put_weights, shapes_of
from blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint
from blip3u_core.weights.mapped import MappedWeights
from blip3u_core.weights.precision import fits_8_bits

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "tests" / "golden" / "oracle" / "checkpoint"
TINY = ROOT / "models" / "blip3u-tiny"


class LazyLinear(nn.Module):
    """A layer as newest hosts build it: without parameters until weights are loaded."""

    def __init__(self, num_in: int, num_out: int, bias: bool = True, **_: object) -> None:
        super().__init__()
        self.weight = self.bias = None

    def _load_from_state_dict(self, weights: dict, prefix: str, *_: object) -> None:
        for name in ("bias", "weight"):
            if (weight := weights.get(prefix + name)) is not None:
                delattr(self, name)
                self.register_parameter(name, nn.Parameter(weight, requires_grad=False))


class LazyOperations:
    Linear = LazyLinear
    LayerNorm = nn.LayerNorm
    RMSNorm = nn.RMSNorm


@pytest.fixture
def checkpoint() -> Checkpoint:
    return open_checkpoint(CHECKPOINT)


def dit(checkpoint: Checkpoint, operations: object = nn) -> NextDiT:
    stage = checkpoint.dit
    config = NextDiTConfig.from_shapes(stage.shapes(), checkpoint.config)
    return NextDiT(config, torch.float32, "meta", operations)


def test_layers_without_parameters_get_theirs(checkpoint: Checkpoint) -> None:
    plain, lazy = dit(checkpoint), dit(checkpoint, LazyOperations)
    assert len(dict(lazy.named_parameters())) < len(dict(plain.named_parameters()))
    assign_weights(lazy, checkpoint.dit, expected=shapes_of(plain))
    assign_weights(plain, checkpoint.dit)
    ours = dict(lazy.named_parameters())
    assert ours.keys() == dict(plain.named_parameters()).keys()
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, ours[name])


def test_a_layer_that_takes_no_weights_is_told() -> None:
    class Deaf(LazyLinear):
        def _load_from_state_dict(self, *_: object) -> None:
            pass

    with pytest.raises(ValueError, match=r"1 weights of here did not reach their layers \(0.weig"):
        put_weights(nn.Sequential(Deaf(2, 2)), {"0.weight": torch.ones(2, 2)}, "here")


def test_weights_come_and_go(checkpoint: Checkpoint) -> None:
    network = dit(checkpoint)
    assign_weights(network, checkpoint.dit)
    mapped = MappedWeights(network)
    in_file = places(network)
    stored = {weight.dtype for weight in network.parameters()}
    mapped.cast(torch.float64)
    assert {weight.dtype for weight in network.parameters()} == {torch.float64}
    assert mapped.num_bytes(torch.float64) == sum(w.nbytes for w in network.parameters())
    network.to("meta")
    kept = network.norm_out.linear_1.weight
    mapped.put_back(but={"norm_out.linear_1.weight"})
    assert network.norm_out.linear_1.weight is kept
    mapped.put_back()
    assert places(network) == in_file
    assert {weight.dtype for weight in network.parameters()} == stored


def test_8_bits_are_not_cast_again(checkpoint: Checkpoint) -> None:
    network = dit(checkpoint)
    assign_weights(network, checkpoint.dit, torch.float8_e4m3fn)
    before = dtypes(network)
    assert torch.float8_e4m3fn in before.values()
    MappedWeights(network).cast(torch.float64)
    for name, dtype in dtypes(network).items():
        assert dtype == (torch.float64 if before[name].itemsize > 1 else before[name])


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    target = tmp_path_factory.mktemp("fp8")
    convert(TINY, target, "fp8_e4m3fn")
    return open_checkpoint(target)


class Holder(nn.Module):
    """Parameters by the names of a stage, whatever network they belong to."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            *owners, last = name.split(".")
            layer: nn.Module = self
            for owner in owners:
                if not hasattr(layer, owner):
                    layer.add_module(owner, nn.Module())
                layer = layer.get_submodule(owner)
            layer.register_parameter(last, nn.Parameter(torch.empty(shape, device="meta")))


@pytest.mark.parametrize("name", ["llm", "dit", "unet", "vae"])
def test_fp8_is_one_thing(name: str, converted: Checkpoint) -> None:
    """What the loader casts and what the converter wrote are the same, weight by weight."""
    stage, from_file = getattr(open_checkpoint(TINY), name), getattr(converted, name)
    cast, stored = Holder(stage.shapes()), Holder(stage.shapes())
    assign_weights(cast, stage, torch.float8_e4m3fn)
    assign_weights(stored, from_file)
    read = dict(stored.named_parameters())
    for weight_name, weight in cast.named_parameters():
        assert weight.dtype == read[weight_name].dtype, weight_name
        assert torch.equal(weight.float(), read[weight_name].float()), weight_name
    fp8 = {n for n, weight in read.items() if weight.dtype == torch.float8_e4m3fn}
    assert bool(fp8) == (name != "vae")
    assert all(stage.shapes()[n][1:] and len(stage.shapes()[n]) == 2 for n in fp8)


@pytest.mark.parametrize(
    "kept",
    [
        "llm model.embed_tokens.weight",
        "llm lm_head.weight",
        "llm visual.blocks.0.attn.qkv.weight",
        "dit patch_embedder.proj.weight",
        "dit caption_projection.linear_1.weight",
        "dit layers.0.norm1.linear.weight",
        "dit norm_out.linear_2.weight",
        "unet time_embedding.linear_1.weight",
        "unet down_blocks.0.resnets.0.time_emb_proj.weight",
        "vae decoder.mid_block.attentions.0.to_q.weight",
        "vision_tower patch_embed.proj.weight",
    ],
)
def test_sensitive_matrices_stay_as_stored(kept: str) -> None:
    assert not fits_8_bits(*kept.split(), num_axes=2)


def places(network: nn.Module) -> list[int]:
    return [weight.data_ptr() for weight in network.parameters()]


def dtypes(network: nn.Module) -> dict[str, torch.dtype]:
    def dtype(weight: Tensor) -> torch.dtype:
        return weight.dtype

    return {name: dtype(weight) for name, weight in network.named_parameters()}
