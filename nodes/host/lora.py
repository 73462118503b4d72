"""LoRAs of the feature DiT and of the decoder, by whatever names their trainer gave them."""

import logging
from math import prod
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.utils
import folder_paths
from comfy.model_patcher import ModelPatcher

from ...blip3u_core.weights.lora_names import lora_names, modules_of
from .decoder import ClipFeatureDecoder
from .dit import ClipFeatureDiT
from .parts import present

FOLDER = "loras"
NETWORK = "diffusion_model."
SHOWN = 3  # names in a message


def lora_files() -> list[str]:
    """The safetensors files in `models/loras`; pickles are not listed."""
    names = folder_paths.get_filename_list(FOLDER)
    return [name for name in names if name.endswith(".safetensors")]


def lora_path(name: str) -> Path:
    """Raises FileNotFoundError if it is not there."""
    found = folder_paths.get_full_path(FOLDER, name)
    if found is None or not name.endswith(".safetensors"):
        raise FileNotFoundError(
            f"there is no LoRA {name!r} in {folder_paths.get_folder_paths(FOLDER)}, expected a "
            "safetensors file. Put it there and press R to refresh."
        )
    return Path(found)


def with_lora(patcher: ModelPatcher, name: str, strength: float) -> tuple[ModelPatcher, str]:
    """The MODEL with the LoRA added, and in words how much of the file applied.

    Raises: FileNotFoundError without the file; ValueError for a model that is neither DiT nor
        decoder, a LoRA of which nothing applies, or one that was trained on other shapes.
    """
    if not isinstance(present(patcher).model, ClipFeatureDiT | ClipFeatureDecoder):
        raise ValueError(
            f"the model input is a {type(patcher.model).__name__}, expected the model or the "
            "decoder of Load BLIP3-U. For other models use the stock Load LoRA."
        )
    path = lora_path(name)
    lora: Any = comfy.utils.load_torch_file(str(path), safe_load=True)
    names = _names(patcher)
    patches = comfy.lora.load_lora(lora, names, log_missing=False)
    modules = modules_of(lora)
    unknown = [module for module in modules if module not in names]
    if not patches:
        raise ValueError(
            f"nothing of the {len(modules)} modules of {path} belongs to this model; they are "
            f"{modules[:SHOWN]}, expected such as {sorted(names)[:SHOWN]}. Connect the model that "
            "the LoRA was trained on: the DiT is the output `model`, the UNet `decoder`."
        )
    _check_shapes(patcher, patches, path)
    patched = patcher.clone()
    applied = patched.add_patches(patches, strength)
    said = f"{path.name}: {len(applied)} of {len(modules)} modules applied."
    if unknown:
        said += f" Not this model's: {', '.join(unknown[:SHOWN])}{' ...' * (len(unknown) > SHOWN)}"
    logging.info("BLIP3-U LoRA %s", said)
    return patched, said


def _names(patcher: ModelPatcher) -> dict[str, str]:
    """Name in a LoRA file -> weight of the host's model."""
    model = patcher.model
    weights = {
        key.removeprefix(NETWORK).removesuffix(".weight"): key
        for key in model.state_dict()
        if key.startswith(NETWORK) and key.endswith(".weight")
    }
    if isinstance(model, ClipFeatureDecoder):  # trainers name its layers as diffusers does
        theirs = comfy.utils.unet_to_diffusers(model.model_config.unet_config)
        weights |= {
            name.removesuffix(".weight"): NETWORK + ours
            for name, ours in theirs.items()
            if name.endswith(".weight")
        }
    names = comfy.lora.model_lora_keys_unet(model, {})
    return names | {alias: key for name, key in weights.items() for alias in lora_names(name)}


def _check_shapes(patcher: ModelPatcher, patches: dict, path: Path) -> None:
    """The host would only log a LoRA of other shapes, and sample without it."""
    for key, patch in patches.items():
        if getattr(patch, "name", "") != "lora" or patch.weights[3] is not None:
            continue
        up, down = patch.weights[:2]
        weight = comfy.utils.get_attr(patcher.model, key)
        expected = weight.shape[0], prod(weight.shape[1:])
        found = up.shape[0], prod(down.shape[1:])
        if found != expected:
            raise ValueError(
                f"{path} changes {key} by a matrix {found[0]} x {found[1]}, the model's is "
                f"{expected[0]} x {expected[1]}. Use a LoRA that was trained on this checkpoint."
            )
