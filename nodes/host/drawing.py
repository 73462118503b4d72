"""From CLIP features to pictures by the host's own samplers: conditioning, latents, decoding."""

from dataclasses import dataclass
from typing import Any

import comfy.samplers
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.decoder.decoder import CROP, ORIGINAL_SIZE
from ...blip3u_core.decoder.sizes import size_of_ratio
from ...blip3u_core.features.grid import features_to_tokens, pooled_features
from .canvas import Canvas, Start, start_on
from .decoder import PLACES, decoder_of
from .item_sampling import sample_items
from .parts import present

Conditioning = list[list[Any]]

OWN_SCHEDULE = "checkpoint"  # the noise levels of scheduler_config.json
SCHEDULERS: list[str] = [OWN_SCHEDULE, *comfy.samplers.SCHEDULER_NAMES]


@dataclass(frozen=True)
class PictureSizes:
    """What the decoder is told of sizes; (height, width) and (top, left)."""

    target: tuple[int, int]
    original: tuple[int, int] = ORIGINAL_SIZE
    crop: tuple[int, int] = CROP


def feature_conditioning(features: Tensor, sizes: PictureSizes) -> Conditioning:
    """Features (B, C, g, g) as the CONDITIONING that SDXL-style sampling reads.

    Raises: ValueError if they are no finite grid.
    """
    if features.ndim != 4 or not torch.isfinite(features).all():
        raise ValueError(
            f"features are {tuple(features.shape)}, expected finite numbers (B, C, g, g). Take "
            "them from the CLIP Feature Sampler or Image to CLIP Features."
        )
    extra = {
        "pooled_output": pooled_features(features),
        PLACES: features.shape[2] * features.shape[3],
        "height": sizes.original[0],
        "width": sizes.original[1],
        "crop_h": sizes.crop[0],
        "crop_w": sizes.crop[1],
        "target_height": sizes.target[0],
        "target_width": sizes.target[1],
    }
    return [[features_to_tokens(features), extra]]


def condition_pair(
    features: Tensor, negative: Tensor | None, sizes: PictureSizes
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative; without negative features the null is zeros."""
    uncond = torch.zeros_like(features[:1]) if negative is None else negative
    if uncond.shape[1:] != features.shape[1:]:
        raise ValueError(
            f"negative_features are {tuple(uncond.shape)}, features {tuple(features.shape)}: "
            "expected the same grid and channels. Make both with the same checkpoint."
        )
    return feature_conditioning(features, sizes), feature_conditioning(uncond, sizes)


@dataclass(frozen=True)
class Drawing:
    """How the decoder draws; picture i of a batch is drawn with seed + i."""

    seed: int
    steps: int
    guidance_scale: float
    denoise: float = 1.0
    sampler_name: str = "euler"
    scheduler: str = OWN_SCHEDULE


def draw_pictures(
    decoder: ModelPatcher,
    vae: comfy.sd.VAE,
    features: Tensor,
    negative: Tensor | None,
    drawing: Drawing,
    canvas: Canvas,
) -> Tensor:
    """Pictures (B, H, W, 3) of features (B, C, g, g): the stock chain in one call.

    Raises: ValueError for another model's decoder, features or latents, and sizes that do not fit.
    """
    model, host = decoder_of(decoder), present(vae)
    start = start_on(canvas, host, model.picture_size)
    batch = _common_batch(len(features), start)
    if start.keeps_everything:
        return start.unchanged(batch)
    factor = host.spacial_compression_decode()
    target = (start.latent.shape[2] * factor, start.latent.shape[3] * factor)
    positive, null = condition_pair(features, negative, PictureSizes(target))
    latent = start.latent.expand(batch, -1, -1, -1)
    sigmas = decoder_sigmas(decoder, drawing)
    samples = latent
    if len(sigmas):
        samples = sample_items(
            decoder,
            latent,
            sigmas,
            drawing.seed,
            drawing.sampler_name,
            drawing.guidance_scale,
            positive,
            null,
            start.mask,
        )
    return start.finish(host.decode(samples))


def sides_of_ratio(decoder: ModelPatcher, ratio: str, width: int, height: int) -> tuple[int, int]:
    """(width, height) of an aspect ratio. Raises ValueError if sides were given too."""
    if width or height:
        raise ValueError(
            f"aspect_ratio is {ratio}, and width and height are {width} and {height}; expected "
            "one or the other. Set width and height to 0, or aspect_ratio to width and height."
        )
    down, across = size_of_ratio(ratio, decoder_of(decoder).picture_size)
    return across, down


def decoder_sigmas(decoder: ModelPatcher, drawing: Drawing) -> Tensor:
    """The noise levels of a drawing, (S + 1,), falling to 0; empty for denoise 0."""
    if drawing.scheduler == OWN_SCHEDULE:
        return decoder_of(decoder).schedule.sigmas(drawing.steps, drawing.denoise)
    if drawing.denoise <= 0:
        return torch.zeros(0)
    sampling, total = (
        decoder.get_model_object("model_sampling"),
        int(drawing.steps / drawing.denoise),
    )
    sigmas = comfy.samplers.calculate_sigmas(sampling, drawing.scheduler, total)
    return sigmas[-(drawing.steps + 1) :]


def _common_batch(features: int, start: Start) -> int:
    sources = 1 if start.source is None else len(start.source)
    masks = 1 if start.mask is None else len(start.mask)
    counts = {features, sources, masks} - {1}
    if len(counts) > 1:
        raise ValueError(
            f"{features} sets of features, {sources} source pictures and {masks} masks came, "
            "expected one number for all, or 1 where one serves all."
        )
    return max(counts, default=1)
