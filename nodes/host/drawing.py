"""From CLIP features to pictures by the host's own samplers: conditioning, latents, decoding."""

from dataclasses import dataclass
from typing import Any

import comfy.model_management as memory
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.decoder.decoder import CROP, ORIGINAL_SIZE
from ...blip3u_core.features.flow import item_noise
from ...blip3u_core.features.grid import features_to_tokens, pooled_features
from .decoder import decoder_of
from .parts import present

Conditioning = list[list[Any]]


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
    away = torch.zeros_like(features[:1]) if negative is None else negative
    if away.shape[1:] != features.shape[1:]:
        raise ValueError(
            f"negative_features are {tuple(away.shape)}, features {tuple(features.shape)}: "
            "expected the same grid and channels. Make both with the same checkpoint."
        )
    return feature_conditioning(features, sizes), feature_conditioning(away, sizes)


@dataclass(frozen=True)
class Drawing:
    """How the decoder draws; picture i of a batch is drawn with seed + i."""

    seed: int
    steps: int
    guidance_scale: float
    denoise: float = 1.0


@dataclass(frozen=True)
class Canvas:
    """What is drawn on; 0 is the checkpoint's own size, or that of the source picture."""

    width: int = 0
    height: int = 0
    source: Tensor | None = None  # (B, H, W, 3)
    mask: Tensor | None = None  # (B, H, W), 1 = redraw


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
    model, vae = decoder_of(decoder), present(vae)
    latent, mask = _start(canvas, vae, model.picture_size)
    batch = _common_batch(features, latent, canvas.source is not None)
    factor = vae.spacial_compression_decode()
    target = (latent.shape[2] * factor, latent.shape[3] * factor)
    positive, null = condition_pair(features, negative, PictureSizes(target))
    latent = latent.expand(batch, -1, -1, -1)
    sigmas = model.schedule.sigmas(drawing.steps, drawing.denoise)
    samples = latent
    if len(sigmas):
        samples = comfy.sample.sample_custom(
            decoder,
            item_noise(drawing.seed, batch, tuple(latent.shape[1:])),
            drawing.guidance_scale,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            positive,
            null,
            latent,
            noise_mask=mask,
            callback=latent_preview.prepare_callback(decoder, drawing.steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=drawing.seed,
        )
    return vae.decode(samples)


def _start(canvas: Canvas, vae: comfy.sd.VAE, own_size: int) -> tuple[Tensor, Tensor | None]:
    """The latent to begin from (B, L, h, w), and the mask for the host's sampling."""
    factor = vae.spacial_compression_decode()
    if canvas.source is None:
        if canvas.mask is not None:
            raise ValueError(
                "a mask came without a source_image, expected the picture whose unmasked part "
                "stays. Connect source_image, or remove the mask."
            )
        size = (canvas.height or own_size, canvas.width or own_size)
        _check_size(size, factor)
        shape = (1, vae.latent_channels, size[0] // factor, size[1] // factor)
        return torch.zeros(shape, device=memory.intermediate_device()), None
    source = _rgb_planes(canvas.source)  # (B, 3, H, W)
    size = (canvas.height or source.shape[2], canvas.width or source.shape[3])
    mask = canvas.mask
    if mask is not None:
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
    if size != tuple(source.shape[2:]) or min(size) < factor:
        _check_size(size, factor)
        if mask is not None:
            mask = comfy.utils.common_upscale(mask, size[1], size[0], "bilinear", "center")
        source = comfy.utils.common_upscale(source, size[1], size[0], "lanczos", "center")
    return vae.encode(source.movedim(1, -1)), mask


def _rgb_planes(pictures: Tensor) -> Tensor:
    """(B, H, W, 1 to 4) to (B, 3, H, W); alpha is dropped, as the host's VAE Encode does."""
    if not torch.isfinite(pictures).all():
        raise ValueError(
            "source_image holds NaN or infinite values, expected numbers in [0, 1]. The step that "
            "made it failed; look there, or use another precision."
        )
    colours = pictures[..., :3] if pictures.shape[-1] >= 3 else pictures[..., :1]
    return colours.expand(-1, -1, -1, 3).movedim(-1, 1)


def _check_size(size: tuple[int, int], factor: int) -> None:
    if size[0] % factor or size[1] % factor or 0 in size:
        raise ValueError(
            f"the picture is to be {size[1]} x {size[0]}, expected multiples of {factor}. Change "
            "width and height; 0 takes the checkpoint's own."
        )


def _common_batch(features: Tensor, latent: Tensor, with_source: bool) -> int:
    counts = {len(features), len(latent) if with_source else 1}
    if len(counts - {1}) > 1:
        raise ValueError(
            f"{len(features)} sets of features and {len(latent)} source pictures came, expected "
            "as many of one as of the other, or one for all."
        )
    return max(counts)
