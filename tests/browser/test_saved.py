"""Workflows that earlier releases and today's state saved open with every widget's value.

That every node is among them is checked in tests/core/test_architecture.py.
"""

import json
from pathlib import Path

import pytest

from harness.canvas import Canvas

SAVED = sorted(Path(__file__).parent.glob("saved_by_*.json"))
WIDGETS = """() => Object.fromEntries(app.graph._nodes.map(n => [String(n.id),
    Object.fromEntries((n.widgets || []).map(w => [w.name, w.value]))]))"""


@pytest.mark.parametrize("file", SAVED, ids=lambda file: file.stem)
def test_every_widget_keeps_its_value(file: Path, canvas: Canvas) -> None:
    saved = json.loads(file.read_text("utf-8"))
    kinds = {str(node["id"]): node["type"] for node in saved["nodes"]}
    expected = saved["extra"]["expected"]
    assert set(expected) == set(kinds)
    canvas.errors.clear()
    canvas.load(saved)
    canvas.page.wait_for_timeout(500)
    opened = canvas.page.evaluate(WIDGETS)
    assert set(opened) == set(kinds)
    for number, values in expected.items():
        kept = {name: opened[number].get(name) for name in values}
        assert kept == values, kinds[number]
    assert canvas.errors == []
