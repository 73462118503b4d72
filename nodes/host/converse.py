"""A conversation on the canvas: its pictures lie in the output folder, its turns in the node."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.utils import get_executing_context
from PIL import Image
from safetensors.torch import load_file, save
from server import PromptServer
from torch import Tensor

from ...blip3u_core.atomic_files import save_picture, write_atomically
from ...blip3u_core.chat.chat import Chat, Turn
from ...blip3u_core.chat.converse import (
    conversation_json,
    converse,
    marks_captions,
    read_conversation,
    turn_content,
)
from ...blip3u_core.chat.interleave import (
    Interleaved,
    PictureRequest,
    readable,
    without_open_request,
)
from ...blip3u_core.images import frozen, rgb_image
from ...blip3u_core.language.generate import SamplingParams
from ...blip3u_core.language.prompt import IMG, literal
from .image_generator import ImageGenerator
from .progress import SECONDS_BETWEEN_TEXTS, TextStream
from .vision import EvaClipVision

FOLDER = "conversations"
EVENT = "blip3u.conversation"  # to the browser: the conversation so far, see web/js/chat.js
_PICTURES_KEPT = 64  # 3 MB each at 1024 x 1024
_FORMATS = ("PNG", "JPEG", "WEBP")


# ---------------------------------------------------------------- pictures by name


def picture_name(picture: Tensor) -> str:
    """Keep a picture in the output folder; its name as the host writes it, `... [output]`."""
    pixels = torch.from_numpy(np.array(rgb_image(picture)))
    name = save_picture(pixels, Path(folder_paths.get_output_directory()) / FOLDER, "picture")
    return f"{FOLDER}/{name} [output]"


def picture_path(name: str) -> Path:
    """The file of such a name. Raises ValueError for one outside of the host's folders."""
    plain, base = folder_paths.annotated_filepath(str(name))
    folder = _real_folder(base or folder_paths.get_output_directory())
    path = os.path.realpath(os.path.join(folder, plain))
    if not path.startswith(os.path.join(folder, "")):
        raise ValueError(
            f"the conversation names the picture {name!r}, expected one inside {folder}. Name "
            "pictures of the output, input or temp folder, such as 'a.png [input]'."
        )
    return Path(path)


@lru_cache(maxsize=8)
def _real_folder(folder: str) -> str:
    """Links followed once: a long conversation names dozens of pictures in every turn."""
    return os.path.realpath(folder)


def named_picture(name: str) -> Tensor:
    """The picture (H, W, 3) uint8. Raises FileNotFoundError if it was deleted."""
    path = picture_path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the conversation shows this picture. Put the file back, undo the "
            "conversation to the turn before it, or begin anew."
        )
    state = path.stat()
    return _read_picture(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=_PICTURES_KEPT)
def _read_picture(path: Path, *_state: int) -> Tensor:
    """A conversation's pictures are read again with every message: once a file is enough."""
    with Image.open(path, formats=_FORMATS) as image:
        return frozen(torch.from_numpy(np.array(image.convert("RGB"))))


# ---------------------------------------------------------------- one turn


@dataclass
class OwnChat:
    """The node's part of a chat, with the names of its pictures (by `id`)."""

    chat: Chat
    names: dict[int, str]

    @classmethod
    def read(cls, text: str) -> "OwnChat":
        names: list[str] = []

        def picture_of(name: str) -> Tensor:
            names.append(name)
            return named_picture(name)

        chat = read_conversation(text, picture_of)
        return cls(chat, dict(zip(map(id, chat.pictures), names, strict=True)))

    def name_of(self, picture: Tensor) -> str:
        if id(picture) not in self.names:
            self.names[id(picture)] = picture_name(picture)
        return self.names[id(picture)]

    def json(self, chat: Chat) -> str:
        """`chat`, which goes on from this one, as JSON."""
        return conversation_json(chat, self.name_of)


@dataclass
class ConversationView:
    """Tells the browser what is said while it is said; what it saw last survives a Cancel.

    The host's own progress text would show the same words a second time.
    """

    own: OwnChat
    asked: Chat  # the own chat with the message
    turn: Turn | None = None
    sent_at: float = 0.0

    def show(self, turn: Turn) -> None:
        before, self.turn = self.turn, turn
        drew = before is None or len(turn.pictures) > len(before.pictures)
        if (
            drew
            or turn.text.endswith(IMG)
            or time.monotonic() - self.sent_at >= SECONDS_BETWEEN_TEXTS
        ):
            self.sent_at = time.monotonic()
            _send(turn=turn_content(turn, self.own.name_of))

    def keep(self) -> None:
        """Hand over what was said before the end came early; a message without answer is not."""
        said = self.turn and without_open_request(self.turn)
        if said and said.text.strip():
            _send(conversation=self.own.json(self.asked.add(said)))


def _send(**content: Any) -> None:
    context, server = get_executing_context(), PromptServer.instance
    if context is not None and server.client_id is not None:
        told = {"node": context.node_id, "prompt_id": context.prompt_id, **content}
        server.send_sync(EVENT, told, server.client_id)


