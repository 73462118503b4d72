"""Text files beside the pictures of a folder."""

import logging

from comfy_api.v0_0_2 import io

from ..blip3u_core.chat.caption_folder import KEEP, REPLACE, caption_folder
from ..blip3u_core.chat.picture_folder import add_pictures, folder_state
from .checks import CheckedNode
from .host.folders import picture_folder
from .inputs import llm_input, pictures_in, sampling_inputs, sampling_of


class CaptionFolder(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_CaptionFolder",
            display_name="Caption Folder",
            category="BLIP3-U/language",
            description="Ask about every picture of a folder and write each answer into a text "
            "file beside it, as trainers expect. Run it again after Cancel and it goes on.",
            inputs=[
                llm_input(),
                io.String.Input(
                    "folder",
                    default="my pictures",
                    tooltip="A folder below ComfyUI's input folder; a link there to another "
                    "place works too. cat.png gets cat.txt beside it.",
                ),
                io.String.Input(
                    "question",
                    multiline=True,
                    default="Describe this picture completely.",
                    tooltip="Asked about each picture by itself.",
                ),
                io.Combo.Input(
                    "existing",
                    options=[KEEP, REPLACE],
                    default=KEEP,
                    tooltip="Pictures that have a text already. keep: leave them, yours or an "
                    "earlier run's. replace: ask again and write over it.",
                ),
                *sampling_inputs(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Pictures that are put into the folder first, as PNG files; the same "
                    "picture twice is one file.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "captions",
                    display_name="captions",
                    is_output_list=True,
                    tooltip="The text of every picture, sorted by file name; old ones too.",
                ),
                io.String.Output(
                    "names",
                    display_name="names",
                    is_output_list=True,
                    tooltip="The pictures' file names, in the same order.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, folder, **_) -> list[tuple]:
        """Runs again when a picture came, went or changed, or a text did."""
        return folder_state(picture_folder(folder, new=True))

    @classmethod
    def execute(
        cls,
        llm,
        folder,
        question,
        existing,
        max_new_tokens,
        temperature,
        top_p,
        seed,
        image=None,
    ) -> io.NodeOutput:
        path = picture_folder(folder, new=image is not None)
        add_pictures(path, pictures_in(image))
        chat_model = llm.chat_model(sampling_of(max_new_tokens, temperature, top_p, seed))
        found = caption_folder(chat_model, path, question, existing)
        names, captions = list(found.texts), list(found.texts.values())
        shown = [f"{name}: {caption}" for name, caption in found.texts.items()]
        for line in found.report():
            logging.warning("BLIP3-U Caption Folder: %s", line)
        return io.NodeOutput(captions, names, ui={"text": [*shown, *found.report()]})


NODES = (CaptionFolder,)
