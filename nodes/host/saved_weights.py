"""Weights that the host saved of our MODELs (Save Model, Save Checkpoint), back into one."""

from pathlib import Path

import folder_paths
from comfy.model_patcher import ModelPatcher

from ...blip3u_core.weights.reader import match_keys, read_header, read_tensors
from .decoder import ClipFeatureDecoder
from .dit import ClipFeatureDiT
from .parts import present

FOLDERS = ("diffusion_models", "checkpoints")  # the host looks into its output folder for both
SAVED = "model.diffusion_model."
HELD = "diffusion_model."


def saved_files() -> list[str]:
    """Safetensors files where Save Model and Save Checkpoint put theirs."""
    names = [name for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]
    return sorted({name for name in names if name.endswith(".safetensors")})


def saved_path(name: str) -> Path:
    """Raises FileNotFoundError if it is not there."""
    paths = [folder_paths.get_full_path(folder, name) for folder in FOLDERS]
    found = next((path for path in paths if path is not None), None)
    if found is None or not name.endswith(".safetensors"):
        raise FileNotFoundError(
            f"there is no file {name!r} in {' or '.join(FOLDERS)}, expected one that Save Model or "
            "Save Checkpoint wrote. Press R to refresh."
        )
    return Path(found)


def with_saved_weights(patcher: ModelPatcher, name: str) -> ModelPatcher:
    """The MODEL with every weight of its network replaced by the file's; memory-mapped until used.

    Raises: FileNotFoundError without the file; ValueError for a model that is neither DiT nor
        decoder, or a file of another network.
    """
    model = present(patcher).model
    if not isinstance(model, ClipFeatureDiT | ClipFeatureDecoder):
        raise ValueError(
            f"the model input is a {type(model).__name__}, expected the model or the decoder of "
            "Load BLIP3-U. For other models use the stock Load Diffusion Model."
        )
    path = saved_path(name)
    held = {key: w.shape for key, w in model.state_dict().items() if key.startswith(HELD)}
    tensors = {
        HELD + key.removeprefix(SAVED): info
        for key, info in read_header(path)[0].items()
        if key.startswith(SAVED)
    }
    match_keys(held, {key: info.shape for key, info in tensors.items()}, str(path))
    patched = patcher.clone()
    weights = read_tensors(tensors)
    patched.add_patches({key: ("set", (weight,)) for key, weight in weights.items()})
    return patched
