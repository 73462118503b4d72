"""Stories in the real host, with a language model that cannot help asking for pictures.

Its output layer is turned towards what it feels after a request and after a picture, so that
`[IMG]` is always the likeliest word.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from blip3u_core.chat.chat import Chat
from blip3u_core.chat.dialogue import chat_context
from blip3u_core.chat.files import load_chat
from blip3u_core.chat.interleave import ask_for_story
from blip3u_core.language.generate import ContextReader
from blip3u_core.language.model import build_language_model
from blip3u_core.language.prompt import DRAWN_PICTURE
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE, RANDOM_TINY, Graph, GraphError, Host

PAINTER = "always-drawing"
PROMPT = "a day at the sea"


@pytest.fixture(scope="module")
def generator(host: Host) -> str:
    """The golden random checkpoint with another output layer, as the loader lists it."""
    folder = host.base / "models" / "blip3u" / PAINTER
    shutil.copytree(ORACLE / "checkpoint", folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    llm = build_language_model(checkpoint.llm, checkpoint.assets, checkpoint.generation_config)
    asked = ask_for_story(Chat(), PROMPT, writes_sign=False)
    answered = asked.say("assistant", DRAWN_PICTURE, [torch.rand(64, 64, 3)])
    contexts = [chat_context(llm, chat) for chat in (asked, answered)]
    with torch.no_grad():
        felt = ContextReader(llm, contexts, None).read_contexts()  # (2, D)
    head = torch.zeros_like(weights["lm_head.weight"])
    head[llm.tokenizer.img_token_id] = felt.sum(0).to(head.dtype)
    save_file({**weights, "lm_head.weight": head}, file, {"format": "pt"})
    return PAINTER


def story_graph(checkpoint: str, **settings: Any) -> Graph:
    inputs = {
        "prompt": PROMPT,
        "max_images": 3,
        "seed": 7,
        "steps": 4,
        "decoder_steps": 4,
        "cfg": 3.0,
        "max_new_tokens": 40,
        **settings,
    }
    models = {"llm": ["load", 0], "model": ["load", 1], "decoder": ["load", 2], "vae": ["load", 3]}
    loader = {"checkpoint": checkpoint, "weight_dtype": "fp32"}
    return {
        "load": {"class_type": "BLIP3U_LoadModel", "inputs": loader},
        "story": {"class_type": "BLIP3U_Interleave", "inputs": {**models, **inputs}},
        "text": {"class_type": "TestSave", "inputs": {"value": ["story", 0], "name": "story"}},
        "images": {"class_type": "TestSave", "inputs": {"value": ["story", 1], "name": "pictures"}},
        "chat": {"class_type": "BLIP3U_ShowChat", "inputs": {"chat": ["story", 2]}},
    }


def pictures_of(host: Host, graph: Graph) -> torch.Tensor:
    result = host.run(graph)
    return load_file(host.file(result.outputs["images"]["files"][0]))["value"]


def test_text_pictures_and_chat_come_out(host: Host, generator: str) -> None:
    result = host.run(story_graph(generator))
    assert result.outputs["text"]["text"] == ["[picture 1]  [picture 2]  [picture 3]"]
    images = load_file(host.file(result.outputs["images"]["files"][0]))["value"]
    assert images.shape[0] == 3
    assert 0 <= images.min() < images.max() <= 1
    assert "**assistant:** [picture 1] " in result.outputs["chat"]["text"][0]
    assert len(result.outputs["story"]["images"]) == 3
    assert result.texts["story"][-1].endswith("[picture 3]")


def test_picture_i_takes_seed_plus_i(host: Host, generator: str) -> None:
    """The first picture is drawn from the request alone, so two stories share it shifted."""
    both = pictures_of(host, story_graph(generator, max_images=2, seed=20))
    first = pictures_of(host, story_graph(generator, max_images=1, seed=20))
    torch.testing.assert_close(both[:1], first, atol=1e-5, rtol=0)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_a_story_without_pictures_says_so_and_keeps_the_text(host: Host) -> None:
    graph = story_graph(RANDOM_TINY, max_new_tokens=6)
    text = host.failure(graph)
    assert "asked for no picture" in text
    del graph["images"]
    result = host.run(graph)
    assert result.outputs["text"]["text"][0]
    assert "a day at the sea" in result.outputs["chat"]["text"][0]


def test_an_empty_prompt_without_chat_is_refused(host: Host) -> None:
    assert "the prompt is empty" in host.failure(story_graph(RANDOM_TINY, prompt=" "))


def test_cancel_keeps_what_was_made(host: Host, generator: str) -> None:
    shown: list[dict] = []
    host.hook(slow="HostedNextDiT", seconds=0.1)

    def cancel(event: dict) -> None:
        data = event["data"]
        if event["type"] == "executed" and data["node"] == "story":
            shown.append(data)
        if shown and event["type"] == "progress":
            host.interrupt()

    with pytest.raises(GraphError) as caught:
        host.run(story_graph(generator, seed=99, steps=30), on_event=cancel)
    host.hook()
    assert caught.value.interrupted
    files = [host.file(image) for image in shown[-1]["output"]["images"]]
    assert len(files) >= 1
    assert all(Image.open(file).size[0] > 0 for file in files)
    chat = load_chat(only_file(host.base / "output" / "chats"))
    assert len(chat.pictures) == len(files)
    assert chat.turns[-1].role == "assistant"
    assert len(pictures_of(host, story_graph(generator, max_images=1))) == 1


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("unfinished story *.json")
    return file
