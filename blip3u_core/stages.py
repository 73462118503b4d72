"""The stages of a checkpoint in a plain script: visual tokens -> CLIP features -> pictures.

A stage is loaded when first used; one that the checkpoint lacks is an error only then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .decoder.decoder import NEGATIVE_PROMPT, Decoder, UNetCondition
from .decoder.solvers import CHECKPOINT, EULER
from .euler import OnStep
from .features.config import NextDiTConfig
from .features.eva_clip import EvaClip, EvaClipConfig, stretch_pictures
from .features.flow import item_noise, sample_clip_features
from .features.nextdit import NextDiT
from .language.context import Context, read_context
from .language.model import LanguageModel, build_language_model
from .language.visual_tokens import visual_tokens
from .weights.assign import assign_weights
from .weights.checkpoint import Checkpoint, open_checkpoint, open_vision_tower
from .weights.config import CheckpointConfig
from .weights.stage import Stage

NEGATIVE_SEED = 0


@dataclass(frozen=True)
class DrawSettings:
    """How pictures are drawn; the published defaults."""

    seed: int = 0
    feature_steps: int = 30
    feature_guidance: float = 3.0
    feature_denoise: float = 1.0  # below 1: begin from the features that are given
    decoder_steps: int = CheckpointConfig.decoder_steps
    decoder_guidance: float = 3.0
    decoder_denoise: float = 1.0  # below 1: begin from the picture that is given
    size: tuple[int, int] | None = None  # (height, width); None is the checkpoint's own
    batch_size: int = 8  # pictures at once
    sampler_name: str = EULER  # of the decoder, see decoder/solvers.py
    scheduler: str = CHECKPOINT

    def __post_init__(self) -> None:
        if self.size is not None:  # a list, where settings were JSON
            object.__setattr__(self, "size", tuple(self.size))


Self = TypeVar("Self", bound="Stages")


class Stages:
    """One checkpoint on one device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        vision_tower: Path | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.dtype = dtype
        self.vision_tower = vision_tower
        self.on_step: OnStep | None = None  # called after every sampling step
        self._negatives: dict[tuple[int, float], Tensor] = {}

    @classmethod
    def from_checkpoint(
        cls: type[Self],
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        vision_tower: str | Path | None = None,
    ) -> Self:
        """Open a published or converted checkpoint folder; weights stay on the disk until used.

        Args: vision_tower: an EVA-CLIP folder or file, where the checkpoint has none inside.
        Raises: FileNotFoundError or ValueError if it is missing or broken.
        """
        tower = None if vision_tower is None else Path(vision_tower)
        return cls(open_checkpoint(Path(path)), device, dtype, tower)

    def draw(self, contexts: Sequence[Context], **settings: Any) -> Tensor:
        """Draw what each context asks for, (B, H, W, 3)."""
        return self.decode(self.features_of(contexts, **settings), **settings)

    @torch.no_grad()
    def features_of(
        self,
        contexts: Sequence[Context],
        noise: Tensor | None = None,
        init: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """CLIP features (B, C, g, g) of what each context asks for.

        Args:
            noise: (B, C, g, g), in place of the seed's.
            init: features (B or 1, C, g, g) to begin from, with `feature_denoise` below 1.
        """
        options = self.settings(**settings)
        count, shape = len(contexts), self.feature_shape
        start = item_noise(options.seed, count, shape) if noise is None else noise
        begin = None if init is None else init.expand(count, -1, -1, -1)
        parts = [
            sample_clip_features(
                self.dit,
                visual_tokens(self.llm, contexts[part]),
                start[part].to(self.device),
                options.feature_steps,
                options.feature_guidance,
                self.on_step,
                None if begin is None else begin[part].to(self.device),
                options.feature_denoise,
            )
            for part in _parts(count, options.batch_size)
        ]
        return torch.cat(parts)

    def negative_features(self, noise: Tensor | None = None, **settings: Any) -> Tensor:
        """Features (1, C, g, g) of the empty prompt; made once for each way of sampling."""
        options = replace(self.settings(**settings), seed=NEGATIVE_SEED)
        key = (options.feature_steps, options.feature_guidance)
        if noise is None and key in self._negatives:
            return self._negatives[key]
        context = read_context(self.llm, NEGATIVE_PROMPT, for_drawing=True)
        features = self.features_of([context], noise, **vars(options))
        if noise is None:
            self._negatives[key] = features
        return features

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP features (B, C, g, g) of pictures, and those of a picture of zero pixels."""
        pixels = stretch_pictures(pictures, self.tower.config.image_size)
        pixels = torch.cat([pixels, self.tower.null_pixels(pixels)])
        parts = pixels.to(self.device, self.dtype).split(DrawSettings.batch_size)
        features = torch.cat([self.tower.clip_features(part).float() for part in parts])
        return features[:-1], features[-1:]

    @torch.no_grad()
    def decode(
        self,
        features: Tensor,
        negative: Tensor | None = None,
        noise: Tensor | None = None,
        source: Tensor | None = None,
        mask: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """Pictures (B, H, W, 3), float32 on the CPU, of CLIP features (B, C, g, g).

        Args:
            negative: what guidance leads away from; None is the empty prompt.
            noise: (B, L, h, w), in place of the seed's.
            source: pictures (B or 1, H, W, 3) to begin from with `decoder_denoise` below 1, and
                to keep outside the mask.
            mask: (B or 1, H, W), 1 = redraw, 0 = keep the source.
        """
        options, count = self.settings(**settings), len(features)
        uncond = self.negative_features(**settings) if negative is None else negative
        uncond = uncond.to(self.device).expand(count, -1, -1, -1)
        size = options.size or self.decoder.picture_size
        shape = self.decoder.latent_shape(size)
        start = item_noise(options.seed, count, shape) if noise is None else noise
        latents = None if source is None else self._source_latents(source, size, count)
        redraw = (
            None
            if mask is None
            else F.interpolate(mask[:, None], shape[1:]).expand(count, -1, -1, -1)
        )
        pictures = []
        for part in _parts(count, options.batch_size):
            drawn = self.decoder.sample(
                UNetCondition.of_features(features[part].to(self.device), size),
                UNetCondition.of_features(uncond[part], size),
                start[part].to(self.device),
                options.decoder_steps,
                options.decoder_guidance,
                options.decoder_denoise,
                None if latents is None else latents[part],
                None if redraw is None else redraw[part].to(self.device),
                self.on_step,
                options.sampler_name,
                options.scheduler,
            )
            pictures.append(self.decoder.to_pictures(drawn).cpu())
        return torch.cat(pictures)

    def _source_latents(self, source: Tensor, size: tuple[int, int], count: int) -> Tensor:
        if tuple(source.shape[1:3]) != size or len(source) not in (1, count):
            raise ValueError(
                f"the source is {tuple(source.shape)}, expected {count} or 1 pictures (B, "
                f"{size[0]}, {size[1]}, 3). Resize it, or give its size as `size`."
            )
        latents = [self.decoder.to_latents(p[None].to(self.device)) for p in source]
        return torch.cat(latents).expand(count, -1, -1, -1)

    # ------------------------------------------------------------------ the networks

    def settings(self, **changes: Any) -> DrawSettings:
        """The checkpoint's own settings with some changed."""
        steps = self.checkpoint.declared.decoder_steps
        return replace(DrawSettings(decoder_steps=steps), **changes)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, g, g)"""
        config = self.dit.config
        return config.in_channels, config.input_size, config.input_size

    @cached_property
    def llm(self) -> LanguageModel:
        """The language model; read when first used."""
        checkpoint = self.checkpoint
        return build_language_model(
            checkpoint.llm, checkpoint.assets, checkpoint.generation_config, self.dtype, self.device
        )

    @cached_property
    def dit(self) -> NextDiT:
        """The feature DiT; read when first used."""
        stage = self.checkpoint.dit
        config = NextDiTConfig.from_shapes(stage.shapes(), self.checkpoint.config)
        dit = NextDiT(config, self.dtype, "meta")
        assign_weights(dit, stage, self.dtype)
        return dit.to(self.device)

    @cached_property
    def decoder(self) -> Decoder:
        """UNet, VAE and schedule; read when first used."""
        return Decoder.from_checkpoint(self.checkpoint, self.device, self.dtype)

    @cached_property
    def tower(self) -> EvaClip:
        """EVA-CLIP; read when first used.

        Raises: FileNotFoundError if neither the checkpoint nor `vision_tower` has one.
        """
        stage = self._tower_stage()
        config = EvaClipConfig.from_weights(
            stage.joined_with(self.checkpoint.config), stage.shapes()
        )
        tower = EvaClip(config, device="meta")
        assign_weights(tower, stage, self.dtype)
        return tower.to(self.device)

    def _tower_stage(self) -> Stage:
        if self.vision_tower is not None:
            return open_vision_tower(self.vision_tower)
        if self.checkpoint.vision_tower is None:
            raise FileNotFoundError(
                f"{self.checkpoint.path} has no EVA-CLIP tower inside, expected one to look at "
                "pictures with. Give Pipeline.from_checkpoint the folder of the published tower "
                "as vision_tower."
            )
        return self.checkpoint.vision_tower


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
