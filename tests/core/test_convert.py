"""The converter: what goes in comes out, in one file a stage, whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from blip3u_core.convert import convert, main
from blip3u_core.weights.checkpoint import open_checkpoint, open_vision_tower
from blip3u_core.weights.writer import write_safetensors

ORACLE = Path(__file__).parents[1] / "golden" / "oracle"
CHECKPOINT = ORACLE / "checkpoint"
TOWER = ORACLE / "eva_clip_vision_tower"
DRAWING_STAGES = ("llm", "dit", "unet", "vae")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    target = tmp_path_factory.mktemp("converted")
    convert(CHECKPOINT, target)
    return target


@pytest.mark.parametrize("name", DRAWING_STAGES)
def test_every_stage_comes_back_bit_by_bit(converted, name):
    before, after = (getattr(open_checkpoint(path), name) for path in (CHECKPOINT, converted))
    assert dict(after.config) == dict(before.config)
    weights = after.state_dict()
    assert weights.keys() == before.state_dict().keys()
    for key, weight in before.state_dict().items():
        assert weights[key].dtype == weight.dtype
        assert torch.equal(weights[key], weight)


def test_json_files_and_assets_come_back(converted):
    before, after = open_checkpoint(CHECKPOINT), open_checkpoint(converted)
    assert after.scheduler_config == before.scheduler_config
    assert after.generation_config == before.generation_config
    assert dict(after.assets) == dict(before.assets)
    assert after.feature_grid == before.feature_grid


def test_files_are_plain_safetensors(converted):
    with safe_open(converted / "vae.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"])["latent_channels"] == 4
        assert len(file.keys()) == len(open_checkpoint(CHECKPOINT).vae.tensors)


def test_shards_become_one_file(tmp_path):
    written = convert(ORACLE / "checkpoint_sharded", tmp_path)
    assert [path.name for path in written] == ["llm.safetensors", "dit.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"no unet\.safetensors"):
        _ = open_checkpoint(tmp_path).unet


def test_fp8_halves_the_matrices_of_attention_and_feed_forward_alone(tmp_path):
    convert(CHECKPOINT, tmp_path, "fp8_e4m3fn")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.num_queries == 64
    for stage in (checkpoint.llm, checkpoint.dit, checkpoint.unet, checkpoint.vae):
        for name, dtype in stage.dtypes().items():
            layers = name.startswith(("model.layers.", "layers.")) or ".transformer_blocks." in name
            in_layers = layers and ".norm1.linear." not in name
            halved = in_layers and len(stage.shapes()[name]) == 2
            assert dtype == (torch.float8_e4m3fn if halved else torch.bfloat16), name
    before = open_checkpoint(CHECKPOINT).dit.state_dict()
    name = "layers.0.attn1.to_q.weight"
    after = checkpoint.dit.state_dict()[name].float()
    assert_close(after, before[name].float(), rtol=0.07, atol=2e-3)


def test_the_published_pickle_of_the_tower_becomes_one_file(tmp_path):
    source = tmp_path / "published"
    source.mkdir()
    shutil.copy(TOWER / "eva-clip-tiny-A.json", source)
    weights = open_vision_tower(TOWER).state_dict()
    torch.save(weights, source / "pytorch_model.bin")
    [path] = convert(source, tmp_path / "tower.safetensors")
    stage = open_vision_tower(path)
    assert stage.config["vision_cfg"]["head_width"] == 12
    assert all(torch.equal(stage.state_dict()[name], weight) for name, weight in weights.items())


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_run"), "w"))

    source = tmp_path / "published"
    source.mkdir()
    shutil.copy(TOWER / "eva-clip-tiny-A.json", source)
    torch.save({"pos_embed": Evil()}, source / "pytorch_model.bin")
    with pytest.raises(ValueError, match="could run code"):
        convert(source, tmp_path / "tower.safetensors")
    assert not (tmp_path / "was_run").exists()
    assert not (tmp_path / "tower.safetensors").exists()


def test_a_cut_off_conversion_leaves_nothing(tmp_path):
    def stop(_size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(CHECKPOINT, tmp_path, on_bytes=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OSError, match="Make room"):
        convert(CHECKPOINT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_every_width_and_shape_are_written(tmp_path):
    tensors = {
        "odd": torch.arange(3, dtype=torch.int8),
        "eight": torch.ones(5).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "turned": torch.arange(6.0).view(2, 3).T,
        "empty": torch.zeros(0, 4),
    }
    write_safetensors(tmp_path / "all.safetensors", tensors, {"a": "b"})
    with safe_open(tmp_path / "all.safetensors", "pt") as file:
        assert file.metadata() == {"a": "b"}
        for name, tensor in tensors.items():
            read = file.get_tensor(name)
            assert read.shape == tensor.shape
            assert torch.equal(read.double(), tensor.double())


def test_a_checkpoint_is_no_single_file_and_no_source_of_itself(tmp_path):
    with pytest.raises(ValueError, match="expected a folder"):
        convert(CHECKPOINT, tmp_path / "all.safetensors")
    with pytest.raises(ValueError, match="source itself"):
        convert(CHECKPOINT, CHECKPOINT)
    with pytest.raises(ValueError, match="expected one of keep, fp8"):
        convert(CHECKPOINT, tmp_path, "fp16")


def test_the_command_line_says_what_it_wrote(tmp_path, capsys):
    main([str(TOWER), str(tmp_path / "t.safetensors")])
    assert "t.safetensors" in capsys.readouterr().out
