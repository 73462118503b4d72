"""A workflow saved with the first release opens: one of each node that its templates had."""

import json
from pathlib import Path

from harness.canvas import Canvas

SAVED = Path(__file__).parent / "saved_by_0_1_0.json"
WIDGETS = """() => Object.fromEntries(app.graph._nodes.map(n => [String(n.id),
    Object.fromEntries((n.widgets || []).map(w => [w.name, w.value]))]))"""


def test_every_widget_keeps_its_value(canvas: Canvas) -> None:
    saved = json.loads(SAVED.read_text("utf-8"))
    canvas.errors.clear()
    canvas.load(saved)
    canvas.page.wait_for_timeout(500)
    opened = canvas.page.evaluate(WIDGETS)
    assert len(opened) == len(saved["nodes"]) >= 18
    for number, values in saved["extra"]["expected"].items():
        kept = {name: opened[number].get(name) for name in values}
        assert kept == values, saved["nodes"][int(number) - 1]["type"]
    assert canvas.errors == []
