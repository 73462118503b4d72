"""Every way in which a checkpoint folder is broken here: values, files, headers, weights, indices.

What only another checkpoint could mean (a beta_start of 0.001, other bits in a weight) is not
broken: no reader can tell. So every change here is one that a reader can see.
"""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from harness.comfy import ORACLE

from .folders import Broken, write_bytes, write_json
from .headers import header_breaks, weight_breaks
from .layouts import converted_breaks, sharded_breaks

DECODER = "diffusion-decoder"
# What is read of each file, with what it may not be instead. GONE takes the key away.
GONE = "(gone)"
ODD: list[Any] = [
    None, "x", "", [], {}, [None], True, 1.5, -1, 0, float("nan"), float("inf"), 10**12, 10**30,
    [1, 2], {"a": 1}, "\ud800", GONE,
]  # fmt: skip
NUMBER, SIZE, TEXT, FLAG, LIST, OBJECT = "number", "size", "text", "flag", "list", "object"
KEYS: dict[str, dict[str, str]] = {
    "config.json": {
        "hidden_size": SIZE,
        "intermediate_size": SIZE,
        "num_hidden_layers": SIZE,
        "num_attention_heads": SIZE,
        "num_key_value_heads": SIZE,
        "vocab_size": SIZE,
        "rms_norm_eps": NUMBER,
        "rope_theta": NUMBER,
        "rope_scaling": OBJECT,
        "rope_scaling.mrope_section": LIST,
        "rope_scaling.rope_type": TEXT,
        "hidden_act": TEXT,
        "n_query": SIZE,
        "gen_pooling": TEXT,
        "vision_cfg": OBJECT,
        "vision_cfg.head_width": SIZE,
        "vision_config": OBJECT,
        "vision_config.depth": SIZE,
        "vision_config.hidden_size": SIZE,
        "vision_config.intermediate_size": SIZE,
        "vision_config.num_heads": SIZE,
        "vision_config.in_channels": SIZE,
        "vision_config.out_hidden_size": SIZE,
        "vision_config.patch_size": SIZE,
        "vision_config.spatial_merge_size": SIZE,
        "vision_config.temporal_patch_size": SIZE,
        "vision_config.window_size": SIZE,
        "vision_config.fullatt_block_indexes": LIST,
    },
    "generation_config.json": {"repetition_penalty": NUMBER, "eos_token_id": LIST},
    "preprocessor_config.json": {
        "min_pixels": SIZE,
        "max_pixels": SIZE,
        "image_mean": LIST,
        "image_std": LIST,
        "patch_size": SIZE,
        "rescale_factor": NUMBER,
    },
    f"{DECODER}/scheduler/scheduler_config.json": {
        "num_train_timesteps": SIZE,
        "beta_start": NUMBER,
        "beta_end": NUMBER,
        "beta_schedule": TEXT,
        "prediction_type": TEXT,
        "timestep_spacing": TEXT,
        "steps_offset": NUMBER,
    },
    f"{DECODER}/unet/config.json": {
        "block_out_channels": LIST,
        "layers_per_block": SIZE,
        "in_channels": SIZE,
        "out_channels": SIZE,
        "cross_attention_dim": SIZE,
        "norm_num_groups": SIZE,
        "down_block_types": LIST,
        "up_block_types": LIST,
        "addition_time_embed_dim": SIZE,
        "projection_class_embeddings_input_dim": SIZE,
        "sample_size": SIZE,
        "attention_head_dim": LIST,
        "transformer_layers_per_block": LIST,
        "use_linear_projection": FLAG,
    },
    f"{DECODER}/vae/config.json": {
        "block_out_channels": LIST,
        "layers_per_block": SIZE,
        "latent_channels": SIZE,
        "norm_num_groups": SIZE,
        "scaling_factor": NUMBER,
        "down_block_types": LIST,
        "mid_block_add_attention": FLAG,
    },
    "tokenizer_config.json": {"added_tokens_decoder": OBJECT},
}
# Absent or null, these have a value that every such file means; others are values of theirs.
MEANT = {
    *itertools.product(("repetition_penalty", "eos_token_id"), ("None", GONE, "[]")),
    *itertools.product(("min_pixels", "max_pixels", "image_mean", "image_std"), ("None", GONE)),
    *itertools.product(("patch_size", "rescale_factor", "rope_scaling.rope_type"), (GONE,)),
    ("repetition_penalty", "1.5"),
    ("repetition_penalty", "True"),
    ("rope_theta", "1.5"),
    ("scaling_factor", "1.5"),
    ("vision_config.fullatt_block_indexes", "[]"),
    ("vision_config.fullatt_block_indexes", "[1, 2]"),
    ("steps_offset", "0"),
    ("mid_block_add_attention", "True"),
    ("use_linear_projection", "True"),
    ("attention_head_dim", "[1, 2]"),
}
TEXTS = [
    *(name for name in KEYS if name != "generation_config.json"),
    "tokenizer.json",
    "generation_config.json",
]
WEIGHTS = (
    "model.safetensors",
    f"{DECODER}/unet/diffusion_pytorch_model.fp16.safetensors",
    f"{DECODER}/vae/diffusion_pytorch_model.fp16.safetensors",
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


# Files of another checkpoint that cannot be meant; a scheduler or generation settings could be.
STRANGERS = (
    "config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors",
    f"{DECODER}/unet/config.json", f"{DECODER}/vae/config.json",
)  # fmt: skip


def all_broken() -> list[Broken]:
    """Every broken folder, by name; the names tell file, place and change."""
    published = itertools.chain(
        value_breaks(), file_breaks(), tokenizer_breaks(), header_breaks(WEIGHTS),
        weight_breaks(WEIGHTS),
    )  # fmt: skip
    return [
        *(Broken(name, "published", breaks) for name, breaks in published),
        *(Broken(f"{file}~stranger", "published", partial(_stranger, file)) for file in STRANGERS),
        *(Broken(name, "sharded", breaks) for name, breaks in sharded_breaks()),
        *(Broken(name, "converted", breaks) for name, breaks in converted_breaks()),
    ]


def value_breaks() -> Iterator[tuple[str, Callable[[Path], object]]]:
    for file, keys in KEYS.items():
        for key, value in itertools.product(keys, ODD):
            shown = value if value == GONE else ascii(value)
            if (key, shown) not in MEANT:
                yield f"{file}:{key}={shown}", partial(set_value, file, key, value)
    yield from special_values()


def special_values() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Numbers of the right kind that fit nothing."""
    scheduler, unet = f"{DECODER}/scheduler/scheduler_config.json", f"{DECODER}/unet/config.json"
    vae, pictures = f"{DECODER}/vae/config.json", "preprocessor_config.json"
    values = [
        (scheduler, "beta_end", 0.0001), (scheduler, "beta_end", 2),
        (scheduler, "beta_end", 0.9999),
        (scheduler, "beta_start", -1), (scheduler, "num_train_timesteps", 10**9),
        (scheduler, "steps_offset", -5), (scheduler, "trained_betas", [0.1]),
        (unet, "block_out_channels", [48]), (unet, "attention_head_dim", [0, 5]),
        (unet, "sample_size", [16, 16]), (unet, "sample_size", 10**6),
        (unet, "norm_num_groups", 7), (unet, "in_channels", 8),
        (unet, "down_block_types", ["DownBlock2D", "AttnDownBlock2D"]),
        (unet, "transformer_layers_per_block", [1, 500]), (unet, "layers_per_block", 10**5),
        (vae, "norm_num_groups", 7), (vae, "latent_channels", 8), (vae, "scaling_factor", -1),
        (vae, "block_out_channels", [16] * 30), (vae, "latents_mean", [0.0]),
        (pictures, "min_pixels", 10**12), (pictures, "max_pixels", 10),
        (pictures, "image_mean", "abc"),
        (pictures, "image_mean", [0.5]), (pictures, "image_std", [0.5, 0.5, 0]),
        (pictures, "size", []), (pictures, "merge_size", 3), (pictures, "do_normalize", False),
        ("config.json", "n_query", 16), ("config.json", "n_query", 8),
        ("config.json", "rope_scaling", {"mrope_section": [16]}),
        ("config.json", "rope_scaling", {"mrope_section": [5, 5, 5]}),
        ("config.json", "rope_scaling", {"rope_type": "yarn"}),
        ("config.json", "text_config", "x"), ("config.json", "rope_theta", -1),
        ("config.json", "gen_pooling", "early_pool2d_5"),
        ("config.json", "use_sliding_window", True),
        ("config.json", "generation_image_size", 10**6), ("config.json", "decoder_steps", "x"),
        ("config.json", "vision_config.window_size", 100),
        ("config.json", "vision_config.depth", 10**7),
        ("config.json", "vision_config.fullatt_block_indexes", [99]),
        ("config.json", "vision_config.window_size", 1), ("config.json", "image_token_id", 5),
        ("generation_config.json", "eos_token_id", [5]),
        ("generation_config.json", "repetition_penalty", -1),
        ("generation_config.json", "eos_token_id", "two"),
    ]  # fmt: skip
    for file, key, value in values:
        yield f"{file}:{key}={value!a} ", partial(set_value, file, key, value)


def set_value(file: str, key: str, value: Any, folder: Path) -> None:
    """Change one value, at a dotted path, in a JSON file; GONE takes it away."""
    content = json.loads((folder / file).read_text())
    *path, last = key.split(".")
    place = content
    for part in path:
        place = place[part]
    if value == GONE:
        place.pop(last, None)
    else:
        place[last] = value
    write_json(folder / file, content)


def file_breaks() -> Iterator[tuple[str, Callable[[Path], object]]]:
    contents: list[tuple[str, bytes]] = [
        ("empty", b""), ("zeros", bytes(4096)), ("lfs-pointer", LFS_POINTER),
        ("web-page", b"<!DOCTYPE html><html><body>404 not found</body></html>"),
        ("not-utf8", b"\xff\xfe\xfa{"), ("list", b"[1, 2]"), ("null", b"null"),
        ("deep", b"[" * 100_000), ("deep-object", b'{"a":' * 50_000),
        ("digits", b'{"a": ' + b"9" * 5000 + b"}"), ("pickle", b"\x80\x04\x95" + bytes(64)),
        ("zip", b"PK\x03\x04" + bytes(64)),
    ]  # fmt: skip
    for file in (*TEXTS, *WEIGHTS):
        for name, content in contents:
            yield f"{file}~{name}", partial(_write, file, content)
        yield f"{file}~half", partial(_cut, file)
        yield f"{file}~folder", partial(_replace, file, Path.mkdir)
        yield f"{file}~pipe", partial(_replace, file, os.mkfifo)
        yield f"{file}~dangling", partial(_replace, file, partial(_link, to="nowhere"))
        yield f"{file}~loop", partial(_replace, file, partial(_link, to=Path(file).name))
        if file not in (
            "generation_config.json",
            "preprocessor_config.json",
            "tokenizer_config.json",
        ):
            yield f"{file}~missing", partial(_remove, file)


def tokenizer_breaks() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """tokenizer.json as the library reads it, and the three older files without it."""
    whole = {
        "without-img": lambda t: _drop_token(t, "[IMG]"),
        "id-too-large": lambda t: t["added_tokens"][-1].update(id=5000),
        "no-model": lambda t: t.pop("model"),
        "model-list": lambda t: t.update(model=[]),
        "vocab-number": lambda t: t["model"].update(vocab=5),
        "vocab-huge-id": lambda t: t["model"]["vocab"].update(zzzz=10**9),
        "merges-text": lambda t: t["model"].update(merges="a b"),
        "added-text": lambda t: t.update(added_tokens="x"),
        "unknown-decoder": lambda t: t.update(decoder={"type": "Odd"}),
    }
    for name, change in whole.items():
        yield f"tokenizer.json!{name}", partial(_change_json, "tokenizer.json", change)
    older: list[tuple[str, str, bytes]] = [
        ("vocab.json", "list", b"[]"), ("vocab.json", "text-ids", b'{"a": "b"}'),
        ("vocab.json", "negative", b'{"a": -1}'), ("vocab.json", "huge", b'{"a": 1e30}'),
        ("vocab.json", "empty", b"{}"), ("merges.txt", "triples", b"a b c\n"),
        ("merges.txt", "unknown", b"zz qq\n"), ("merges.txt", "not-utf8", b"\xff\xfe"),
        ("added_tokens.json", "list", b"[]"), ("added_tokens.json", "text-ids", b'{"[IMG]": "x"}'),
        ("added_tokens.json", "far", b'{"[IMG]": 9999}'), ("added_tokens.json", "null", b"null"),
        ("tokenizer_config.json", "list", b"[]"),
        ("tokenizer_config.json", "no-content", b'{"added_tokens_decoder": {"1": {}}}'),
        ("tokenizer_config.json", "word-id", b'{"added_tokens_decoder": {"x": {"content": "a"}}}'),
        ("tokenizer_config.json", "no-flag", b'{"added_tokens_decoder": {"1": {"special": []}}}'),
    ]  # fmt: skip
    for file, name, content in older:
        yield f"{file}!{name}", partial(_older_tokenizer, file, content)


def _drop_token(tokenizer: dict[str, Any], name: str) -> None:
    kept = [token for token in tokenizer["added_tokens"] if token["content"] != name]
    tokenizer["added_tokens"] = kept


def _older_tokenizer(file: str, content: bytes, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    write_bytes(folder / file, content)


def _change_json(file: str, change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    value = json.loads((folder / file).read_text("utf-8"))
    change(value)
    write_json(folder / file, value)


def _write(file: str, content: bytes, folder: Path) -> None:
    write_bytes(folder / file, content)


def _stranger(file: str, folder: Path) -> None:
    write_bytes(folder / file, (ORACLE / "checkpoint" / file).read_bytes())


def _cut(file: str, folder: Path) -> None:
    content = (folder / file).read_bytes()
    write_bytes(folder / file, content[: len(content) // 2])


def _remove(file: str, folder: Path) -> None:
    (folder / file).unlink()
    if file == "tokenizer.json":
        (folder / "vocab.json").unlink()


def _replace(file: str, make: Callable[[Path], object], folder: Path) -> None:
    (folder / file).unlink()
    make(folder / file)


def _link(path: Path, to: str) -> None:
    path.symlink_to(to)


def sample(broken: Iterable[Broken], step: int) -> list[Broken]:
    """Every so-many-th, so that all kinds are among them."""
    return list(itertools.islice(broken, 0, None, step))
