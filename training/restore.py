"""Turn the 16-bit export back into runs, so that training can go on from the committed model."""

from pathlib import Path

from torch import Tensor, nn

from . import llm, tower, vae, vision_encoder
from .common import RUNS, read_safetensors, write_safetensors
from .export import STATE, WEIGHTS

TOWER_PREFIX = "model.gen_vision_tower.vision_tower.model."


def training_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published names of LLM, eyes, queries and DiT to training's."""
    result = {}
    for name, value in weights.items():
        if name == "model.latent_queries":
            result["latent_queries"] = value
        elif name.startswith("model.dit.model."):
            result[f"dit.{name.removeprefix('model.dit.model.')}"] = value
        elif name.startswith("visual."):
            flat = value.flatten(1) if name.endswith("patch_embed.proj.weight") else value
            result[f"eyes.{name}"] = flat
        elif not name.startswith(TOWER_PREFIX):
            result[name] = value
    return result


def begin_run(name: str, weights: dict[str, Tensor], step: int) -> None:
    """A run's state without moments; the moving average starts at the weights."""
    tensors = {f"model.{k}": v.float() for k, v in weights.items()}
    (RUNS / name).mkdir(parents=True, exist_ok=True)
    write_safetensors(
        tensors, RUNS / name / "state.safetensors", {"step": str(step), "began": str(step)}
    )


def filled(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The module's own start where `weights` has nothing for it."""
    return module.state_dict() | {k: v.float() for k, v in weights.items()}


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def restore_runs(folder: Path) -> None:
    """Write runs for all stages from a published folder and the heads beside the training.

    VAE, tower and eyes count as done; the UNet begins its schedule anew from these weights, and the
    LLM does the last part of its schedule again.

    Raises: FileExistsError if a run is already there: it would be lost.
    """
    for name in ("vae", "tower", "unet", "eyes", "llm"):
        if (RUNS / name / "state.safetensors").exists():
            raise FileExistsError(
                f"{RUNS / name} already holds a run, which this would overwrite. Move it away "
                "first, or train without --from-checkpoint to go on with it."
            )
    published = read_safetensors(folder / "model.safetensors")
    heads = read_safetensors(STATE / "heads.safetensors")
    features = {f"tower.{k}": v for k, v in part(published, TOWER_PREFIX).items()}
    features |= part(heads, "tower.")
    training = filled(tower.TowerTraining(), features)
    training["spread"] = training["spread"] * 0 + (1 - 1e-3)
    begin_run("tower", training, tower.SCHEDULE.steps)
    write_safetensors(training, RUNS / "tower.safetensors", {})
    language = training_names(published) | part(heads, "llm.")
    begin_run("llm", language, llm.AGAIN_FROM)
    seeing = filled(vision_encoder.VisionEncoder(), part(language, "eyes."))
    begin_run("eyes", seeing, vision_encoder.SCHEDULE.steps)
    write_safetensors(seeing, RUNS / "eyes.safetensors", {})
    for name, last in (("unet", 0), ("vae", vae.SCHEDULE.steps)):
        weights = read_safetensors(folder / "diffusion-decoder" / name / WEIGHTS)
        begin_run(name, {f"{name}.{k}": v for k, v in weights.items()}, last)
