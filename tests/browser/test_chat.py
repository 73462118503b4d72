"""A conversation typed into the node: draw, ask, edit, ask, undo, another edit; saved, reloaded."""

import json

import numpy as np
import pytest
from PIL import Image

from harness.canvas import Canvas
from harness.comfy import Host
from harness.conversation import drop, save_as
from harness.graph import converse_graph
from harness.make_workflows import FIX_SEEDS
from small_world.scorer import read_scene

BUSY = "() => document.querySelector('.b3u-send').textContent == 'Stop'"
IDLE = "() => document.querySelector('.b3u-send').textContent == 'Send'"
CONVERSATION = """() => app.graph._nodes.find(n => n.type == 'BLIP3U_Converse')
    .widgets.find(w => w.name == 'conversation').value"""
EVIL = '<img src=x onerror="window.evil = 1"> **bold** <|im'


class Keyboard:
    """What a user does with the chat on the one Converse node of the page."""

    def __init__(self, canvas: Canvas, host: Host):
        self.canvas, self.page, self.host = canvas, canvas.page, host

    def say(self, text: str) -> str:
        """Type in place of what the box holds, press Enter; then the log."""
        known = self.page.evaluate(CONVERSATION)
        self.page.get_by_label("Message", exact=True).click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")
        self.page.wait_for_function(f"known => ({CONVERSATION})() != known", arg=known)
        self.page.wait_for_function(IDLE)
        return self.log()

    def press(self, button: str) -> None:
        """A button by the keyboard alone."""
        self.page.get_by_role("button", name=button, exact=True).focus()
        self.page.keyboard.press("Enter")

    def log(self) -> str:
        return self.page.get_by_role("log").inner_text()

    def turns(self) -> list[dict]:
        return json.loads(self.page.evaluate(CONVERSATION) or '{"turns": []}')["turns"]

    def drawn(self) -> set[tuple[str, str]]:
        """Colors and shapes in the last answer's picture."""
        (part,) = [part for part in self.turns()[-1]["parts"] if isinstance(part, dict)]
        file = self.host.base / "output" / part["picture"].removesuffix(" [output]")
        scene = read_scene(np.array(Image.open(file).convert("RGB")))
        return {(thing.color, thing.shape) for thing in scene.objects}


@pytest.fixture(scope="module")
def keyboard(canvas: Canvas, host: Host) -> Keyboard:
    canvas.errors.clear()
    canvas.load_api(converse_graph(), "conversation")
    canvas.page.wait_for_timeout(500)
    canvas.page.evaluate(FIX_SEEDS)
    canvas.fit()
    return Keyboard(canvas, host)


def test_draw_ask_edit_ask_undo_and_another_edit(keyboard: Keyboard, canvas: Canvas) -> None:
    keyboard.say("a big red circle in the center, on snow")
    assert keyboard.drawn() == {("red", "circle")}
    assert "red" in keyboard.say("what color is the circle?").split("?")[-1]
    keyboard.say("make the circle green")
    assert keyboard.drawn() == {("green", "circle")}
    assert "green" in keyboard.say("what color is the circle?").split("?")[-1]
    for _ in range(2):
        keyboard.press("Undo")
    assert len(keyboard.turns()) == 4
    assert keyboard.page.get_by_label("Message", exact=True).input_value() == (
        "make the circle green"
    )
    keyboard.say("make the circle blue")
    assert keyboard.turns()[-2]["parts"] == ["make the circle blue"]
    assert keyboard.drawn() == {("blue", "circle")}
    assert canvas.errors == []


def test_run_without_a_message_repeats_nothing(keyboard: Keyboard, canvas: Canvas) -> None:
    before = keyboard.turns()
    entry = canvas.run()
    (cached,) = [m[1]["nodes"] for m in entry["status"]["messages"] if m[0] == "execution_cached"]
    assert len(cached) == 3
    assert keyboard.turns() == before


def test_it_is_saved_reloaded_and_comes_back_from_its_picture(
    keyboard: Keyboard, canvas: Canvas, host: Host
) -> None:
    before, log = keyboard.turns(), keyboard.log()
    save_as(canvas, "conversation")
    canvas.open()
    canvas.page.wait_for_timeout(500)
    canvas.load(host.get("/api/userdata/workflows%2Fconversation.json"))
    canvas.page.wait_for_timeout(500)
    canvas.fit()
    assert (keyboard.turns(), keyboard.log()) == (before, log)
    keyboard.say("add a small yellow star at the top left")
    assert keyboard.drawn() == {("blue", "circle"), ("yellow", "star")}
    after = keyboard.turns()

    canvas.page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    canvas.page.wait_for_timeout(300)
    drop(canvas, max((host.base / "output").glob("*.png"), key=lambda file: file.stat().st_mtime))
    canvas.page.wait_for_function("() => app.graph._nodes.length == 3")
    assert keyboard.turns() == before
    canvas.run()
    canvas.page.wait_for_function(f"known => ({CONVERSATION})() != known", arg=json.dumps(before))
    assert keyboard.turns() == after


def test_what_a_user_types_stays_text(keyboard: Keyboard) -> None:
    log = keyboard.say(EVIL)
    assert EVIL in log
    assert keyboard.page.evaluate("() => window.evil") is None


def test_stop_keeps_what_was_said(keyboard: Keyboard, host: Host) -> None:
    keyboard.press("New")
    assert keyboard.turns() == []
    keyboard.say("a big red circle")
    host.hook(slow="TextLayer", seconds=0.1)
    keyboard.page.get_by_label("Message", exact=True).click()
    keyboard.page.keyboard.type("describe this picture completely.")
    keyboard.page.keyboard.press("Enter")
    keyboard.page.wait_for_function(BUSY)
    growing = keyboard.page.locator(".b3u-turn.assistant").last
    growing.filter(has_text="a big").wait_for()
    keyboard.press("Stop")
    keyboard.page.wait_for_function(IDLE)
    host.hook()
    asked, answer = keyboard.turns()[-2:]
    assert asked["parts"] == ["describe this picture completely."]
    assert "".join(answer["parts"]).startswith("a big")
    assert "describe this picture" in keyboard.log()
    assert keyboard.page.get_by_label("Message", exact=True).input_value() == ""
