"""A conversation where the frontend draws nodes as HTML (its Nodes 2.0): draw, ask, undo."""

import json
from collections.abc import Iterator

import pytest

from harness.canvas import Canvas, open_tab
from harness.comfy import REPOSITORY, Host
from harness.conversation import Keyboard
from harness.graph import converse_graph

SETTING = "Comfy.VueNodes.Enabled"
AT_END = """() => {
    const log = document.querySelector('.b3u-log');
    return log.scrollHeight > log.clientHeight + 10
        && log.scrollHeight - log.scrollTop - log.clientHeight < 10;
}"""
PICTURES_BELOW = """() => [...document.querySelectorAll('[data-node-id]:has(.b3u-chat) img')]
    .filter(image => !image.closest('.b3u-chat') && image.checkVisibility()).length"""

OVERLAPS = """() => {
    const nodes = [...document.querySelectorAll('[data-node-id]')].map(node =>
        [node.dataset.nodeId, node.getBoundingClientRect()]);
    return nodes.flatMap(([one, a], index) => nodes.slice(index + 1).filter(([, b]) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
    ).map(([other]) => `${one} on ${other}`));
}"""


def version_of(canvas: Canvas) -> list[int]:
    version = canvas.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    return [int(part) for part in version.split(".")[:2]]


@pytest.fixture(scope="module")
def keyboard(canvas: Canvas, host: Host) -> Iterator[Keyboard]:
    before = canvas.page.evaluate("name => app.extensionManager.setting.get(name)", SETTING)
    host.post("/api/settings", {SETTING: True})
    try:
        with open_tab(canvas) as tab:
            if not tab.page.evaluate("() => Boolean(LiteGraph.vueNodesMode)"):
                pytest.skip(f"this frontend has no {SETTING}: no Nodes 2.0 to test")
            if version_of(tab) < [1, 32]:
                pytest.skip("the first trial of Nodes 2.0 leaves out the widgets of packs")
            keyboard = Keyboard(tab)
            keyboard.begin_with(converse_graph())
            tab.page.locator("[data-node-id] .b3u-chat").wait_for()
            yield keyboard
    finally:
        host.post("/api/settings", {SETTING: bool(before)})


def test_draw_ask_and_undo(keyboard: Keyboard) -> None:
    keyboard.say("a big red circle in the center, on snow")
    assert keyboard.drawn() == {("red", "circle")}
    shown = keyboard.page.get_by_role("log").get_by_role("img")
    assert shown.evaluate("async image => (await image.decode(), image.naturalWidth)") > 0
    assert keyboard.page.evaluate(PICTURES_BELOW) == 0  # each stands in the chat alone
    assert "red" in keyboard.say("what color is the circle?").split("?")[-1]
    keyboard.press("Undo")
    assert len(keyboard.turns()) == 2
    assert keyboard.box.input_value() == "what color is the circle?"
    assert keyboard.canvas.errors == []


def test_the_chat_takes_the_room_that_the_node_has(keyboard: Keyboard) -> None:
    if [1, 33] <= version_of(keyboard.canvas) < [1, 40]:
        pytest.skip("this beta of Nodes 2.0 leaves a pack's widget at its least height (1.35.9)")
    workflow = keyboard.canvas.serialized()
    for node in workflow["nodes"]:
        if node["type"] == "BLIP3U_Converse":
            node["size"] = [500, 1400]
    keyboard.canvas.load(workflow)
    keyboard.page.wait_for_function("() => document.querySelector('.b3u-chat').offsetHeight > 600")
    keyboard.canvas.fit()


def test_the_wheel_scrolls_the_conversation(keyboard: Keyboard) -> None:
    page = keyboard.page
    keyboard.press("New")
    for word in ("circle", "square", "star", "triangle", "cross", "ring"):
        keyboard.say(f"a big red {word} in the center, on snow")
    page.wait_for_function(AT_END)
    zoom = page.evaluate("() => app.canvas.ds.scale")
    keyboard.box.click()  # the frontend leaves the wheel to what has the focus
    page.get_by_role("log").hover()
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"() => !({AT_END})()")
    assert page.evaluate("() => app.canvas.ds.scale") == zoom


def test_no_node_of_a_template_lies_on_another(keyboard: Keyboard) -> None:
    page, found = keyboard.page, {}
    if version_of(keyboard.canvas) < [1, 40]:
        pytest.skip("this beta of Nodes 2.0 gives its pictures other heights")
    for file in sorted((REPOSITORY / "workflows").glob("*.json")):
        workflow = json.loads(file.read_text("utf-8"))
        keyboard.canvas.load(workflow)
        keyboard.canvas.fit()
        page.wait_for_function(
            "count => document.querySelectorAll('[data-node-id]').length == count",
            arg=len(workflow["nodes"]),
        )
        page.wait_for_timeout(500)  # pictures of Load Image come in
        found[file.stem] = page.evaluate(OVERLAPS)
    assert {name: pairs for name, pairs in found.items() if pairs} == {}
