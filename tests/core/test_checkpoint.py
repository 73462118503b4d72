"""Reading checkpoints: both layouts, variants, and every way in which a folder can be broken."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.language import config as language
from blip3u_core.weights.checkpoint import Checkpoint, open_checkpoint, open_vision_tower
from blip3u_core.weights.reader import match_keys, read_header
from blip3u_core.weights.stage import Stage

ORACLE = Path(__file__).parents[1] / "golden" / "oracle"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(ORACLE / "checkpoint", tmp_path / "one")


@pytest.fixture
def sharded(tmp_path):
    return shutil.copytree(ORACLE / "checkpoint_sharded", tmp_path / "shards")


def check_layers(stage: Stage) -> None:
    language.check_layers(stage.config, stage.shapes())


def edit_json(path: Path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_one_file_and_shards_hold_the_same(folder, sharded):
    one, shards = open_checkpoint(folder), open_checkpoint(sharded)
    for name in ("llm", "dit"):
        expected, found = getattr(one, name).state_dict(), getattr(shards, name).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert len(shards.llm.files) == 2
    assert one.num_queries == 64
    assert one.feature_grid == 8


def test_stages_share_out_every_tensor(folder):
    checkpoint = open_checkpoint(folder)
    keys = read_header(folder / "model.safetensors")[0]
    assert len(checkpoint.llm.tensors) + len(checkpoint.dit.tensors) == len(keys)
    assert "latent_queries" in checkpoint.llm.tensors
    assert "layers.0.gate" in checkpoint.dit.tensors
    assert checkpoint.vision_tower is None
    assert checkpoint.assets["vocab.json"].startswith("{")
    assert checkpoint.scheduler_config["prediction_type"] == "epsilon"


def test_shapes_agree_with_the_tensors(folder):
    for stage in (open_checkpoint(folder).dit, open_checkpoint(folder).unet):
        weights = stage.state_dict()
        assert {name: tuple(w.shape) for name, w in weights.items()} == stage.shapes()
        assert {name: w.dtype for name, w in weights.items()} == stage.dtypes()
        assert sum(w.nbytes for w in weights.values()) == stage.num_bytes


def test_a_vision_tower_inside_is_found(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.gen_vision_tower.vision_tower.model.cls_token"] = torch.zeros(1, 1, 4)
    weights["model.down_projector.weight"] = torch.zeros(3)  # known, and used by nothing
    save_file(weights, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert list(checkpoint.vision_tower.tensors) == ["cls_token"]
    assert "down_projector.weight" not in " ".join(checkpoint.llm.tensors)


def test_names_saved_by_newer_transformers(folder):
    weights = load_file(folder / "model.safetensors")
    new = {}
    for name, weight in weights.items():
        if name.startswith("visual."):
            name = "model." + name
        elif name.startswith(("model.embed", "model.layers", "model.norm")):
            name = name.replace("model.", "model.language_model.", 1)
        new[name] = weight
    expected = open_checkpoint(folder).llm.shapes()
    save_file(new, folder / "model.safetensors")
    assert open_checkpoint(folder).llm.shapes() == expected


def test_converted_layout(folder, tmp_path):
    published, out = open_checkpoint(folder), tmp_path / "converted"
    out.mkdir()
    for stage, extra in ((published.llm, {"assets": {"vocab.json": "{}"}}), (published.dit, {})):
        metadata = {"config": dict(stage.config), "generation_config": {"top_k": 1}, **extra}
        texts = {key: json.dumps(value) for key, value in metadata.items()}
        save_file(stage.state_dict(), out / f"{stage.name}.safetensors", texts)
    converted = open_checkpoint(out)
    assert converted.dit.shapes() == published.dit.shapes()
    assert converted.config == published.config
    assert converted.assets["vocab.json"] == "{}"
    assert converted.generation_config == {"top_k": 1}
    with pytest.raises(FileNotFoundError, match=r"no unet\.safetensors"):
        _ = converted.unet


@pytest.mark.parametrize("variant", ["bf16", "fp16"])
def test_variants(folder, variant):
    (folder / "model.safetensors").rename(folder / f"model.{variant}.safetensors")
    assert len(open_checkpoint(folder).dit.tensors) == 96


def test_the_plain_file_goes_before_a_variant(folder):
    save_file({"other": torch.zeros(1)}, folder / "model.fp16.safetensors")
    assert len(open_checkpoint(folder).dit.tensors) == 96


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        open_checkpoint(tmp_path / "nowhere")


def test_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected model\.safetensors"):
        open_checkpoint(tmp_path)


def test_only_pickles(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin.*never opened"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("start", [b"PK\x03\x04", pickle.dumps({})])
def test_a_pickle_called_safetensors(folder, start):
    (folder / "model.safetensors").write_bytes(start + bytes(100))
    with pytest.raises(ValueError, match="pickle file, whatever its name says"):
        _ = open_checkpoint(folder).dit


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x10",
        bytes(8),
        b"\xff" * 64,
        (9).to_bytes(8, "little") + b"[1, 2, 3]",
        (2).to_bytes(8, "little") + b"\xff\xfe",
        (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[2],"x":[]}}',
    ],
)
def test_garbage(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=r"not a whole safetensors|no dit"):
        _ = open_checkpoint(folder).dit


def test_a_file_without_weights(folder):
    save_file({}, folder / "diffusion-decoder" / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="holds no weights at all"):
        _ = open_checkpoint(folder).vae


def test_truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole .* download it again"):
        _ = open_checkpoint(folder).llm


def test_missing_shard(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 .* model-00002-of-00002"):
        _ = open_checkpoint(sharded).dit


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", ".."]
)
def test_index_that_leaves_its_folder(sharded, name):
    edit_json(sharded / "model.safetensors.index.json", weight_map={"lm_head.weight": name})
    with pytest.raises(ValueError, match="outside its folder"):
        _ = open_checkpoint(sharded).llm


def test_shards_may_be_links_that_the_user_made(sharded, tmp_path):
    for shard in sharded.glob("model-*.safetensors"):
        os.symlink(shutil.move(shard, tmp_path / shard.name.upper()), shard)
    assert len(open_checkpoint(sharded).dit.tensors) == 96


def test_a_dangling_link_is_a_missing_file(sharded, folder):
    shard = sharded / "model-00002-of-00002.safetensors"
    shard.unlink()
    os.symlink(sharded / "gone", shard)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 .* model-00002-of-00002"):
        _ = open_checkpoint(sharded).llm
    os.remove(folder / "model.safetensors")
    os.symlink(folder / "gone", folder / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="a link to a file that is gone"):
        _ = open_checkpoint(folder).llm


def test_the_hubs_cache_may_link_to_its_blobs(sharded, tmp_path):
    snapshot, blobs = tmp_path / "repo" / "snapshots" / "0123", tmp_path / "repo" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in sharded.iterdir():
        shutil.move(file, blobs / file.name)
        os.symlink(blobs / file.name, snapshot / file.name)
    assert len(open_checkpoint(snapshot).dit.tensors) == 96


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, '"config"'])
def test_broken_config(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        open_checkpoint(folder)


def test_no_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 10**12},
        {"num_hidden_layers": 10**9},
        {"vocab_size": -5},
        {"vision_config": {"depth": 10**7}},
        {"n_query": 10**15},
    ],
)
def test_absurd_sizes_in_config(folder, changes):
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=rf"config.json.*{next(iter(changes))}"):
        check_layers(open_checkpoint(folder).llm)


@pytest.mark.parametrize("changes", [{"vocab_size": 128}, {"num_hidden_layers": 3}])
def test_config_of_another_checkpoint(folder, changes):
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match="same checkpoint"):
        check_layers(open_checkpoint(folder).llm)


@pytest.mark.parametrize("queries", [None, 63, "64", 0])
def test_queries_that_form_no_grid(folder, queries):
    edit_json(folder / "config.json", n_query=queries)
    shapes = open_checkpoint(ORACLE / "checkpoint").dit.shapes()
    with pytest.raises(ValueError, match="n_query"):
        NextDiTConfig.from_shapes(shapes, Checkpoint(folder).config)


def test_without_decoder_the_rest_still_opens(sharded):
    checkpoint = open_checkpoint(sharded)
    assert checkpoint.llm.tensors
    assert checkpoint.dit.tensors
    with pytest.raises(FileNotFoundError, match="diffusion-decoder"):
        _ = checkpoint.vae


def test_a_plain_language_model(folder):
    weights = load_file(folder / "model.safetensors")
    plain = {k: w for k, w in weights.items() if ".dit." not in k and "queries" not in k}
    save_file(plain, folder / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="hold no dit"):
        _ = open_checkpoint(folder).dit
    with pytest.raises(ValueError, match="plain vision-language"):
        _ = open_checkpoint(folder).llm


def test_match_keys_names_what_differs():
    with pytest.raises(
        ValueError, match=r"1 missing \(b\), 1 unexpected \(c\), 1 of another shape"
    ):
        match_keys({"a": (1,), "b": (2,)}, {"a": (3,), "c": (2,)}, "x.safetensors")
    match_keys({"a": [1]}, {"a": torch.Size([1])}, "x.safetensors")


def test_vision_tower_folder(tmp_path):
    tower = open_vision_tower(ORACLE / "eva_clip_vision_tower")
    assert tower.config["vision_cfg"]["width"] == 48
    assert len(tower.state_dict()) == 40
    shutil.copy(ORACLE / "eva_clip_vision_tower" / "model.safetensors", tmp_path)
    with pytest.raises(FileNotFoundError, match="vision_cfg"):
        open_vision_tower(tmp_path)
