"""Thinking in text before drawing."""

from comfy_api.v0_0_2 import io

from ..blip3u_core.chat.chat import Chat
from ..blip3u_core.chat.reason import plan_edits, reason
from .checks import CheckedNode
from .inputs import chat_input, llm_input, pictures_in, sampling_inputs, sampling_of
from .types import BLIP3U_CHAT


class Reason(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_Reason",
            display_name="Reason",
            category="BLIP3-U/language",
            description="The language model thinks in text about what the picture should show, "
            "then says the final caption. Draw from the caption, or connect chat_out to Visual "
            "Tokens with an empty prompt to draw with the whole reasoning in view.",
            inputs=[
                llm_input(),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="The fruit that fell on Newton's head",
                    tooltip="What to think about: a riddle, a situation, a wish.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Pictures to think about; a batch counts one by one, in order.",
                ),
                chat_input("A dialogue that the prompt continues."),
                *sampling_inputs(),
            ],
            outputs=[
                io.String.Output(
                    "reasoning",
                    display_name="reasoning",
                    tooltip="What the model thought before it decided.",
                ),
                io.String.Output(
                    "caption",
                    display_name="caption",
                    tooltip="What to draw, in plain words, for Visual Tokens.",
                ),
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    tooltip="The chat with the thinking; Visual Tokens can draw from it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, llm, prompt, max_new_tokens, temperature, top_p, seed, image=None, chat=None
    ) -> io.NodeOutput:
        chat_model = llm.chat_model(sampling_of(max_new_tokens, temperature, top_p, seed))
        thought = reason(chat_model, chat or Chat(), prompt, pictures_in(image))
        said = [thought.reasoning, thought.caption]
        return io.NodeOutput(*said, thought.chat, ui={"text": [text for text in said if text]})


class EditPlan(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_EditPlan",
            display_name="Edit Plan",
            category="BLIP3-U/edit",
            description="The language model describes a picture, then rewrites the description "
            "by your instruction: the two captions that Edit CLIP Features moves between.",
            inputs=[
                llm_input(),
                io.Image.Input(
                    "image", tooltip="The picture to edit; of a batch, each gets its own plan."
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="Make it a winter night",
                    tooltip="What to change. Everything you do not mention should stay.",
                ),
                chat_input("A dialogue before it, so that the instruction may refer to it."),
            ],
            outputs=[
                io.String.Output(
                    "source_caption",
                    display_name="source_caption",
                    is_output_list=True,
                    tooltip="What the picture shows now; into a Visual Tokens node as the source.",
                ),
                io.String.Output(
                    "target_caption",
                    display_name="target_caption",
                    is_output_list=True,
                    tooltip="What it shall show after the edit; into a second Visual Tokens node.",
                ),
            ],
        )

    @classmethod
    def execute(cls, llm, image, instruction, chat=None) -> io.NodeOutput:
        chat_model = llm.chat_model(sampling_of(512, 0.0, 1.0, 0))
        plans = plan_edits(chat_model, chat or Chat(), pictures_in(image), instruction)
        shown = [f"{source}\n→ {target}" for source, target in plans]
        sources, targets = [source for source, _ in plans], [target for _, target in plans]
        return io.NodeOutput(sources, targets, ui={"text": shown})


NODES = (Reason, EditPlan)
