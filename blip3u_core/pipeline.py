"""All that the nodes do, behind a few calls in a plain script.

    pipeline = Pipeline.from_checkpoint("models/blip3u-tiny")
    pictures = pipeline.text_to_image(["a red circle", "two blue stars at night"], seed=7)
    print(pipeline.answer("What is in this picture?", pictures[0]))

Pictures are (B, H, W, 3), floating point in [0, 1]. Picture i of a batch is drawn with seed + i,
as if alone. `settings` are the fields of `DrawSettings`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .chat.chat import Chat
from .chat.converse import AUTO, converse, marks_captions
from .chat.dialogue import ChatModel, ask, chat_context, drawing_context
from .chat.interleave import (
    Draw,
    Interleaved,
    PictureRequest,
    ask_for_story,
    interleave,
)
from .chat.reason import Reasoning, plan_edits, reason
from .features.difference_mask import BLUR, THRESHOLD, difference_mask
from .features.edit import SOURCE_GUIDANCE, STRENGTH, TARGET_GUIDANCE, edit_clip_features
from .images import rgb_image
from .language.context import Context
from .language.generate import SamplingParams
from .language.prompt import QUESTION_REQUEST, fill_request
from .language.visual_tokens import visual_tokens
from .stages import DrawSettings, Stages

OnPicture = Callable[[Interleaved], None]


class Pipeline(Stages):
    """One checkpoint on one device: drawing, editing, answering, reasoning, interleaving."""

    # ------------------------------------------------------------------ pictures

    def text_to_image(self, prompts: str | Sequence[str], **settings: Any) -> Tensor:
        """Draw a picture of each prompt."""
        captions = [prompts] if isinstance(prompts, str) else prompts
        return self.draw(self.caption_contexts(captions), **settings)

    def edit(
        self,
        pictures: Tensor,
        instructions: str | Sequence[str],
        mask: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """Draw each picture (B, H, W, 3) anew as its instruction says, from picture and text.

        Args: mask: (B or 1, H, W), 1 = redraw, 0 = keep the picture.
        """
        texts = [instructions] * len(pictures) if isinstance(instructions, str) else instructions
        contexts = [
            drawing_context(self.llm, Chat(), "instruction", text, [picture])
            for text, picture in zip(texts, pictures, strict=True)
        ]
        features = self.features_of(contexts, **settings)
        source = None if mask is None else pictures
        return self.decode(features, source=source, mask=mask, **settings)

    def edit_by_flow(
        self,
        pictures: Tensor,
        instruction: str = "",
        descriptions: tuple[str, str] | None = None,
        strength: float = STRENGTH,
        keep_rest: bool = True,
        **settings: Any,
    ) -> Tensor:
        """Move the features of each picture (B, H, W, 3) from one description to another.

        Args:
            instruction: what to change; the language model describes each picture before and after.
            descriptions: source and target description in place of its own.
            strength: 0 leaves the features, 1 edits along the whole schedule.
            keep_rest: redraw only where the features changed; the picture stays elsewhere.
        """
        plans = (
            [descriptions] * len(pictures)
            if descriptions
            else plan_edits(self._speaking(None), Chat(), list(pictures), instruction)
        )
        sources, targets = (
            self.caption_contexts(list(captions)) for captions in zip(*plans, strict=True)
        )
        return self._edit_towards(pictures, sources, targets, strength, keep_rest, settings)

    def _edit_towards(
        self,
        pictures: Tensor,
        sources: Sequence[Context],
        targets: Sequence[Context],
        strength: float,
        keep_rest: bool,
        settings: dict[str, Any],
    ) -> Tensor:
        options = self.settings(**settings)
        before, _ = self.encode(pictures)
        after = edit_clip_features(
            self.dit,
            before,
            visual_tokens(self.llm, sources),
            visual_tokens(self.llm, targets),
            options.seed,
            options.feature_steps,
            SOURCE_GUIDANCE,
            TARGET_GUIDANCE,
            strength,
            self.on_step,
        )
        if not keep_rest:
            return self.decode(after, **settings)
        height, width = pictures.shape[1:3]
        mask = difference_mask(before, after, width, height, THRESHOLD, BLUR)
        size = options.size or (height, width)
        return self.decode(after, source=pictures, mask=mask, **{**settings, "size": size})

    def image_variation(self, pictures: Tensor, **settings: Any) -> Tensor:
        """Pictures (B, H, W, 3) through their CLIP features and back: the same, seen anew."""
        features, negative = self.encode(pictures)
        return self.decode(features, negative, **settings)

    def continue_chat(self, chat: Chat, **settings: Any) -> Tensor:
        """Draw what a dialogue asks for, (1, H, W, 3)."""
        return self.draw([chat_context(self.llm, chat, for_drawing=True)], **settings)

    # ------------------------------------------------------------------ text

    def answer(
        self,
        question: str,
        *pictures: Tensor,
        chat: Chat | None = None,
        sampling: SamplingParams | None = None,
    ) -> str:
        """Ask about pictures, each (H, W, C), about a chat, or about nothing but text."""
        text = fill_request(QUESTION_REQUEST, question, len(pictures))
        return ask(self._speaking(sampling), chat or Chat(), text, pictures)[0]

    def reason(
        self,
        prompt: str,
        *pictures: Tensor,
        chat: Chat | None = None,
        sampling: SamplingParams | None = None,
    ) -> Reasoning:
        """Think in text; the result's `caption` is for `text_to_image`."""
        return reason(self._speaking(sampling), chat or Chat(), prompt, pictures)

    # ------------------------------------------------------------------ text and pictures

    def interleave(
        self,
        prompt: str,
        chat: Chat | None = None,
        max_pictures: int = 4,
        sampling: SamplingParams | None = None,
        on_picture: OnPicture | None = None,
        **settings: Any,
    ) -> Interleaved:
        """Answer in text and pictures; picture i is drawn with seed + i."""
        options = self.settings(**settings)
        taught = self.checkpoint.declared.writes_image_token
        asked = ask_for_story(chat or Chat(), prompt, taught)

        draw = self._drawing(options)
        return interleave(self._speaking(sampling), asked, draw, max_pictures, on_picture)

    def converse(
        self,
        message: str,
        *pictures: Tensor,
        chat: Chat | None = None,
        picture_request: str = AUTO,
        max_pictures: int = 1,
        sampling: SamplingParams | None = None,
        **settings: Any,
    ) -> Interleaved:
        """Answer a message in text, pictures or both; go on with the result's `chat`.

        Args: picture_request: how the model asks for pictures, see `PICTURE_REQUESTS`.
        """
        options = self.settings(**settings)
        taught = self.checkpoint.declared.writes_image_token
        return converse(
            self._speaking(sampling),
            chat or Chat(),
            message,
            pictures,
            self._drawing(options),
            max_pictures,
            marks_captions=marks_captions(picture_request, taught),
        )

    def _drawing(self, options: DrawSettings) -> Draw:
        """Picture i of an answer is drawn with seed + i, or changed from the one before."""

        def draw(request: PictureRequest, index: int) -> Tensor:
            settings = vars(replace(options, seed=options.seed + index))
            if request.source is None:
                return self.draw([request.context], **settings)[0]
            source = request.source
            picture = torch.from_numpy(np.array(rgb_image(source.picture)))[None].float() / 255
            contexts = [source.context], [request.context]
            return self._edit_towards(picture, *contexts, STRENGTH, True, settings)[0]

        return draw

    # ------------------------------------------------------------------ parts

    def caption_contexts(self, captions: Sequence[str]) -> list[Context]:
        """What `features_of` and `visual_tokens` take for plain captions."""
        return [drawing_context(self.llm, Chat(), "caption", text) for text in captions]

    def _speaking(self, sampling: SamplingParams | None) -> ChatModel:
        return ChatModel(self.llm, sampling or SamplingParams())
