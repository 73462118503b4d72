"""Editing features and masking what changed, through a real host, with the golden random DiT."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.difference_mask import difference_mask
from blip3u_core.features.edit import edit_clip_features
from blip3u_core.features.nextdit import NextDiT
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE, RANDOM_TINY, Graph, GraphError, Host, Result
from harness.features import load, write_lora
from harness.graph import Graph as BuiltGraph
from harness.graph import Link, output, tensors

SETTINGS = {"seed": 5, "steps": 8, "cfg_source": 1.5, "cfg_target": 4.0, "strength": 0.75}


@pytest.fixture(scope="module")
def dit() -> NextDiT:
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    network = NextDiT(NextDiTConfig.from_shapes(checkpoint.dit.shapes(), checkpoint.config))
    network.load_state_dict({k: v.float() for k, v in checkpoint.dit.state_dict().items()})
    return network


@pytest.fixture(scope="module")
def inputs(dit: NextDiT, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of features, descriptions of two lengths, zeros, and a mask of tokens."""
    config, generator = dit.config, torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    grid = (config.in_channels, config.input_size, config.input_size)
    mask = torch.zeros(1, *grid[1:])
    mask[:, 0] = 1
    file = tmp_path_factory.mktemp("edit") / "inputs.safetensors"
    save_file(
        {
            "features": normal(2, *grid),
            "source": normal(2, 6, config.condition_dim),
            "target": normal(2, 6, config.condition_dim),
            "longer": normal(2, 9, config.condition_dim),
            "null": torch.zeros(1, 6, config.condition_dim),
            "mask": mask,
            "narrow": normal(1, grid[0] // 2, *grid[1:]),
        },
        file,
    )
    return str(file)


def edit_graph(file: str, target: str = "target", **settings: float) -> Graph:
    def read(kind: str, key: str) -> dict:
        pooled = {"pooled_key": ""} if kind == "TestConditioning" else {}
        return {"class_type": kind, "inputs": {"file": file, "key": key, **pooled}}

    loader = {"checkpoint": RANDOM_TINY, "weight_dtype": "fp32"}
    return {
        "load": {"class_type": "BLIP3U_LoadModel", "inputs": loader},
        "features": read("TestLatent", "features"),
        "source": read("TestConditioning", "source"),
        "target": read("TestConditioning", target),
        "null": read("TestConditioning", "null"),
        "edit": {
            "class_type": "BLIP3U_EditFeatures",
            "inputs": {
                "model": ["load", 1],
                "features": ["features", 0],
                "source": ["source", 0],
                "target": ["target", 0],
                "negative": ["null", 0],
                **SETTINGS,
                **settings,
            },
        },
        "save": {
            "class_type": "TestSave",
            "inputs": {"value": ["edit", 0], "name": f"edited_{time.monotonic_ns()}"},
        },
    }


def edited_by(host: Host, graph: Graph) -> Tensor:
    return saved(host, host.run(graph))["samples"]


def saved(host: Host, result: Result) -> dict[str, Tensor]:
    return load_file(host.file(result.outputs["save"]["files"][0]))


def patched(graph: Graph, class_type: str, **inputs: object) -> Graph:
    """The graph with a stock patch between loader and edit."""
    patch = {"class_type": class_type, "inputs": {"model": ["load", 1], **inputs}}
    edit = {**graph["edit"], "inputs": {**graph["edit"]["inputs"], "model": ["patch", 0]}}
    return {**graph, "patch": patch, "edit": edit}


@pytest.fixture(scope="module")
def expected(dit: NextDiT, inputs: str) -> Callable[..., Tensor]:
    def edit(target: str = "target", items: slice = slice(None), seed: int = 5) -> Tensor:
        tensors = load_file(inputs)
        chosen = [tensors[key][items] for key in ("features", "source", target)]
        return edit_clip_features(dit, *chosen, seed, 8, 1.5, 4.0, 0.75)

    return edit


@pytest.mark.parametrize("target", ["target", "longer"])
def test_the_node_equals_the_core(host: Host, inputs: str, expected, target: str) -> None:
    edited = edited_by(host, edit_graph(inputs, target))
    assert_close(edited, expected(target), atol=1e-5, rtol=1e-5)


def test_progress_counts_the_steps_that_edit(host: Host, inputs: str) -> None:
    result = host.run(edit_graph(inputs, seed=77))
    assert result.progress["edit"][-1] == (6, 6)


def test_the_same_description_changes_nothing(host: Host, inputs: str) -> None:
    edited = edited_by(host, edit_graph(inputs, "source"))
    assert_close(edited, load_file(inputs)["features"])


def test_strength_0_changes_nothing(host: Host, inputs: str) -> None:
    edited = edited_by(host, edit_graph(inputs, strength=0.0))
    assert_close(edited, load_file(inputs)["features"])


def test_low_memory_gives_the_same(host: Host, inputs: str, expected) -> None:
    host.free()
    host.hook(low_vram_bytes=20_000)
    edited = edited_by(host, edit_graph(inputs, seed=6))
    (loaded,) = host.loaded_models()
    assert loaded["loaded_bytes"] < loaded["total_bytes"]
    assert_close(edited, expected(seed=6), atol=1e-5, rtol=1e-5)
    host.hook()
    host.free()


def test_guidance_patches_see_each_side_with_its_own_scale(
    host: Host, inputs: str, expected
) -> None:
    """RescaleCFG with multiplier 0 is guidance written in another way."""
    edited = edited_by(host, patched(edit_graph(inputs), "RescaleCFG", multiplier=0.0))
    assert_close(edited, expected(), atol=2e-4, rtol=1e-4)


def test_patches_before_guidance_see_each_side_alone(host: Host, inputs: str, expected) -> None:
    """FreSca with scales of 1 changes nothing, but must be called as in any sampling."""
    graph = patched(edit_graph(inputs), "FreSca", scale_low=1.0, scale_high=1.0, freq_cutoff=2)
    assert_close(edited_by(host, graph), expected(), atol=1e-4, rtol=1e-4)


def test_lora_changes_the_edit_by_its_strength(host: Host, inputs: str, expected) -> None:
    write_lora(host)

    def edited(strength: float) -> Tensor:
        lora = {"lora_name": "dit.safetensors", "strength_model": strength}
        return edited_by(host, patched(edit_graph(inputs), "LoraLoaderModelOnly", **lora))

    assert_close(edited(0.0), expected(), atol=1e-5, rtol=0)
    assert not torch.allclose(edited(1.0), expected(), atol=1e-3)


def test_a_noise_mask_limits_the_edit(host: Host, inputs: str) -> None:
    graph = edit_graph(inputs)
    graph["mask"] = {"class_type": "TestMask", "inputs": {"file": inputs, "key": "mask"}}
    graph["masked"] = {
        "class_type": "SetLatentNoiseMask",
        "inputs": {"samples": ["features", 0], "mask": ["mask", 0]},
    }
    graph["edit"]["inputs"]["features"] = ["masked", 0]
    edited, before = edited_by(host, graph), load_file(inputs)["features"]
    assert_close(edited[:, :, 1:], before[:, :, 1:], atol=1e-5, rtol=0)
    assert (edited[:, :, 0] - before[:, :, 0]).abs().mean() > 0.05


def test_cancel_stops_the_edit_and_the_next_one_works(host: Host, inputs: str, expected) -> None:
    host.hook(slow="HostedNextDiT", seconds=0.2)

    def cancel(event: dict) -> None:
        if event["type"] == "progress" and event["data"]["node"] == "edit":
            host.interrupt()

    with pytest.raises(GraphError) as caught:
        host.run(edit_graph(inputs, seed=99, steps=100), on_event=cancel)
    assert caught.value.interrupted
    host.hook()
    edited = edited_by(host, edit_graph(inputs, target="longer"))
    assert_close(edited, expected("longer"), atol=1e-5, rtol=1e-5)


def test_features_of_another_model_are_refused(host: Host, inputs: str) -> None:
    graph = edit_graph(inputs)
    graph["features"]["inputs"]["key"] = "narrow"
    graph["edit"]["inputs"]["seed"] = 1234
    text = host.failure(graph)
    assert "expected CLIP features" in text


def test_batches_that_do_not_fit_are_refused(host: Host, inputs: str, tmp_path: Path) -> None:
    tensors = load_file(inputs)
    tensors["features"] = tensors["features"].repeat(2, 1, 1, 1)[:3]
    file = tmp_path / "three.safetensors"
    save_file(tensors, file)
    assert "expected one batch size" in host.failure(edit_graph(str(file)))


def test_the_mask_node_equals_the_core(host: Host, inputs: str) -> None:
    graph = edit_graph(inputs)
    graph["mask"] = {
        "class_type": "BLIP3U_FeatureDifferenceMask",
        "inputs": {
            "features_a": ["features", 0],
            "features_b": ["edit", 0],
            "width": 48,
            "height": 32,
            "threshold": 0.3,
            "blur": 0.25,
        },
    }
    plain = host.run(graph)
    graph["save"]["inputs"] = {"value": ["mask", 0], "name": "difference_mask"}
    mask = saved(host, host.run(graph))["value"]
    edited, before = saved(host, plain)["samples"], load_file(inputs)["features"]
    assert_close(mask, difference_mask(before, edited, 48, 32, 0.3, 0.25))
    assert mask.shape == (2, 32, 48)


def test_a_list_of_descriptions_meets_a_batch_in_step(host: Host, inputs: str) -> None:
    """As Edit Plan gives them, one description a picture: two pictures, not four."""
    graph = BuiltGraph()
    model, llm = load(graph), output(load(graph), 0)
    batch = graph.add("TestLatent", file=inputs, key="features")

    def edited(features: Link, lines: list[str], seed: int) -> Link:
        source, target = (
            graph.add(
                "BLIP3U_VisualTokens",
                llm=llm,
                prompt=graph.add("BLIP3U_PromptLines", text="\n".join(words)),
                template="caption",
            )
            for words in (lines, [f"{line} at night" for line in lines])
        )
        links = {"source": source, "target": target, "negative": output(source, 1)}
        values = {**SETTINGS, "seed": seed}
        return graph.add("BLIP3U_EditFeatures", model=model, features=features, **links, **values)

    lines = ["a cat", "two dogs"]
    ones = [graph.add("LatentFromBatch", samples=batch, batch_index=i, length=1) for i in (0, 1)]
    both = edited(batch, lines, 5)
    alone = [
        edited(one, [line], 5 + i) for i, (one, line) in enumerate(zip(ones, lines, strict=True))
    ]
    together, *singles = tensors(host, graph, both, *alone)
    assert_close(together, torch.cat(singles), atol=2e-5, rtol=0)
