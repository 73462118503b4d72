"""A story in text and pictures by the host's models; what is made stays when the user cancels."""

from dataclasses import dataclass, field

import torch
from comfy_api.v0_0_2 import ui
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from ...blip3u_core.chat.chat import Chat
from ...blip3u_core.chat.files import save_chat
from ...blip3u_core.chat.interleave import Interleaved, ask_for_story, interleave
from ...blip3u_core.language.generate import SamplingParams
from .chats import chat_to_save
from .image_generator import ImageGenerator
from .progress import TextStream

UNFINISHED = "unfinished story"
NO_PICTURE = (
    "the language model asked for no picture, so there are no images; its text and chat_out are "
    "there. Ask for pictures in the prompt, raise max_new_tokens, or draw with Visual Tokens."
)


@dataclass
class PartialResult:
    """Shows each picture on the node as it comes, and saves the chat of a story cut short."""

    shown: list = field(default_factory=list)
    story: Interleaved | None = None

    def show(self, story: Interleaved) -> None:
        self.story = story
        self.shown += ui.PreviewImage(story.pictures[-1][None]).values
        context, server = get_executing_context(), PromptServer.instance
        if context is not None and server.client_id is not None:
            shown = {
                "node": context.node_id,
                "display_node": context.node_id,
                "output": {"images": self.shown},
                "prompt_id": context.prompt_id,
            }
            server.send_sync("executed", shown, server.client_id)

    def save(self) -> None:
        """The chat so far goes to `chats/` in the output folder, where Load Chat finds it."""
        context = get_executing_context()
        if self.story is not None and context is not None:
            save_chat(self.story.chat, chat_to_save(f"{UNFINISHED} {context.prompt_id[:8]}"))


def tell_story(
    generator: ImageGenerator, chat: Chat, prompt: str, max_pictures: int, max_new_tokens: int
) -> tuple[Interleaved, list]:
    """The story, and its pictures as the node shows them."""
    llm, partial = generator.llm, PartialResult()
    asked = ask_for_story(chat, prompt, llm.checkpoint.declared.writes_image_token)
    chat_model = llm.chat_model(SamplingParams(max_new_tokens=max_new_tokens))
    try:
        story = interleave(chat_model, asked, generator.draw_request, max_pictures, partial.show)
    except BaseException:
        partial.save()
        raise
    TextStream().show(story.text)
    return story, partial.shown


def picture_batch(story: Interleaved) -> Tensor | ExecutionBlocker:
    """The pictures (B, H, W, 3); without any, nodes that wait for them say why they do not run."""
    return torch.stack(story.pictures) if story.pictures else ExecutionBlocker(NO_PICTURE)
