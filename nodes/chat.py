"""Dialogues: made, shown, shortened, saved and loaded."""

import torch
from comfy_api.v0_0_2 import io, ui

from ..blip3u_core.chat.chat import Chat
from ..blip3u_core.chat.converse import conversation_json
from ..blip3u_core.chat.files import load_chat, save_chat
from ..blip3u_core.language.prompt import ROLES, literal
from .checks import CheckedNode
from .host.chats import chat_names, chat_to_load, chat_to_save
from .inputs import chat_input, pictures_in
from .types import BLIP3U_CHAT


class ChatMessage(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_ChatMessage",
            display_name="Chat Message",
            category="BLIP3-U/chat",
            description="Add one message to a chat, or begin one. The chat that comes in stays as "
            "it is, so two nodes may continue it in different ways.",
            inputs=[
                chat_input("The chat to continue; without it a new one begins."),
                io.Combo.Input(
                    "role",
                    options=list(ROLES),
                    default="user",
                    tooltip="Who speaks. system: the standing orders, only first. assistant: what "
                    "the model said or drew, such as a generated picture.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="The message. It may be empty if a picture is connected.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Pictures of the message; a batch counts one by one, in order.",
                ),
            ],
            outputs=[
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    tooltip="The chat with the new message at its end.",
                )
            ],
        )

    @classmethod
    def execute(cls, role, text, chat=None, image=None) -> io.NodeOutput:
        return io.NodeOutput((chat or Chat()).say(role, literal(text), pictures_in(image)))


class ShowChat(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_ShowChat",
            display_name="Show Chat",
            category="BLIP3-U/chat",
            description="Show a chat's text and pictures on the node.",
            inputs=[BLIP3U_CHAT.Input("chat", tooltip="The chat to show.")],
            outputs=[
                io.String.Output(
                    "markdown",
                    display_name="markdown",
                    tooltip="The chat as text; [picture n] marks the pictures, in order.",
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, chat) -> io.NodeOutput:
        markdown = chat.markdown()
        shown = shown_pictures(cls, chat)
        names = iter(f"{p['subfolder']}/{p['filename']} [{p['type']}]" for p in shown["images"])
        conversation = conversation_json(chat, lambda _picture: next(names).lstrip("/"))
        ui = {"text": [markdown], "conversation": [conversation], **shown}
        return io.NodeOutput(markdown, ui=ui)


class ShortenChat(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_ShortenChat",
            display_name="Shorten Chat",
            category="BLIP3-U/chat",
            description="Keep a chat's system message and its last turns, so that it fits into "
            "what the language model can read.",
            inputs=[
                BLIP3U_CHAT.Input("chat", tooltip="The chat to shorten."),
                io.Int.Input(
                    "keep_last",
                    default=6,
                    min=0,
                    max=10000,
                    tooltip="Turns to keep, counted from the end; what is kept begins with a user "
                    "turn, so it may be one less. 0 keeps the system message alone.",
                ),
            ],
            outputs=[
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    tooltip="The system message and the last turns.",
                )
            ],
        )

    @classmethod
    def execute(cls, chat, keep_last) -> io.NodeOutput:
        return io.NodeOutput(chat.last_turns(keep_last))


class SaveChat(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_SaveChat",
            display_name="Save Chat",
            category="BLIP3-U/chat",
            description="Write a chat to output/chats: a JSON file with its pictures as PNG files "
            "beside it. An older chat of that name is replaced.",
            inputs=[
                BLIP3U_CHAT.Input("chat", tooltip="The chat to save."),
                io.String.Input(
                    "name", default="my chat", tooltip="The file's name, without folder or ending."
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, chat, name) -> io.NodeOutput:
        path = chat_to_save(name)
        save_chat(chat, path)
        return io.NodeOutput(ui={"text": [f"{path.name}: {len(chat.turns)} turns"]})


class LoadChat(CheckedNode):
    growing_lists = frozenset({"name"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_LoadChat",
            display_name="Load Chat",
            category="BLIP3-U/chat",
            description="Read a chat that Save Chat wrote, from output/chats or input/chats.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=chat_names(),
                    tooltip="The saved chat. Press R to see chats saved since the page loaded.",
                )
            ],
            outputs=[
                BLIP3U_CHAT.Output(
                    "chat_out",
                    display_name="chat_out",
                    tooltip="The chat as it was saved, pictures included.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name) -> bool:
        return True  # a chat may have been saved since the list was made; execute says what lacks

    @classmethod
    def fingerprint_inputs(cls, name) -> float:
        return chat_to_load(name).stat().st_mtime

    @classmethod
    def execute(cls, name) -> io.NodeOutput:
        return io.NodeOutput(load_chat(chat_to_load(name)))


def shown_pictures(node: type[CheckedNode], chat: Chat) -> dict:
    """The pictures for the node's face; they may differ in size."""
    batches = [picture[None].to(torch.float32) / 255 for picture in chat.pictures]
    return {"images": [v for batch in batches for v in ui.PreviewImage(batch, cls=node).values]}


NODES = (ChatMessage, ShowChat, ShortenChat, SaveChat, LoadChat)
