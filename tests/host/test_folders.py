"""Folders of models as people have them, in the real host (see harness.comfy for broken links)."""

import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from harness.comfy import ORACLE, Graph, Host

CHECKPOINT = ORACLE / "checkpoint"
UNET = Path("diffusion-decoder", "unet")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 4902257056\n"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def asking(checkpoint: str) -> Graph:
    loader = node("BLIP3U_LoadModel", checkpoint=checkpoint, weight_dtype="fp32")
    mode = {"batch_mode": "one answer per image", "max_new_tokens": 2, "seed": 0}
    asked = node("BLIP3U_VQA", llm=["load", 0], question="?", temperature=0.0, top_p=1.0, **mode)
    return {"load": loader, "ask": asked, "show": node("PreviewAny", source=["ask", 0])}


def drawing(checkpoint: str) -> Graph:
    graph = asking(checkpoint)
    del graph["ask"]
    cheap = {"seed": 1, "steps": 1, "cfg": 3.0}
    features = {"sampler_name": "euler", "batch_size": 1, "denoise": 1.0, **cheap}
    size = {"width": 0, "height": 0, "denoise": 1.0, **cheap}
    return graph | {
        "say": node("BLIP3U_VisualTokens", llm=["load", 0], prompt="a dog", template="caption"),
        "flow": node(
            "BLIP3U_ClipFeatureSampler",
            model=["load", 1],
            positive=["say", 0],
            negative=["say", 1],
            **features,
        ),
        "draw": node(
            "BLIP3U_Decode", decoder=["load", 2], vae=["load", 3], features=["flow", 0], **size
        ),
        "show": node("PreviewImage", images=["draw", 0]),
    }


def choices(host: Host, kind: str, name: str) -> list[str]:
    given = host.get(f"/object_info/{kind}")[kind]["input"]["required"][name]
    return given[1]["options"] if "options" in given[1] else given[0]


def test_what_cannot_be_read_takes_no_node_away(host: Host) -> None:
    """The base folder holds broken links in models/blip3u and models/clip_vision."""
    ours = [name for name in host.get("/object_info") if name.startswith("BLIP3U_")]
    assert len(ours) >= 24
    towers = choices(host, "BLIP3U_LoadVisionTower", "vision_tower")
    assert "blip3u-tiny (built-in)" in towers
    assert "CLIP-ViT-H-14.safetensors" not in towers
    checkpoints = choices(host, "BLIP3U_LoadModel", "checkpoint")
    assert "half" in checkpoints
    assert "on another disk" not in checkpoints
    log = host.log_text()
    for name in ("on another disk", "CLIP-ViT-H-14.safetensors"):
        assert f"{name} is a link to" in log
    assert "config.json is missing from" in host.failure(asking("half"))
    assert "on another disk is a link to" in host.failure(asking("on another disk"))


def test_checkpoints_in_subfolders_and_caches(host: Host) -> None:
    root = host.base / "models" / "blip3u"
    for place in ("org/model", "models--org--cached/snapshots/0123abc"):
        shutil.copytree(CHECKPOINT, root / place)
    shards = root / "linked shards"
    shards.symlink_to(shutil.copytree(ORACLE / "checkpoint_sharded", host.base / "elsewhere"))
    for shard in shards.glob("model-*.safetensors"):
        moved = shard.rename(host.base / shard.name)
        shard.symlink_to(moved)
    found = choices(host, "BLIP3U_LoadModel", "checkpoint")
    assert {"org/model", "org/cached", "linked shards"} <= set(found)
    texts = [host.run(asking(name)).outputs["show"]["text"] for name in ("org/model", "org/cached")]
    assert texts[0] == texts[1]
    assert host.run(asking("linked shards")).outputs["show"]["text"] == texts[0]


def test_a_mended_folder_works_without_more_ado(host: Host) -> None:
    folder = Path(shutil.copytree(CHECKPOINT, host.base / "models" / "blip3u" / "to mend"))
    weights = folder / UNET / "diffusion_pytorch_model.bf16.safetensors"
    kept = weights.rename(host.base / "unet.safetensors")
    assert "No weights in" in host.failure(drawing("to mend"))
    weights.write_text(POINTER)
    assert "Git LFS pointer" in host.failure(drawing("to mend"))
    assert host.run(asking("to mend")).outputs["show"]["text"]  # a question needs no decoder
    kept.replace(weights)
    first = host.run(drawing("to mend"))
    assert host.run(drawing("to mend")).executed == []  # and unchanged, nothing runs again
    assert first.outputs["show"]["images"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 6}))
    assert "num_hidden_layers" in host.failure(asking("to mend"))
    (folder / "config.json").write_text(json.dumps(config))
    assert host.run(asking("to mend")).outputs["show"]["text"]


def test_a_tower_inside_a_checkpoint_is_one(host: Host) -> None:
    folder = Path(shutil.copytree(CHECKPOINT, host.base / "models" / "blip3u" / "with tower"))
    shutil.copytree(ORACLE / "eva_clip_vision_tower", folder / "eva_clip_vision_tower")
    name = "with tower (in checkpoint)"
    assert name in choices(host, "BLIP3U_LoadVisionTower", "vision_tower")
    Image.new("RGB", (40, 40), "red").save(host.base / "input" / "red.png")
    seen = {}
    for tower in (name, "eva-clip-tiny-A"):
        graph = {
            "load": node("BLIP3U_LoadVisionTower", vision_tower=tower, weight_dtype="fp32"),
            "image": node("LoadImage", image="red.png"),
            "encode": node("BLIP3U_EncodeImage", clip_vision=["load", 0], image=["image", 0]),
            "show": node("BLIP3U_PreviewFeatures", features=["encode", 0]),
            "save": node("PreviewImage", images=["show", 0]),
        }
        shown = host.run(graph).outputs["save"]["images"][0]
        seen[tower] = Image.open(host.file(shown)).tobytes()
    assert len(set(seen.values())) == 1


def test_names_of_chats_are_taken_back_as_they_were_given(host: Host) -> None:
    said = node("BLIP3U_ChatMessage", role="user", text="hello")
    graph = {"say": said, "save": node("BLIP3U_SaveChat", chat=["say", 0], name="greeting.json")}
    host.run(graph)
    longest = "字" * 66  # 198 bytes, and a picture's name is longer than its chat's
    Image.new("RGB", (40, 40), "red").save(host.base / "input" / "one.png")
    image = {"image": node("LoadImage", image="one.png")}
    shown = {"say": node("BLIP3U_ChatMessage", role="user", text="see", image=["image", 0])}
    save = {"save": node("BLIP3U_SaveChat", chat=["say", 0], name=longest)}
    host.run(image | shown | save)
    for name in ("greeting", "greeting.json", longest):
        load = {"load": node("BLIP3U_LoadChat", name=name)}
        show = {"show": node("BLIP3U_ShowChat", chat=["load", 0])}
        assert host.run(load | show).outputs["show"]["text"]
    for name in ("a\0b", "x" * 255, "\ud800", "a/b", "", "."):
        graph["save"]["inputs"]["name"] = name
        assert "BLIP3U_SaveChat: ValueError: " in host.failure(graph)
        assert "BLIP3U_LoadChat: " in host.failure(
            {"load": node("BLIP3U_LoadChat", name=name)} | show
        )
