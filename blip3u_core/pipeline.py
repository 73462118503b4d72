"""All stages of a checkpoint behind a few calls, in a plain script.

    pipeline = Pipeline.from_checkpoint("models/blip3u-tiny")
    pictures = pipeline.text_to_image(["a red circle", "two blue stars at night"], seed=7)
    print(pipeline.answer("What is in this picture?", pictures[0]))

Pictures are (B, H, W, 3), floating point in [0, 1]. Picture i of a batch is drawn with seed + i,
as if alone. A stage is loaded when first used; one that the checkpoint lacks is an error only then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .chat.chat import Chat
from .chat.dialogue import chat_context, drawing_context
from .decoder.decoder import NEGATIVE_PROMPT, Decoder, UNetCondition
from .euler import OnStep
from .features.config import NextDiTConfig
from .features.eva_clip import EvaClip, EvaClipConfig, stretch_pictures
from .features.flow import item_noise, sample_clip_features
from .features.nextdit import NextDiT
from .language.context import Context, read_context
from .language.generate import SamplingParams, generate
from .language.model import LanguageModel, build_language_model
from .language.prompt import QUESTION_REQUEST, fill_request
from .language.visual_tokens import visual_tokens
from .weights.assign import assign_weights
from .weights.checkpoint import Checkpoint, Stage, open_checkpoint, open_vision_tower

DECODER_STEPS = 50  # as published; a checkpoint may say its own in config.json, decoder_steps
NEGATIVE_SEED = 0


@dataclass(frozen=True)
class DrawSettings:
    """How pictures are drawn; the published defaults."""

    seed: int = 0
    feature_steps: int = 30
    feature_guidance: float = 3.0
    decoder_steps: int = DECODER_STEPS
    decoder_guidance: float = 3.0
    size: tuple[int, int] | None = None  # (height, width); None is the checkpoint's own
    batch_size: int = 8  # pictures at once


class Pipeline:
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
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        vision_tower: str | Path | None = None,
    ) -> "Pipeline":
        """Open a published or converted checkpoint folder; weights stay on the disk until used.

        Args: vision_tower: an EVA-CLIP folder or file, where the checkpoint has none inside.
        Raises: FileNotFoundError or ValueError if it is missing or broken.
        """
        tower = None if vision_tower is None else Path(vision_tower)
        return cls(open_checkpoint(Path(path)), device, dtype, tower)

    # ------------------------------------------------------------------ whole ways

    def text_to_image(self, prompts: str | Sequence[str], **settings: Any) -> Tensor:
        """Draw a picture of each prompt; `settings` are the fields of `DrawSettings`."""
        captions = [prompts] if isinstance(prompts, str) else prompts
        contexts = [drawing_context(self.llm, Chat(), "caption", text) for text in captions]
        return self.draw(contexts, **settings)

    def edit(self, pictures: Tensor, instructions: str | Sequence[str], **settings: Any) -> Tensor:
        """Draw each picture (B, H, W, 3) anew as its instruction says, from picture and text."""
        texts = [instructions] * len(pictures) if isinstance(instructions, str) else instructions
        contexts = [
            drawing_context(self.llm, Chat(), "instruction", text, [picture])
            for text, picture in zip(texts, pictures, strict=True)
        ]
        return self.draw(contexts, **settings)

    def image_variation(self, pictures: Tensor, **settings: Any) -> Tensor:
        """Pictures (B, H, W, 3) through their CLIP features and back: the same, seen anew."""
        features, negative = self.encode(pictures)
        return self.decode(features, negative, **settings)

    def continue_chat(self, chat: Chat, **settings: Any) -> Tensor:
        """Draw what a dialogue asks for, (1, H, W, 3)."""
        return self.draw([chat_context(self.llm, chat, for_drawing=True)], **settings)

    def answer(
        self, question: str, *pictures: Tensor, sampling: SamplingParams | None = None
    ) -> str:
        """Ask about pictures, each (H, W, C), or about nothing but text."""
        text = fill_request(QUESTION_REQUEST, question, len(pictures))
        context = chat_context(self.llm, Chat().say("user", text, list(pictures)))
        return generate(self.llm, [context], sampling)[0]

    # ------------------------------------------------------------------ stage by stage

    def draw(self, contexts: Sequence[Context], **settings: Any) -> Tensor:
        """Draw what each context asks for, (B, H, W, 3)."""
        return self.decode(self.features_of(contexts, **settings), **settings)

    @torch.no_grad()
    def features_of(
        self, contexts: Sequence[Context], noise: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """CLIP features (B, C, g, g) of what each context asks for; `noise` replaces the seed's."""
        options = self.settings(**settings)
        count, shape = len(contexts), self.feature_shape
        start = item_noise(options.seed, count, shape) if noise is None else noise
        parts = [
            sample_clip_features(
                self.dit,
                visual_tokens(self.llm, contexts[part]),
                start[part].to(self.device),
                options.feature_steps,
                options.feature_guidance,
                self.on_step,
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
        **settings: Any,
    ) -> Tensor:
        """Pictures (B, H, W, 3), float32 on the CPU, of CLIP features; `noise` as above."""
        options = self.settings(**settings)
        away = self.negative_features(**settings) if negative is None else negative
        size = options.size or self.decoder.picture_size
        shape = self.decoder.latent_shape(size)
        start = item_noise(options.seed, len(features), shape) if noise is None else noise
        pictures = []
        for part in _parts(len(features), options.batch_size):
            positive = UNetCondition.of_features(features[part].to(self.device), size)
            null = UNetCondition.of_features(away.to(self.device).expand_as(features[part]), size)
            latents = self.decoder.sample(
                positive,
                null,
                start[part].to(self.device),
                options.decoder_steps,
                options.decoder_guidance,
                on_step=self.on_step,
            )
            pictures.append(self.decoder.to_pictures(latents).cpu())
        return torch.cat(pictures)

    # ------------------------------------------------------------------ the networks

    def settings(self, **changes: Any) -> DrawSettings:
        """The checkpoint's own settings with some changed."""
        steps = self.checkpoint.config.get("decoder_steps", DECODER_STEPS)
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
            {**self.checkpoint.config, **stage.config}, stage.shapes()
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
