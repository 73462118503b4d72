"""The model as the meaning benchmark uses it: `Pipeline` over whole rows of cases."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blip3u_core.chat.chat import Chat
from blip3u_core.chat.converse import converse
from blip3u_core.chat.dialogue import ChatModel, chat_context
from blip3u_core.chat.interleave import PictureRequest, interleave
from blip3u_core.decoder.decoder import UNetCondition
from blip3u_core.features.difference_mask import BLUR, THRESHOLD, difference_mask
from blip3u_core.features.edit import edit_clip_features
from blip3u_core.features.flow import item_noise
from blip3u_core.language.context import Context
from blip3u_core.language.generate import SamplingParams
from blip3u_core.language.prompt import (
    CAPTION_REQUEST,
    DESCRIBE_REQUEST,
    PICTURE,
    REWRITE_REQUEST,
    fill_request,
)
from blip3u_core.language.visual_tokens import visual_tokens
from blip3u_core.pipeline import Pipeline

Picture = np.ndarray  # (H, W, 3) uint8

BATCH = 25
MAX_NEW_TOKENS, STORY_TOKENS = 160, 400


def in_batches(count: int) -> Iterator[slice]:
    for start in range(0, count, BATCH):
        yield slice(start, min(start + BATCH, count))


def as_tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.copy())


def as_batch(pictures: Sequence[Picture]) -> Tensor:
    """(B, H, W, 3) float in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).float() / 255


def as_pictures(images: Tensor) -> list[Picture]:
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
    """A pipeline with the settings of a run (fields of `DrawSettings`)."""

    def __init__(self, pipeline: Pipeline, **settings: Any) -> None:
        self.pipeline = pipeline
        self.settings = {**settings, "batch_size": BATCH}
        self.chat_model = ChatModel(pipeline.llm, SamplingParams(max_new_tokens=MAX_NEW_TOKENS))

    # ---------------------------------------------------------------- text

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        return [
            text
            for part in in_batches(len(chats))
            for text, _ in self.chat_model.answer(chats[part], in_words=True)
        ]

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

    def interleave(self, chat: Chat, max_pictures: int, seed: int) -> tuple[str, list[Picture]]:
        """Text with `[picture n]` marks, and the pictures."""

        def draw(request: PictureRequest, number: int) -> Tensor:
            settings = {**self.settings, "seed": seed + number}
            return self.pipeline.draw([request.context], **settings)[0]

        chat_model = replace(self.chat_model, sampling=SamplingParams(max_new_tokens=STORY_TOKENS))
        told = interleave(chat_model, chat, draw, max_pictures)
        return told.text, [p for picture in told.pictures for p in as_pictures(picture[None])]

    def converse(self, chat: Chat, message: str, seed: int) -> tuple[str, list[Picture], Chat]:
        """The answer to a message as Converse gives it, its pictures, and the chat with both."""

        def draw(request: PictureRequest, number: int) -> Tensor:
            settings = {**self.settings, "seed": seed + number}
            return self.pipeline.draw([request.context], **settings)[0]

        said = converse(self.chat_model, chat, message, [], draw, 1, marks_captions=False)
        pictures = [p for picture in said.pictures for p in as_pictures(picture[None])]
        return said.text, pictures, said.chat

    # ---------------------------------------------------------------- pictures

    def contexts(self, chats: Sequence[Chat]) -> list[Context]:
        return [chat_context(self.pipeline.llm, chat, for_drawing=True) for chat in chats]

    def draw(self, chats: Sequence[Chat], seed: int) -> list[Picture]:
        """A picture that continues each chat."""
        return as_pictures(self.pipeline.draw(self.contexts(chats), seed=seed, **self.settings))

    def encode(self, pictures: Sequence[Picture]) -> Tensor:
        return self.pipeline.encode(as_batch(pictures))[0]

    def decode(self, features: Tensor, seed: int) -> list[Picture]:
        return as_pictures(self.pipeline.decode(features, seed=seed, **self.settings))

    def vary(self, pictures: Sequence[Picture], seed: int) -> list[Picture]:
        """Picture -> features -> picture."""
        batch = as_batch(pictures)
        return as_pictures(self.pipeline.image_variation(batch, seed=seed, **self.settings))

    @torch.no_grad()
    def vae_round_trip(self, pictures: Sequence[Picture]) -> list[Picture]:
        decoder = self.pipeline.decoder
        parts = as_batch(pictures).split(BATCH)
        return as_pictures(torch.cat([decoder.to_pictures(decoder.to_latents(p)) for p in parts]))

    # ---------------------------------------------------------------- edits

    def caption_tokens(self, captions: Sequence[str]) -> Tensor:
        contexts = self.contexts([caption_chat(caption) for caption in captions])
        parts = [visual_tokens(self.pipeline.llm, contexts[p]) for p in in_batches(len(contexts))]
        return torch.cat(parts)

    @torch.no_grad()
    def edit(
        self, features: Tensor, sources: Sequence[str], targets: Sequence[str], seed: int
    ) -> Tensor:
        """FlowEdit between two descriptions of each picture."""
        return edit_clip_features(
            self.pipeline.dit,
            features,
            self.caption_tokens(sources),
            self.caption_tokens(targets),
            seed,
            self.pipeline.settings(**self.settings).feature_steps,
        )

    @torch.no_grad()
    def redraw(
        self, features: Tensor, before: Tensor, sources: Sequence[Picture], seed: int
    ) -> list[Picture]:
        """Decode only where `features` differ from `before`, the features of the sources."""
        height, width = self.pipeline.decoder.picture_size
        mask = difference_mask(before, features, width, height, THRESHOLD, BLUR)
        return self.redraw_under(mask, features, sources, seed)

    @torch.no_grad()
    def redraw_under(
        self, mask: Tensor, features: Tensor, sources: Sequence[Picture], seed: int
    ) -> list[Picture]:
        """Decode only under the mask (B, H, W)."""
        decoder, options = self.pipeline.decoder, self.pipeline.settings(**self.settings)
        size = decoder.picture_size
        negative = self.pipeline.negative_features(**self.settings)
        pictures: list[Picture] = []
        for part in in_batches(len(features)):
            latents = decoder.to_latents(as_batch(sources[part]))
            drawn = decoder.sample(
                UNetCondition.of_features(features[part], size),
                UNetCondition.of_features(negative.expand_as(features[part]), size),
                item_noise(seed + part.start, len(latents), decoder.latent_shape(size)),
                options.decoder_steps,
                options.decoder_guidance,
                source=latents,
                mask=torch.nn.functional.interpolate(mask[part, None], latents.shape[-2:]),
            )
            pictures += as_pictures(decoder.to_pictures(drawn))
        return pictures