class QuietText(TextStream):
    """Counts tokens and obeys Cancel; the conversation's own view shows the text."""

    def show(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class Settings:
    """How a conversation is held."""

    max_pictures: int
    max_new_tokens: int
    picture_request: str
    remember_last: int


def answer_message(
    generator: ImageGenerator,
    before: Chat,
    own: OwnChat,
    message: str,
    pictures: list[Tensor],
    settings: Settings,
    clip_vision: EvaClipVision | None = None,
) -> tuple[Interleaved, Chat]:
    """Answer a message; the answer with the whole chat, and the node's own part of it.

    Args:
        before: what came over the socket, before the conversation begins.
        own: the node's conversation so far.
        pictures: shown with the message; those that the conversation holds are not shown again.
    """
    llm, chat = generator.llm, before
    for turn in own.chat.turns:
        chat = chat.add(turn)
    if not message.strip() and own.chat.ends_with_assistant:
        return last_answer(chat), own.chat
    new = _not_yet_shown(pictures, own.chat)
    taught = llm.checkpoint.declared.writes_image_token
    marked = marks_captions(settings.picture_request, taught)
    asked = own.chat.say("user", literal(message), new) if message.strip() else own.chat
    view = ConversationView(own, asked)
    sampling = SamplingParams(max_new_tokens=settings.max_new_tokens)
    try:
        answer = converse(
            llm.chat_model(sampling, QuietText()),
            chat,
            message,
            new,
            _drawing(generator, marked, clip_vision),
            settings.max_pictures,
            marks_captions=marked,
            remember_last=settings.remember_last,
            on_turn=view.show,
        )
    except BaseException:
        view.keep()
        raise
    return answer, Chat(answer.chat.turns[len(before.turns) :])


def last_answer(chat: Chat) -> Interleaved:
    """What was answered last, as it came out then."""
    turn = chat.turns[-1]
    return Interleaved(readable(turn.text), turn.pictures, chat)


def _not_yet_shown(pictures: list[Tensor], own: Chat) -> list[Tensor]:
    """A picture that stays connected belongs to the turn that showed it first."""
    shown = {p.numpy().tobytes() for t in own.turns if t.role == "user" for p in t.pictures}
    return [p for p in pictures if np.array(rgb_image(p)).tobytes() not in shown]


def _drawing(
    generator: ImageGenerator, marked: bool, clip_vision: EvaClipVision | None
) -> Callable[[PictureRequest, int], Tensor]:
    """What draws; for edits to come, a picture from a marked caption keeps its features."""
    if not marked:
        return generator.draw_request

    def draw(request: PictureRequest, index: int) -> Tensor:
        if request.source is None:
            picture = generator.draw(request.context, index)
        else:
            before = _features_of(request.source.picture, clip_vision)
            picture = generator.edit(request.source, before, request.context, index)
        file = _features_file(picture)
        content = save({"samples": generator.features[-1].half().cpu().contiguous()})
        write_atomically(file, lambda part: part.write(content))
        return picture

    return draw


def _features_file(picture: Tensor) -> Path:
    return picture_path(picture_name(picture)).with_suffix(".safetensors")


def _features_of(picture: Tensor, clip_vision: EvaClipVision | None) -> Tensor:
    """CLIP features (1, C, g, g): those it was drawn from, else what EVA-CLIP sees in it."""
    file = _features_file(picture)
    if file.is_file():
        return load_file(file)["samples"].float()
    if clip_vision is None:
        raise ValueError(
            "the model wants to change a picture that it did not draw, which takes its CLIP "
            "features. Connect clip_vision (Load EVA-CLIP), or ask for a new picture."
        )
    return clip_vision.clip_features(rgb_batch(picture))[0]


def rgb_batch(*pictures: Tensor) -> Tensor:
    """(B, H, W, 3) float in [0, 1]; pictures of another size are scaled to the first one's."""
    planes = [
        torch.from_numpy(np.array(rgb_image(p))).float().movedim(2, 0)[None] / 255
        if p.dtype == torch.uint8
        else p.float().movedim(2, 0)[None]
        for p in pictures
    ]
    height, width = planes[0].shape[2:]
    same = [
        p
        if p.shape[2:] == (height, width)
        else comfy.utils.common_upscale(p, width, height, "lanczos", "center")
        for p in planes
    ]
    return torch.cat(same).movedim(1, -1)


def images_output(pictures: tuple[Tensor, ...]) -> Tensor | ExecutionBlocker:
    """A turn's pictures as a batch; without any, nodes behind quietly do not run."""
    return rgb_batch(*pictures) if pictures else ExecutionBlocker(None)


def shown_images(names: list[str]) -> list[dict[str, str]]:
    """Pictures by name, as the host's gallery takes them."""
    shown = []
    for name in names:
        file = picture_path(name)
        kind = name.rsplit("[", 1)[-1].rstrip("]") if name.endswith("]") else "output"
        folder = Path(str(folder_paths.get_directory_by_type(kind))).resolve()
        relative = file.relative_to(folder)
        subfolder = relative.parent.as_posix()
        shown.append({"filename": file.name, "subfolder": subfolder.strip("."), "type": kind})
    return shown
