"""For every node the values of a call that works, small enough for thousands of them."""

from pathlib import Path
from typing import Any

import odd_values as odd
from in_process import ours

Values = dict[str, Any]
BUILT_IN = "blip3u-tiny (built-in)"
WHOLE = {"start_percent": 0.0, "end_percent": 1.0}
SIZES = ("width", "height", "original_width", "original_height")


def good_calls(nodes: dict[str, Any], base: Path) -> dict[str, Values]:
    """Values by node id and input, on blip3u-tiny; `base` is the host's base directory."""
    load = {"checkpoint": BUILT_IN, "weight_dtype": "fp32"}
    llm, model, decoder, vae = nodes["BLIP3U_LoadModel"].execute(**load).args
    chat = ours("blip3u_core.chat.chat").Chat().say("user", "hello")
    nodes["BLIP3U_SaveChat"].execute(chat=chat, name="kept")
    (base / "input" / "pictures").mkdir()
    calls = {
        "LoadModel": load,
        "LoadLora": {"model": model, "lora_name": "none.safetensors", "strength": 1.0},
        "LoadSavedWeights": {"model": model, "file": "none.safetensors"},
        "DeepCache": {"model": decoder, "interval": 2, "depth": 1, **WHOLE},
        "EmptyFeatures": {"model": model, "batch_size": 1},
        "FeatureSigmas": {"steps": 3, "denoise": 1.0},
        "DecoderSigmas": {"decoder": decoder, "steps": 3, "denoise": 1.0},
        "ChatMessage": {"role": "user", "text": "hello", "image": odd.image(1, 32, 40, 3)},
        "ShowChat": {"chat": chat},
        "ShortenChat": {"chat": chat, "keep_last": 2},
        "SaveChat": {"chat": chat, "name": "my chat"},
        "LoadChat": {"name": "kept"},
        **talking(llm, chat),
        **telling(llm, model, decoder, vae),
        **drawing(nodes, llm, model, decoder, vae),
    }
    listed = {f"BLIP3U_{name}": values for name, values in calls.items()}
    return {name: listed.get(name) or from_schema(node, listed) for name, node in nodes.items()}


def from_schema(node: Any, listed: dict[str, Values]) -> Values:
    """A call of a node that nobody listed here: defaults, and what others take by that name."""
    known = {name: value for values in listed.values() for name, value in values.items()}
    wanted = [given for given in node.define_schema().inputs if not given.optional]
    return {given.id: getattr(given, "default", None) or known.get(given.id) for given in wanted}


def talking(llm: Any, chat: Any) -> dict[str, Values]:
    image, told = odd.image(1, 32, 40, 3), chat.say("assistant", "hi")
    write = {"max_new_tokens": 3, "temperature": 0.7, "top_p": 0.9, "seed": 1}
    folder = {"folder": "pictures", "question": "what?", "existing": "replace", "image": image}
    drawn = {"prompt": "a red circle", "template": "instruction", "image": image, "chat": told}
    return {
        "VisualTokens": {"llm": llm, **drawn},
        "VQA": {"llm": llm, "question": "what?", "batch_mode": "one answer per image", **write},
        "CaptionFolder": {"llm": llm, **folder, **write},
        "Reason": {"llm": llm, "prompt": "a riddle", **write, "max_new_tokens": 40},
        "EditPlan": {"llm": llm, "image": image, "instruction": "make it blue"},
    }


def telling(llm: Any, model: Any, decoder: Any, vae: Any) -> dict[str, Values]:
    parts = {"llm": llm, "model": model, "decoder": decoder, "vae": vae}
    settings = {"max_images": 1, "seed": 0, "steps": 2, "decoder_steps": 2, "cfg": 2.0}
    tell = {**parts, **settings, "max_new_tokens": 3}
    own = {"message": "hello", "conversation": "", "picture_request": "auto", "remember_last": 0}
    return {"Interleave": {**tell, "prompt": "a story"}, "Converse": {**tell, **own}}


def drawing(
    nodes: dict[str, Any], llm: Any, model: Any, decoder: Any, vae: Any
) -> dict[str, Values]:
    image, draw = odd.image(1, 32, 40, 3), {"seed": 0, "steps": 2, "cfg": 2.0}
    tower = {"vision_tower": BUILT_IN, "weight_dtype": "fp32"}
    clip_vision = nodes["BLIP3U_LoadVisionTower"].execute(**tower).args[0]
    features = nodes["BLIP3U_EncodeImage"].execute(clip_vision=clip_vision, image=image).args[0]
    prompt = {"llm": llm, "prompt": "a red circle", "template": "caption"}
    positive, negative = nodes["BLIP3U_VisualTokens"].execute(**prompt).args
    conditioning = {"model": model, "positive": positive, "negative": negative}
    sampling = {"sampler_name": "euler", "batch_size": 1, "denoise": 1.0}
    edit = {"source": positive, "target": negative, "negative": negative}
    scales = {"seed": 0, "steps": 3, "cfg_source": 2.0, "cfg_target": 2.0, "strength": 0.7}
    canvas = {"width": 0, "height": 0, "denoise": 0.5, "source_image": image}
    mask = {"width": 40, "height": 32, "threshold": 0.5, "blur": 0.1}
    sizes = {**dict.fromkeys(SIZES, 128), "crop_top": 0, "crop_left": 0}
    return {
        "LoadVisionTower": tower,
        "EncodeImage": {"clip_vision": clip_vision, "image": image},
        "PreviewFeatures": {"features": features},
        "ClipFeatureSampler": {**conditioning, **draw, **sampling},
        "NegativeFeatures": {"llm": llm, "model": model, **draw},
        "FeatureConditioning": {"features": features, **sizes},
        "Decode": {"decoder": decoder, "vae": vae, "features": features, **draw, **canvas},
        "EditFeatures": {"model": model, "features": features, **edit, **scales},
        "FeatureDifferenceMask": {"features_a": features, "features_b": features, **mask},
    }
