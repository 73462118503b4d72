"""What the language model gives: visual tokens to draw from, and answers."""

import torch
from comfy_api.v0_0_2 import io

from ..blip3u_core.chat.chat import Chat
from ..blip3u_core.chat.dialogue import drawing_context
from ..blip3u_core.language.prompt import QUESTION_REQUEST, fill_request, literal
from .checks import CheckedNode
from .inputs import (
    chat_input,
    image_inputs,
    llm_input,
    more_image_inputs,
    pictures_in,
    sampling_inputs,
    sampling_of,
)
from .types import BLIP3U_CHAT

ONE_EACH = "one answer per image"
ALL_IN_ONE = "all images in one question"


class VisualTokens(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_VisualTokens",
            display_name="Visual Tokens",
            category="BLIP3-U/language",
            description="The language model reads a prompt, pictures and a chat, and says what to "
            "draw: visual tokens, the condition of the CLIP-feature sampler.",
            inputs=[
                llm_input(),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="A photo of a cute cat",
                    tooltip="What to draw. Leave it empty to draw from the connected chat alone, "
                    "for example after Reason.",
                ),
                io.Combo.Input(
                    "template",
                    options=["caption", "instruction", "raw"],
                    default="caption",
                    tooltip="caption: a description of the picture. instruction: what to do with "
                    "the connected images. raw: the text as it is, special tokens act and "
                    "<image> marks each picture.",
                ),
                *image_inputs(),
                chat_input("A dialogue before the prompt; its pictures are seen too."),
                *more_image_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="Visual tokens (1, Q, D), for CLIP Feature Sampler or KSampler.",
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="Zeros: the null condition that the sampler guides away from.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        llm,
        prompt,
        template,
        image=None,
        image_2=None,
        image_3=None,
        image_4=None,
        chat=None,
        more_images=None,
    ) -> io.NodeOutput:
        pictures = pictures_in(image, image_2, image_3, image_4, more=more_images)
        context = drawing_context(llm.network(), chat or Chat(), template, prompt, pictures)
        tokens = llm.visual_tokens([context])  # (1, Q, D)
        return io.NodeOutput([[tokens, {}]], [[torch.zeros_like(tokens), {}]])


class VQA(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_VQA",
            display_name="VQA",
            category="BLIP3-U/language",
            description="Ask the language model about pictures, or about nothing but text. The "
            "answer appears on the node while it is written.",
            inputs=[
                llm_input(),
                io.String.Input(
                    "question",
                    multiline=True,
                    default="What is in this picture?",
                    tooltip="The question, or any message to the assistant.",
                ),
                *image_inputs(),
                chat_input("A dialogue that the question continues."),
                io.Combo.Input(
                    "batch_mode",
                    options=[ONE_EACH, ALL_IN_ONE],
                    default=ONE_EACH,
                    tooltip="Of several pictures: ask about each by itself (a list of answers, "
                    "written together), or show all of them in one question.",
                ),
                *sampling_inputs(),
                *more_image_inputs(),
            ],
            outputs=[
                io.String.Output(
                    "answer",
                    display_name="answer",
                    is_output_list=True,
                    tooltip="What the model said; a list where several pictures were asked about.",
                ),
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    is_output_list=True,
                    tooltip="The chat with question and answer; one chat per answer.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        llm,
        question,
        batch_mode,
        max_new_tokens,
        temperature,
        top_p,
        seed,
        image=None,
        image_2=None,
        image_3=None,
        image_4=None,
        chat=None,
        more_images=None,
    ) -> io.NodeOutput:
        pictures = pictures_in(image, image_2, image_3, image_4, more=more_images)
        chat_model = llm.chat_model(sampling_of(max_new_tokens, temperature, top_p, seed))
        chat = chat or Chat()
        if batch_mode == ONE_EACH and len(pictures) > 1:
            asked = [chat.say("user", literal(question), [picture]) for picture in pictures]
        else:
            words = fill_request(QUESTION_REQUEST, question, len(pictures))
            asked = [chat.say("user", words, pictures)]
        answers = chat_model.answer(asked, in_words=True)
        texts = [text for text, _ in answers]
        return io.NodeOutput(texts, [chat for _, chat in answers], ui={"text": texts})


NODES = (VisualTokens, VQA)
