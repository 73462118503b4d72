"""A conversation typed into the node: draw, ask, edit, ask, undo, another edit; saved, reloaded."""

import json

import pytest

from harness.canvas import Canvas, open_tab
from harness.comfy import Host
from harness.conversation import CONVERSATION, Keyboard, drop, save_as
from harness.graph import converse_graph

EVIL = '<img src=x onerror="window.evil = 1"> **bold** <|im'


@pytest.fixture(scope="module")
def keyboard(canvas: Canvas) -> Keyboard:
    keyboard = Keyboard(canvas)
    keyboard.begin_with(converse_graph())
    return keyboard


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
    assert keyboard.box.input_value() == "make the circle green"
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
    keyboard.send("describe this picture completely.")
    keyboard.wait_until_button_says("Stop")
    growing = keyboard.page.locator(".b3u-turn.assistant").last
    growing.filter(has_text="a big").wait_for()
    keyboard.press("Stop")
    keyboard.wait_until_button_says("Send")
    host.hook()
    asked, answer = keyboard.turns()[-2:]
    assert asked["parts"] == ["describe this picture completely."]
    assert "".join(answer["parts"]).startswith("a big")
    assert "describe this picture" in keyboard.log()
    assert keyboard.box.input_value() == ""


def test_a_picture_is_seen_while_it_is_drawn(keyboard: Keyboard, host: Host) -> None:
    keyboard.press("New")
    host.hook(previews=True, slow="DecoderUNet", seconds=0.1)
    keyboard.send("a big red circle in the center, on snow")
    making = keyboard.page.get_by_role("log").get_by_role("img", name="Drawing")
    making.wait_for()
    assert making.evaluate("async image => (await image.decode(), image.naturalWidth)") > 0
    keyboard.answered()
    host.hook()
    assert making.count() == 0
    assert keyboard.drawn() == {("red", "circle")}


def test_two_tabs_hold_two_conversations(keyboard: Keyboard, canvas: Canvas) -> None:
    keyboard.press("New")
    canvas.errors.clear()
    with open_tab(canvas) as tab:
        other = Keyboard(tab)
        other.begin_with(converse_graph())
        keyboard.send("a big red circle in the center")
        other.send("a big blue square in the center")
        keyboard.answered()
        other.answered()
        assert (keyboard.drawn(), other.drawn()) == ({("red", "circle")}, {("blue", "square")})
        assert "blue" in other.say("what color is the square?").split("?")[-1]
        assert "red" in keyboard.say("what color is the circle?").split("?")[-1]
        assert [len(chat.turns()) for chat in (keyboard, other)] == [4, 4]
        assert "square" not in keyboard.log()
        assert "circle" not in other.log()
        assert tab.errors == canvas.errors == []
