"""The page of a user who reads Chinese: nodes, chat and help in their words."""

from collections.abc import Iterator

import pytest

from harness.canvas import Canvas, open_tab
from harness.comfy import Host
from harness.conversation import Keyboard
from harness.graph import converse_graph


@pytest.fixture(scope="module")
def chinese(canvas: Canvas, host: Host) -> Iterator[Canvas]:
    host.post("/api/settings", {"Comfy.Locale": "zh"})
    try:
        with open_tab(canvas) as tab:
            yield tab
    finally:
        host.post("/api/settings", {"Comfy.Locale": "en"})


def names_are_lost(canvas: Canvas) -> bool:
    """Host: frontends about 1.32 load a language over what packs said in it (0.3.75)."""
    version = canvas.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    return (1, 29) <= tuple(int(part) for part in version.split(".")[:2]) < (1, 35)


def test_a_conversation(chinese: Canvas) -> None:
    keyboard = Keyboard(chinese, box="消息", send="发送")
    keyboard.begin_with(converse_graph())
    if not names_are_lost(chinese):
        titles = chinese.page.evaluate("() => app.graph._nodes.map(n => n.title)")
        assert {"加载 BLIP3-U", "交谈"} <= set(titles)
    assert "让它画图" in keyboard.log()
    assert keyboard.box.get_attribute("placeholder").startswith("写一条消息")
    log = keyboard.say("what color is the sky by day?")
    assert {"复制", "编辑"} <= set(log.split())
    assert len(keyboard.turns()) == 2
    keyboard.press("撤销")
    assert keyboard.turns() == []
    keyboard.press("新对话")
    assert chinese.errors == []


def test_help(chinese: Canvas) -> None:
    page = chinese.page
    page.evaluate("""() => {
        app.graph.clear();
        const node = LiteGraph.createNode('BLIP3U_EmptyFeatures');
        app.graph.add(node);
        app.canvas.selectNode(node);
        app.canvas.fitViewToSelectionAnimated?.();
    }""")
    page.get_by_test_id("info-button").click()
    help = page.locator(".node-help-content")
    help.get_by_role("heading", name="空 CLIP 特征").wait_for()
    assert "批次大小" in help.inner_text()
    picture = help.get_by_role("img", name="空 CLIP 特征")
    assert picture.evaluate("async image => (await image.decode(), image.naturalWidth)") > 0
