"""A conversation over the API: the node's output `conversation` is the next call's input."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import run
from blip3u_core.language.prompt import IMG
from harness.comfy import RANDOM_TINY, Graph, GraphError, Host, Result
from small_world.scorer import read_scene

TINY = "blip3u-tiny (built-in)"


def turn_graph(message: str, conversation: str = "", checkpoint: str = TINY, **more: Any) -> Graph:
    models = {"llm": ["load", 0], "model": ["load", 1], "decoder": ["load", 2], "vae": ["load", 3]}
    settings = {
        "max_images": 1,
        "seed": 7,
        "steps": 20,
        "decoder_steps": 12,
        "cfg": 3.0,
        "max_new_tokens": 60,
        "picture_request": "auto",
        "remember_last": 0,
        **more,
    }
    inputs = {**models, "message": message, "conversation": conversation, **settings}
    loader = {"checkpoint": checkpoint, "weight_dtype": "fp32"}
    return {
        "load": {"class_type": "BLIP3U_LoadModel", "inputs": loader},
        "talk": {"class_type": "BLIP3U_Converse", "inputs": inputs},
        "chat": {"class_type": "BLIP3U_ShowChat", "inputs": {"chat": ["talk", 2]}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["talk", 1]}},
    }


def said(result: Result) -> tuple[str, str]:
    """The answer, and the conversation with it."""
    shown = result.outputs["talk"]
    return shown["text"][0], shown["conversation"][0]


def objects(host: Host, result: Result) -> set[tuple[str, str]]:
    (image,) = result.outputs["talk"]["images"]
    assert image["type"] == "output"
    picture = np.array(Image.open(host.file(image)).convert("RGB"))
    return {(thing.color, thing.shape) for thing in read_scene(picture).objects}


def test_draw_ask_edit_ask_undo_and_another_edit(host: Host) -> None:
    drawn = host.run(turn_graph("a big red circle in the center, on snow"))
    _, first = said(drawn)
    assert objects(host, drawn) == {("red", "circle")}
    assert drawn.outputs["show"]["images"]

    asked = host.run(turn_graph("what color is the circle?", first))
    answer, second = said(asked)
    assert answer.strip(".") == "red"
    assert "images" not in asked.outputs.get("show", {})

    edited = host.run(turn_graph("make the circle green", second))
    _, third = said(edited)
    assert objects(host, edited) == {("green", "circle")}

    again = host.run(turn_graph("what color is the circle?", third))
    assert said(again)[0].strip(".") == "green"
    assert [turn["role"] for turn in json.loads(said(again)[1])["turns"]] == [
        "user",
        "assistant",
    ] * 4

    other = host.run(turn_graph("make the circle blue", second))  # the edit undone
    assert objects(host, other) == {("blue", "circle")}
    assert "**user:** make the circle blue" in other.outputs["chat"]["text"][0]
    assert "green" not in other.outputs["chat"]["text"][0]


def test_an_empty_message_repeats_the_last_answer_without_the_model(host: Host) -> None:
    first = host.run(turn_graph("a blue star"))
    again = host.run(turn_graph(" ", said(first)[1], seed=99))
    assert said(again) == said(first)
    assert again.outputs["talk"]["images"] == first.outputs["talk"]["images"]
    assert again.outputs["show"]["images"]
    assert "the message is empty" in host.failure(turn_graph(" "))


def test_the_same_turn_is_not_computed_twice(host: Host) -> None:
    graph = turn_graph("a yellow ring")
    host.run(graph)
    assert "talk" not in host.run(graph).executed


def test_words_stream_and_a_picture_that_stays_connected_is_shown_once(host: Host) -> None:
    events: list[dict] = []
    Image.new("RGB", (128, 128), "white").save(host.base / "input" / "white.png")

    def listen(event: dict) -> None:
        if event["type"] == "blip3u.conversation":
            events.append(event["data"])

    graph = turn_graph("what is in this picture?")
    graph["look"] = {"class_type": "LoadImage", "inputs": {"image": "white.png"}}
    graph["talk"]["inputs"]["image"] = ["look", 0]
    answer, conversation = said(host.run(graph, on_event=listen))
    assert answer
    assert {event["node"] for event in events} == {"talk"}
    assert events[0]["turn"]["role"] == "assistant"
    graph["talk"]["inputs"].update(message="and now?", conversation=conversation)
    _, conversation = said(host.run(graph))
    first, _, second, _ = json.loads(conversation)["turns"]
    assert [type(part) for part in first["parts"]] == [dict, str]
    assert second["parts"] == ["and now?"]


def test_cancel_keeps_what_was_said(host: Host) -> None:
    kept: list[str] = []
    host.hook(slow="TextLayer", seconds=0.02)

    def cancel(event: dict) -> None:
        data = event["data"]
        if event["type"] != "blip3u.conversation":
            return
        if "conversation" in data:
            kept.append(data["conversation"])
        elif data["turn"]["parts"]:
            host.interrupt()

    with pytest.raises(GraphError) as caught:
        host.run(turn_graph("hello", checkpoint=RANDOM_TINY, max_new_tokens=400), on_event=cancel)
    host.hook()
    assert caught.value.interrupted
    (conversation,) = kept
    roles = [turn["role"] for turn in json.loads(conversation)["turns"]]
    assert roles == ["user", "assistant"]


def test_marked_captions_draw_and_edit(host: Host) -> None:
    """What a model would say that never learnt [IMG]; the pictures are really drawn and edited."""
    marked = {"picture_request": "marked caption", "steps": 30}
    circle, square = "a big red circle in the center, on snow", "a big red square in the center"
    host.hook(script=[f"Here. <picture>{circle}</picture>"])
    first = host.run(turn_graph("draw a circle", **marked))
    answer, conversation = said(first)
    assert answer.lower().split() == ["here.", "[picture", "1]"]
    assert objects(host, first) == {("red", "circle")}
    host.hook(script=[f"<edit>{circle.replace('red', 'blue')}</edit>"])
    second = host.run(turn_graph("make it blue", conversation, **marked))
    assert objects(host, second) == {("blue", "circle")}
    assert IMG not in conversation
    host.hook(script=[f"<edit>{square}</edit>"])
    Image.new("RGB", (128, 128), "white").save(host.base / "input" / "white.png")
    graph = turn_graph("a square instead", **marked)
    graph["look"] = {"class_type": "LoadImage", "inputs": {"image": "white.png"}}
    graph["talk"]["inputs"]["image"] = ["look", 0]
    assert "Connect clip_vision" in host.failure(graph)


@pytest.mark.parametrize(
    ("message", "conversation", "words"),
    [
        ("a \ud800", "", "half a character"),
        ("word " * 200_000, "", "shorten it"),
        ("hello", "{", "the conversation cannot be read"),
        ("hello", "gone.png [output]", "is missing: the conversation shows this picture"),
        ("hello", "../../secret.png [output]", "expected one inside"),
    ],
)
def test_bad_input_is_told(host: Host, message: str, conversation: str, words: str) -> None:
    if conversation.endswith("]"):
        turns = [
            {"role": "user", "parts": ["a cat"]},
            {"role": "assistant", "parts": [{"picture": conversation}]},
        ]
        content = {"format": "blip3u-conversation", "version": 1, "turns": turns}
        conversation = json.dumps(content)
    assert words in host.failure(turn_graph(message, conversation))


def test_a_conversation_that_outgrows_the_model_says_how_much_to_remember(host: Host) -> None:
    turns = [
        {"role": role, "parts": ["word " * 900]} for _ in range(6) for role in ("user", "assistant")
    ]
    content = {"format": "blip3u-conversation", "version": 1, "turns": turns}
    text = host.failure(turn_graph("hello", json.dumps(content)))
    assert "remember_last" in text


def test_the_demo_is_a_conversation(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    comfy = run.Comfy(host.base, Path(sys.executable))
    monkeypatch.setattr(run, "set_up", lambda: comfy)
    monkeypatch.setattr(run, "running", lambda _comfy: nullcontext(host.url))
    assert run.demo([]) == 0
    lines = capsys.readouterr().out.splitlines()
    answers = [line.split("blip3-u: ")[1] for line in lines if "blip3-u: " in line]
    assert len(answers) == len(run.MESSAGES)
    assert answers[1].strip(".") == "red"
    assert all(Path(answers[i].split()[-1]).is_file() for i in (0, 2))
    assert str(host.base / "output" / "conversations") in lines[-1]
