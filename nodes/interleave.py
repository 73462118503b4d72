"""Text and pictures in turn."""

from comfy_api.v0_0_2 import io

from ..blip3u_core.chat.chat import Chat
from ..blip3u_core.features.flow import GUIDANCE_SCALE, NUM_STEPS
from ..blip3u_core.seeds import LARGEST_SEED
from .checks import CheckedNode
from .decode import sampling_inputs
from .host.drawing import OWN_SCHEDULE
from .host.interleave import ImageGenerator, picture_batch, tell_story
from .inputs import chat_input, llm_input
from .types import BLIP3U_CHAT


class Interleave(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_Interleave",
            display_name="Interleaved Text and Images",
            category="BLIP3-U/language",
            description="The language model tells in text and pictures: where it asks for one, it "
            "is drawn from all before it, shown to it, and it goes on. Text and pictures appear "
            "on the node as they come and stay there if you cancel.",
            inputs=[
                llm_input(),
                *cls.models(),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="Tell the story of a seed that becomes a tree",
                    tooltip="What to tell. Leave it empty to answer a chat that ends with a user "
                    "message.",
                ),
                *cls.settings(),
                chat_input("A dialogue that the prompt continues; its pictures are seen too."),
                *sampling_inputs("decoder_sampler", "decoder_scheduler"),
            ],
            outputs=[
                io.String.Output(
                    "text",
                    display_name="text",
                    tooltip="[picture 1], [picture 2] ... say where the pictures belong.",
                ),
                io.Image.Output(
                    "images", display_name="images", tooltip="The pictures in order, as a batch."
                ),
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    tooltip="The chat with the whole story, pictures included.",
                ),
            ],
        )

    @classmethod
    def models(cls) -> list[io.Input]:
        return [
            io.Model.Input("model", tooltip="The DiT: the model output of Load BLIP3-U."),
            io.Model.Input("decoder", tooltip="The decoder output of Load BLIP3-U."),
            io.Vae.Input("vae", tooltip="The vae output of Load BLIP3-U."),
        ]

    @classmethod
    def settings(cls) -> list[io.Input]:
        return [
            count("max_images", 4, 64, "The answer ends where one picture more is asked for."),
            io.Int.Input(
                "seed",
                default=0,
                min=0,
                max=LARGEST_SEED,
                control_after_generate=True,
                tooltip="Of the first picture; the next ones take seed + 1, seed + 2 ... The text "
                "is always the likeliest.",
            ),
            count("steps", NUM_STEPS, 1000, "Flow steps of each picture's CLIP features."),
            count("decoder_steps", 50, 1000, "Steps of the decoder for each picture."),
            io.Float.Input(
                "cfg",
                default=GUIDANCE_SCALE,
                min=0.0,
                max=100.0,
                step=0.1,
                round=0.01,
                tooltip="Guidance scale of features and decoder; 3 is the published setting.",
            ),
            count("max_new_tokens", 1024, 32768, "The whole text ends here at the latest."),
        ]

    @classmethod
    def execute(
        cls,
        llm,
        model,
        decoder,
        vae,
        prompt,
        max_images,
        seed,
        steps,
        decoder_steps,
        cfg,
        max_new_tokens,
        chat=None,
        decoder_sampler="euler",
        decoder_scheduler=OWN_SCHEDULE,
    ) -> io.NodeOutput:
        drawing = seed, steps, decoder_steps, cfg, decoder_sampler, decoder_scheduler
        generator = ImageGenerator(llm, model, decoder, vae, *drawing)
        story, shown = tell_story(generator, chat or Chat(), prompt, max_images, max_new_tokens)
        images = picture_batch(story)
        ui = {"text": [story.text], "images": shown}
        return io.NodeOutput(story.text, images, story.chat, ui=ui)


def count(name: str, default: int, largest: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=1, max=largest, tooltip=tooltip)


NODES = (Interleave,)
