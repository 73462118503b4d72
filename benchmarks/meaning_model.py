"""The model as the meaning benchmark uses it: whole rows of cases through `blip3u_core`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blip3u_core.answer import Sampling
from blip3u_core.chat import Chat
from blip3u_core.checkpoint import Checkpoint, open_checkpoint
from blip3u_core.config import NextDiTConfig
from blip3u_core.context import Context, read_context
from blip3u_core.decoder import Condition, Decoder
from blip3u_core.dialogue import Speaker, chat_context
from blip3u_core.difference_mask import difference_mask
from blip3u_core.edit import edit_clip_features
from blip3u_core.eva_clip import EvaClip, EvaClipConfig, squash_pictures
from blip3u_core.flow import GUIDANCE_SCALE, item_noise, sample_clip_features
from blip3u_core.interleave import interleave
from blip3u_core.nextdit import NextDiT
from blip3u_core.prompt import (
    CAPTION_REQUEST,
    DESCRIBE_REQUEST,
    PICTURE,
    REWRITE_REQUEST,
    fill_request,
)
from blip3u_core.qwen import build_language_model
from blip3u_core.visual_tokens import visual_tokens
from blip3u_core.weights import assign_weights

Picture = np.ndarray  # (H, W, 3) uint8

TEXT_BATCH, PICTURE_BATCH = 25, 25
MAX_NEW_TOKENS = 160
STORY_TOKENS = 400
PUBLISHED_DECODER_STEPS = 50
MASK_THRESHOLD, MASK_BLUR = 0.5, 0.25


@dataclass(frozen=True)
class Settings:
    """How pictures are drawn; the published defaults."""

    steps: int = 30
    guidance: float = GUIDANCE_SCALE
    decoder_steps: int | None = None  # the checkpoint's own
    decoder_guidance: float = 3.0


def in_batches(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def as_tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.copy())


def as_pictures(images: Tensor) -> list[Picture]:
    """(B, H, W, 3) in [0, 1] to 8-bit pictures."""
    return list((images * 255).round().to(torch.uint8).numpy())


def caption_chat(prompt: str) -> Chat:
    return Chat().say("user", fill_request(CAPTION_REQUEST, prompt))


def request_chat(request: str, prompt: str, pictures: Sequence[Picture] = ()) -> Chat:
    text = fill_request(request, prompt, len(pictures))
    return Chat().say("user", text, [as_tensor(picture) for picture in pictures])


def shown(chat: Chat, picture: Picture) -> Chat:
    """The chat after the assistant has drawn this picture."""
    return chat.say("assistant", PICTURE, [as_tensor(picture)])


class MeaningModel:
    """A checkpoint in float32 on the CPU."""

    def __init__(self, path: Path, settings: Settings) -> None:
        checkpoint = open_checkpoint(path)
        self.settings = settings
        self.llm = build_language_model(
            checkpoint.llm, checkpoint.assets, checkpoint.generation_config
        )
        self.dit = load_dit(checkpoint)
        self.decoder_steps = settings.decoder_steps or default_decoder_steps(checkpoint)
        self.decoder = Decoder.from_checkpoint(checkpoint, "cpu", torch.float32)
        self.tower = load_tower(checkpoint)
        self.speaker = Speaker(self.llm, Sampling(max_new_tokens=MAX_NEW_TOKENS))
        bare = read_context(self.llm, " ", for_drawing=True)
        self.negative = self.features_of([bare], seed=0)

    # ---------------------------------------------------------------- text

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        answers: list[str] = []
        for part in in_batches(len(chats), TEXT_BATCH):
            answers += self.speaker.reply(chats[part])
        return answers

    def plan_edits(
        self, pictures: Sequence[Picture], instructions: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Source and target captions, as the node Edit Plan has them."""
        chats = [request_chat(DESCRIBE_REQUEST, "", [picture]) for picture in pictures]
        sources = self.reply(chats)
        chats = [
            chat.say("assistant", source).say("user", fill_request(REWRITE_REQUEST, instruction))
            for chat, source, instruction in zip(chats, sources, instructions, strict=True)
        ]
        return sources, self.reply(chats)

    # ---------------------------------------------------------------- features

    def tokens_of(self, contexts: Sequence[Context]) -> Tensor:
        return torch.cat(
            [visual_tokens(self.llm, contexts[p]) for p in in_batches(len(contexts), TEXT_BATCH)]
        )

    def noise(self, seed: int, count: int) -> Tensor:
        config = self.dit.config
        return item_noise(seed, count, (config.in_channels, config.input_size, config.input_size))

    def features_of(self, contexts: Sequence[Context], seed: int) -> Tensor:
        """CLIP features (B, C, g, g) of what each context asks for, item i with seed + i."""
        return sample_clip_features(
            self.dit,
            self.tokens_of(contexts),
            self.noise(seed, len(contexts)),
            self.settings.steps,
            self.settings.guidance,
        )

    @torch.no_grad()
    def encode(self, pictures: Sequence[Picture]) -> Tensor:
        stacked = torch.from_numpy(np.stack(pictures)).float() / 255
        return self.tower.clip_features(squash_pictures(stacked, self.tower.config.image_size))

    @torch.no_grad()
    def edit(
        self, features: Tensor, sources: Sequence[str], targets: Sequence[str], seed: int
    ) -> Tensor:
        """FlowEdit between two descriptions of each picture; the same ones change nothing."""
        edited = edit_clip_features(
            self.dit,
            features,
            self.caption_tokens(sources),
            self.caption_tokens(targets),
            seed,
            self.settings.steps,
        )
        same = torch.tensor([a == b for a, b in zip(sources, targets, strict=True)])
        return torch.where(same[:, None, None, None], features, edited)

    def caption_tokens(self, captions: Sequence[str]) -> Tensor:
        return self.tokens_of(self.contexts([caption_chat(caption) for caption in captions]))

    # ---------------------------------------------------------------- pictures

    def contexts(self, chats: Sequence[Chat]) -> list[Context]:
        return [chat_context(self.llm, chat, for_drawing=True) for chat in chats]

    def draw(self, chats: Sequence[Chat], seed: int) -> list[Picture]:
        """A picture that continues each chat."""
        return self.decode(self.features_of(self.contexts(chats), seed), seed)

    def decode(self, features: Tensor, seed: int) -> list[Picture]:
        pictures: list[Picture] = []
        for part in in_batches(len(features), PICTURE_BATCH):
            pictures += self._decode(features[part], seed + part.start)
        return pictures

    def redraw(
        self, features: Tensor, before: Tensor, sources: Sequence[Picture], seed: int
    ) -> list[Picture]:
        """Decode only where `features` differ from `before`, the features of the sources."""
        height, width = self.decoder.picture_size
        mask = difference_mask(before, features, width, height, MASK_THRESHOLD, MASK_BLUR)
        pictures: list[Picture] = []
        for part in in_batches(len(features), PICTURE_BATCH):
            stacked = torch.from_numpy(np.stack(sources[part])).float() / 255
            latents = self.decoder.to_latents(stacked)
            small = torch.nn.functional.interpolate(
                mask[part, None], latents.shape[-2:], mode="bilinear", align_corners=False
            )
            pictures += self._decode(features[part], seed + part.start, source=latents, mask=small)
        return pictures

    def _decode(self, features: Tensor, seed: int, **keep: Tensor) -> list[Picture]:
        size, settings = self.decoder.picture_size, self.settings
        latents = self.decoder.sample(
            Condition.of_features(features, size),
            Condition.of_features(self.negative.expand_as(features), size),
            item_noise(seed, len(features), self.decoder.latent_shape(size)),
            self.decoder_steps,
            settings.decoder_guidance,
            **keep,
        )
        return as_pictures(self.decoder.to_pictures(latents))

    def interleave(self, chat: Chat, max_pictures: int, seed: int) -> tuple[str, list[Picture]]:
        """Text with `[picture n]` marks, and the pictures."""

        def draw(context: Context, number: int) -> Tensor:
            features = self.features_of([context], seed + number)
            return as_tensor(self.decode(features, seed + number)[0])

        told = interleave(
            replace(self.speaker, sampling=Sampling(STORY_TOKENS)), chat, draw, max_pictures
        )
        return told.text, [picture.numpy() for picture in told.pictures]

    def vae_round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        result: list[Picture] = []
        for part in in_batches(len(pictures), PICTURE_BATCH):
            stacked = torch.from_numpy(np.stack(pictures[part])).float() / 255
            result += as_pictures(self.decoder.to_pictures(self.decoder.to_latents(stacked)))
        return result


def default_decoder_steps(checkpoint: Checkpoint) -> int:
    return int(checkpoint.config.get("decoder_steps", PUBLISHED_DECODER_STEPS))


def load_dit(checkpoint: Checkpoint) -> NextDiT:
    stage = checkpoint.dit
    config = NextDiTConfig.from_shapes(stage.shapes(), stage.config)
    dit = NextDiT(config, dtype=torch.float32, device="meta")
    assign_weights(dit, stage, torch.float32)
    return dit.eval()


def load_tower(checkpoint: Checkpoint) -> EvaClip:
    stage = checkpoint.vision_tower
    if stage is None:
        raise FileNotFoundError(
            f"{checkpoint.path} has no vision tower, expected gen_vision_tower weights; "
            "rows that look at pictures need it."
        )
    config = EvaClipConfig.from_weights(stage.config, stage.shapes())
    tower = EvaClip(config, device="meta")
    assign_weights(tower, stage, torch.float32)
    return tower.eval()
