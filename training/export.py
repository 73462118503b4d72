"""Write models/blip3u-tiny in the published layout from whatever the runs hold: 16 bits, folded.

The wide world's model goes to training/runs-wide/model, beside its runs.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from . import unet, vae, vision_encoder
from .common import RUNS, WIDE, read_safetensors, write_safetensors
from .llm_config import GENERATION_SIDE, language_config
from .scenes import CLIP_MEAN, CLIP_STD
from .tokenizer import load_tokenizer, tokenizer_files

MODEL = Path(__file__).parent.parent / "models" / "blip3u-tiny"
STATE = Path(__file__).parent / "state"  # small heads that only training uses
TARGET, MOST_BYTES = (RUNS / "model", 40e6) if WIDE else (MODEL, 20e6)
DTYPE = torch.float16
DECODER_STEPS = 25
WEIGHTS = "diffusion_pytorch_model.fp16.safetensors"
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}"
    "Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}"
    "Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def averaged(name: str) -> dict[str, Tensor]:
    """A run's moving average where it keeps one, else its weights."""
    return averaged_state(RUNS / name / "state.safetensors")


def averaged_state(file: Path) -> dict[str, Tensor]:
    saved = read_safetensors(file)
    weights = {k[6:]: v for k, v in saved.items() if k.startswith("model.")}
    weights |= {k[4:]: v for k, v in saved.items() if k.startswith("ema.")}
    return weights


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors({k: v.to(DTYPE) for k, v in weights.items()}, path, {"format": "pt"})


def published_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Training's names of LLM, eyes, queries and DiT to the published ones."""
    config = language_config()["vision_config"]
    result = {}
    for name, value in weights.items():
        if name.startswith("model."):
            result[name] = value
        elif name.startswith("eyes.visual."):
            result[name.removeprefix("eyes.")] = value
        elif name == "latent_queries":
            result["model.latent_queries"] = value
        elif name.startswith("dit."):
            result[f"model.dit.model.{name.removeprefix('dit.')}"] = value
    patch = "visual.patch_embed.proj.weight"
    side = config["patch_size"]
    result[patch] = result[patch].reshape(-1, 3, config["temporal_patch_size"], side, side)
    return result


def export_language_model() -> None:
    weights = published_names(averaged("llm"))
    features = vision_encoder.FeatureTower().tower
    weights |= {
        f"model.gen_vision_tower.vision_tower.model.{k}": v
        for k, v in features.state_dict().items()
    }
    write_weights(TARGET / "model.safetensors", weights)
    size = features.config
    vision_cfg = {
        "eva_model_name": "eva-clip-tiny",
        "image_size": size.image_size,
        "patch_size": size.patch_size,
        "width": size.width,
        "layers": size.num_layers,
        "head_width": size.width // size.num_heads,
        "mlp_ratio": size.mlp_width / size.width,
        "postnorm": True,
        "qkv_bias": True,
        "xattn": True,
        "drop_path_rate": 0,
    }
    config = language_config() | {"decoder_steps": DECODER_STEPS, "vision_cfg": vision_cfg}
    write_json(TARGET / "config.json", config)
    write_json(
        TARGET / "generation_config.json",
        {
            "bos_token_id": config["bos_token_id"],
            "do_sample": True,
            "eos_token_id": [config["eos_token_id"], config["bos_token_id"]],
            "pad_token_id": config["pad_token_id"],
            "repetition_penalty": 1.0,
            "temperature": 1e-06,
            "transformers_version": "4.51.3",
        },
    )


def export_texts() -> None:
    config = language_config()
    files = tokenizer_files(load_tokenizer(), CHAT_TEMPLATE, config["tokenizer_model_max_length"])
    for name, text in files.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    write_json(TARGET / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    pixels = GENERATION_SIDE**2
    vision = config["vision_config"]
    write_json(
        TARGET / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": list(CLIP_MEAN),
            "image_std": list(CLIP_STD),
            "image_processor_type": "Qwen2VLImageProcessor",
            "max_pixels": pixels,
            "merge_size": vision["spatial_merge_size"],
            "min_pixels": pixels,
            "patch_size": vision["patch_size"],
            "processor_class": "Qwen2_5_VLProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": pixels, "shortest_edge": pixels},
            "temporal_patch_size": vision["temporal_patch_size"],
        },
    )


def export_decoder_configs() -> None:
    """The decoder's JSON files, which need no weights."""
    folder = TARGET / "diffusion-decoder"
    unet_config = {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.32.2"}
    write_json(folder / "unet" / "config.json", unet_config | unet.CONFIG)
    vae_config = {"_class_name": "AutoencoderKL", "_diffusers_version": "0.32.2"}
    write_json(folder / "vae" / "config.json", vae_config | vae.CONFIG)
    write_json(folder / "scheduler" / "scheduler_config.json", unet.SCHEDULER_CONFIG)
    nothing = [None, None]
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "EmuVisualGenerationPipeline",
            "_diffusers_version": "0.21.2",
            "feature_extractor": nothing,
            "multimodal_encoder": nothing,
            "safety_checker": nothing,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "tokenizer": nothing,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )


def export_decoder() -> None:
    folder = TARGET / "diffusion-decoder"
    weights = {
        k.removeprefix("unet."): v for k, v in averaged("unet").items() if k.startswith("unet.")
    }
    write_weights(folder / "unet" / WEIGHTS, weights)
    latents = unet.FrozenLatents()
    vae.fold_statistics(latents.vae, latents.mean.flatten(), latents.std.flatten())
    write_weights(folder / "vae" / WEIGHTS, latents.vae.state_dict())


def export_heads() -> None:
    """The linear readers of stage 2 and 4, so that training can go on from the 16-bit export."""
    weights = {
        f"llm.{k}": v
        for k, v in averaged("llm").items()
        if k.startswith(("regress.", "kept.", "cells.", "eyes.heads."))
    }
    reader = vision_encoder.FeatureTower()
    weights |= {f"tower.heads.{k}": v for k, v in reader.heads.state_dict().items()}
    write_weights((RUNS if WIDE else STATE) / "heads.safetensors", weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs-only", action="store_true", help="only JSON and tokenizer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    export_decoder_configs()
    export_texts()
    if not args.configs_only:
        export_language_model()
        export_decoder()
        export_heads()
        total = sum(file.stat().st_size for file in TARGET.rglob("*") if file.is_file())
        assert total <= MOST_BYTES, f"{total} bytes in {TARGET}, expected {MOST_BYTES:.0f} at most"


if __name__ == "__main__":
    main()
