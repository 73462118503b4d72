"""CLIP features become a picture: SDXL's UNet, conditioned on them, and a VAE. No host needed.

clean = x - sigma epsilon                                      (epsilon prediction)
clean = x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1)        (v prediction)
velocity = (x - clean) / sigma
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..euler import Integrate, OnStep, euler, guide
from ..features.grid import features_to_tokens, pooled_features
from ..weights.assign import assign_weights
from ..weights.checkpoint import Checkpoint
from ..weights.stage import Stage
from .noise_schedule import NoiseSchedule
from .solvers import CHECKPOINT, EULER, choose_solver
from .unet_config import UNetConfig, check_same_latents
from .vae import Vae, VaeConfig

NEGATIVE_PROMPT = " "  # its features are the negative; it goes to the LLM without a template
ORIGINAL_SIZE = (1024, 1024)  # what the reference always says of the picture's origin
CROP = (0, 0)

UNet = Any  # diffusers' UNet2DConditionModel, whose import takes seconds
Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class UNetCondition:
    """What the UNet is told of a batch of pictures."""

    tokens: Tensor  # (B, g * g, C), row by row
    pooled: Tensor  # (B, C), their mean
    time_ids: Tensor  # (B, 6): original height, width; crop top, left; target height, width

    @classmethod
    def of_features(
        cls,
        features: Tensor,
        target_size: tuple[int, int],
        original_size: tuple[int, int] = ORIGINAL_SIZE,
        crop: tuple[int, int] = CROP,
    ) -> "UNetCondition":
        """Describe CLIP features (B, C, g, g); sizes are (height, width), the crop (top, left)."""
        tokens, pooled = features_to_tokens(features), pooled_features(features)
        ids = torch.tensor([(*original_size, *crop, *target_size)], device=features.device)
        return cls(tokens, pooled, ids.expand(len(tokens), -1))

    def __add__(self, other: "UNetCondition") -> "UNetCondition":
        """Both batches, one after the other."""
        return UNetCondition(
            torch.cat([self.tokens, other.tokens]),
            torch.cat([self.pooled, other.pooled]),
            torch.cat([self.time_ids, other.time_ids]),
        )


@dataclass(frozen=True)
class KeepPlaces:
    """Where a picture stays as it was: the rest of the mask is redrawn."""

    latent: Tensor  # scaled latent of the picture (B, L, h, w)
    mask: Tensor  # (B, 1, h, w), 1 = redraw, 0 = keep


def integrate_guided_diffusion(
    predict: Predict,
    noise: Tensor,
    start: Tensor,
    sigmas: Tensor,
    guidance_scale: float,
    keep: KeepPlaces | None = None,
    on_step: OnStep | None = None,
    integrate: Integrate = euler,
) -> Tensor:
    """Carry `start` from the first sigma to the last along the guided clean estimate.

    Args:
        predict: maps x (B, L, h, w) and the step's number to (conditional, null) clean estimates.
        noise: standard normal, (B, L, h, w); used again where a picture is kept.
        start: x at sigmas[0].
        sigmas: (S + 1,), strictly falling.
        guidance_scale: 1 = conditional only, above 1 away from the null.
        integrate: how the steps are made.

    Returns: x at the last sigma, same shape as `start`.
    Source: Euler's method of EDM (Karras et al. 2022, algorithm 1 without churn).
    """

    def velocity(x: Tensor, step: int) -> Tensor:
        sigma = sigmas[step]
        seen = x if keep is None else torch.lerp(keep.latent + sigma * noise, x, keep.mask)
        clean = guide(*predict(seen, step), guidance_scale)
        if keep is not None:
            clean = torch.lerp(keep.latent, clean, keep.mask)
        return (x - clean) / sigma

    return integrate(velocity, start, sigmas, on_step)


class Decoder:
    """UNet, VAE and noise schedule of one checkpoint, on one device."""

    def __init__(self, unet: UNet, vae: Vae, schedule: NoiseSchedule) -> None:
        self.unet = unet
        self.vae = vae
        self.schedule = schedule

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype
    ) -> "Decoder":
        """Raises FileNotFoundError or ValueError if a part is missing or does not fit."""
        schedule = NoiseSchedule.from_json(checkpoint.scheduler_config)
        unet_config = UNetConfig.from_json(checkpoint.unet.config)
        vae_config = VaeConfig.from_json(checkpoint.vae.config)
        check_same_latents(unet_config, vae_config, checkpoint.path)
        unet = _load_unet(checkpoint.unet, unet_config, dtype).to(device)
        vae = Vae(vae_config, device="meta")
        assign_weights(vae, checkpoint.vae, dtype)
        return cls(unet, vae.to(device), schedule)

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) of the pictures that this decoder was trained on."""
        side = self.unet.config["sample_size"] * self.vae.config.factor
        return side, side

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(L, h, w) of a picture (height, width)."""
        factor = self.vae.config.factor
        if min(size) < factor or size[0] % factor or size[1] % factor:
            raise ValueError(
                f"a picture of {size[1]} x {size[0]} was asked for, expected multiples of "
                f"{factor}. Change width and height."
            )
        return self.vae.config.latent_channels, size[0] // factor, size[1] // factor

    @torch.no_grad()
    def sample(
        self,
        condition: UNetCondition,
        null_condition: UNetCondition,
        noise: Tensor,
        steps: int,
        guidance_scale: float = 3.0,
        denoise: float = 1.0,
        source: Tensor | None = None,
        mask: Tensor | None = None,
        on_step: OnStep | None = None,
        sampler_name: str = EULER,
        scheduler: str = CHECKPOINT,
    ) -> Tensor:
        """Draw scaled latents (B, L, h, w).

        Args:
            noise: standard normal (B, L, h, w).
            source: scaled latents to begin from when `denoise` is below 1, or to keep.
            mask: (B or 1, 1, h, w), 1 = redraw, 0 = keep the source.
            sampler_name, scheduler: see `solvers`; the reference's own if not given.

        Raises: ValueError if the number of steps is out of range, or a name is not known.
        """
        way = choose_solver(self.schedule, sampler_name, scheduler, steps, denoise)
        integrate, sigmas, timesteps = way[0], way[1].to(noise), way[2]
        if not len(sigmas):
            return torch.zeros_like(noise) if source is None else source
        if source is None:
            start = noise * self.schedule.start_scale(float(sigmas[0]))
        else:
            start = source + sigmas[0] * noise
        keep = None if source is None or mask is None else KeepPlaces(source, mask.to(noise))
        predict = self.predictor(condition, null_condition, sigmas, timesteps)
        return integrate_guided_diffusion(
            predict, noise, start, sigmas, guidance_scale, keep, on_step, integrate
        )

    def predictor(
        self,
        condition: UNetCondition,
        null_condition: UNetCondition,
        sigmas: Tensor,
        timesteps: Tensor,
    ) -> Predict:
        """The UNet as `integrate_guided_diffusion` wants it: both conditions in one call."""
        both, dtype = condition + null_condition, self.unet.dtype
        added = {"text_embeds": both.pooled.to(dtype), "time_ids": both.time_ids}

        def predict(x: Tensor, step: int) -> tuple[Tensor, Tensor]:
            x, sigma = torch.cat([x, x]), sigmas[step]  # the condition first, then the null
            predicted = self.unet(
                (x / (sigma**2 + 1) ** 0.5).to(dtype),
                timesteps[step],
                encoder_hidden_states=both.tokens.to(dtype),
                added_cond_kwargs=added,
            ).sample
            conditional, null = self._clean(x, sigma, predicted.to(x)).chunk(2)
            return conditional, null

        return predict

    def _clean(self, x: Tensor, sigma: Tensor, predicted: Tensor) -> Tensor:
        if self.schedule.prediction_type == "v_prediction":
            return x / (sigma**2 + 1) - predicted * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * predicted

    @torch.no_grad()
    def to_pictures(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, L, h, w) to pictures (B, H, W, 3), float32 in [0, 1]."""
        dtype = next(self.vae.parameters()).dtype
        decoded = self.vae.decode((latents / self.vae.config.scaling_factor).to(dtype))
        return (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).contiguous()

    @torch.no_grad()
    def to_latents(self, pictures: Tensor) -> Tensor:
        """Pictures (B, H, W, 3) in [0, 1] to scaled latents (B, L, h, w), float32."""
        parameter = next(self.vae.parameters())
        pixels = (pictures.permute(0, 3, 1, 2) * 2 - 1).to(parameter)
        return self.vae.encode(pixels).float() * self.vae.config.scaling_factor


def _load_unet(stage: Stage, config: UNetConfig, dtype: torch.dtype) -> UNet:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        unet: UNet = UNet2DConditionModel.from_config(config.for_diffusers())
    assign_weights(unet, stage, dtype)
    return unet
