"""Draws in one go what a language model asks for: visual tokens, CLIP features, picture."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.chat.interleave import EditSource, PictureRequest
from ...blip3u_core.features.difference_mask import BLUR, THRESHOLD, difference_mask
from ...blip3u_core.features.edit import SOURCE_GUIDANCE, STRENGTH, TARGET_GUIDANCE
from ...blip3u_core.language.context import Context
from ...blip3u_core.seeds import item_seed
from .canvas import Canvas
from .drawing import OWN_SCHEDULE, Drawing, draw_pictures
from .edit import edit_clip_features
from .feature_sampling import sample_features
from .features import negative_features
from .llm import HostedLanguageModel

Conditioning = list[list[Any]]


@dataclass
class ImageGenerator:
    """Picture i of an answer is drawn with seed + i; `features` keeps what each came from."""

    llm: HostedLanguageModel
    model: ModelPatcher
    decoder: ModelPatcher
    vae: comfy.sd.VAE
    seed: int
    steps: int
    decoder_steps: int
    guidance_scale: float
    decoder_sampler: str = "euler"
    decoder_scheduler: str = OWN_SCHEDULE
    features: list[Tensor] = field(default_factory=list)  # (1, C, g, g) each

    @cached_property
    def negative(self) -> Tensor:
        scale = self.guidance_scale
        return negative_features(self.llm, self.model, 0, self.steps, scale)["samples"]

    def draw_request(self, request: PictureRequest, index: int) -> Tensor:
        """A new picture (H, W, 3)."""
        return self.draw(request.context, index)

    def draw(self, context: Context, index: int) -> Tensor:
        """A picture (H, W, 3) of what a context asks for."""
        positive, null = self._conditioning(context)
        seed, scale = item_seed(self.seed, index), self.guidance_scale
        features = sample_features(
            self.model, positive, null, seed, self.steps, scale, "euler", 1, 1.0, None
        )
        return self._decode(features["samples"], index, Canvas())

    def edit(self, source: EditSource, before: Tensor, target: Context, index: int) -> Tensor:
        """The source picture, moved from its description to the target's; the rest is kept.

        Args: before: the picture's CLIP features (1, C, g, g).
        """
        positive, null = self._conditioning(target)
        described, _ = self._conditioning(source.context)
        scales = SOURCE_GUIDANCE, TARGET_GUIDANCE
        latent, seed = {"samples": before}, item_seed(self.seed, index)
        after = edit_clip_features(
            self.model, latent, described, positive, null, seed, self.steps, scales, STRENGTH
        )
        picture = source.picture
        if picture.dtype == torch.uint8:
            picture = picture.float() / 255
        height, width = picture.shape[:2]
        mask = difference_mask(before.to(after), after, width, height, THRESHOLD, BLUR)
        return self._decode(after, index, Canvas(source=picture[None], mask=mask))

    def _conditioning(self, context: Context) -> tuple[Conditioning, Conditioning]:
        tokens = self.llm.visual_tokens([context])
        return [[tokens, {}]], [[torch.zeros_like(tokens), {}]]

    def _decode(self, features: Tensor, index: int, canvas: Canvas) -> Tensor:
        self.features.append(features)
        drawing = Drawing(
            item_seed(self.seed, index),
            self.decoder_steps,
            self.guidance_scale,
            sampler_name=self.decoder_sampler,
            scheduler=self.decoder_scheduler,
        )
        pictures = draw_pictures(self.decoder, self.vae, features, self.negative, drawing, canvas)
        return pictures[0]
