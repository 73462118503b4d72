"""A conversation that stays in its node."""

from comfy_api.v0_0_2 import io

from ..blip3u_core.chat.chat import Chat
from ..blip3u_core.chat.converse import AUTO, PICTURE_REQUESTS
from .checks import CheckedNode
from .decode import sampling_inputs
from .host.converse import OwnChat, Settings, answer_message, images_output, shown_images
from .host.drawing import OWN_SCHEDULE
from .host.image_generator import ImageGenerator
from .inputs import chat_input, llm_input, pictures_in
from .interleave import Interleave, count
from .types import BLIP3U_CHAT


class Converse(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_Converse",
            display_name="Converse",
            category="BLIP3-U/chat",
            description="Write a message, press Enter, and the model answers in text, pictures, "
            "or both, as it sees fit: ask, draw, edit, go on. The conversation stays in this node "
            "and is saved with the workflow.",
            inputs=[
                llm_input(),
                *Interleave.models(),
                *cls.texts(),
                *cls.settings(),
                *cls.optional(),
            ],
            outputs=[
                io.String.Output(
                    "answer",
                    display_name="answer",
                    tooltip="The answer to the last message; [picture 1] ... mark its pictures.",
                ),
                io.Image.Output(
                    "images",
                    display_name="images",
                    tooltip="The pictures of the last answer as a batch. Nodes behind wait where "
                    "an answer has none.",
                ),
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    tooltip="The whole conversation, for Save Chat or another way to go on.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def texts(cls) -> list[io.Input]:
        return [
            io.String.Input(
                "message",
                multiline=True,
                default="",
                tooltip="What you say next. Empty gives the last answer once more, without asking "
                "the model.",
            ),
            io.String.Input(
                "conversation",
                multiline=True,
                default="",
                tooltip="What was said so far, as JSON; pictures by their names in the output "
                "folder. Empty begins anew. The chat on the node writes it; over the API take it "
                "from the node's output `conversation`.",
            ),
        ]

    @classmethod
    def settings(cls) -> list[io.Input]:
        return [
            count("max_images", 1, 64, "The answer ends with its last allowed picture."),
            *Interleave.settings()[1:],
            io.Combo.Input(
                "picture_request",
                options=list(PICTURE_REQUESTS),
                default=AUTO,
                tooltip="How the model asks for a picture. [IMG] token: for models that were "
                "taught it, such as blip3u-tiny. marked caption: for any other, such as the "
                "published 8B and 4B; edits then move the last picture's CLIP features. auto: "
                "what the checkpoint says.",
            ),
            io.Int.Input(
                "remember_last",
                default=0,
                min=0,
                max=10000,
                tooltip="How many turns before the message the model reads; 0 reads all. Set it "
                "when a conversation grows too long. Nothing is deleted.",
            ),
        ]

    @classmethod
    def optional(cls) -> list[io.Input]:
        return [
            io.Image.Input(
                "image",
                optional=True,
                tooltip="Pictures that you show with the message. One that stays connected is "
                "shown once.",
            ),
            chat_input("What came before this conversation, such as a system message."),
            io.ClipVision.Input(
                "clip_vision",
                optional=True,
                tooltip="Load EVA-CLIP. Only for marked captions: to change a picture that the "
                "model did not draw.",
            ),
            *sampling_inputs("decoder_sampler", "decoder_scheduler"),
        ]

    @classmethod
    def execute(
        cls,
        llm,
        model,
        decoder,
        vae,
        message,
        conversation,
        max_images,
        seed,
        steps,
        decoder_steps,
        cfg,
        max_new_tokens,
        picture_request,
        remember_last,
        image=None,
        chat=None,
        clip_vision=None,
        decoder_sampler="euler",
        decoder_scheduler=OWN_SCHEDULE,
    ) -> io.NodeOutput:
        drawing = seed, steps, decoder_steps, cfg, decoder_sampler, decoder_scheduler
        generator = ImageGenerator(llm, model, decoder, vae, *drawing)
        own = OwnChat.read(conversation)
        settings = Settings(max_images, max_new_tokens, picture_request, remember_last)
        answer, continued = answer_message(
            generator, chat or Chat(), own, message, pictures_in(image), settings, clip_vision
        )
        names = [own.name_of(picture) for picture in continued.turns[-1].pictures]
        ui = {
            "conversation": [own.json(continued)],
            "text": [answer.text],
            "images": shown_images(names),
        }
        return io.NodeOutput(answer.text, images_output(answer.pictures), answer.chat, ui=ui)


NODES = (Converse,)
