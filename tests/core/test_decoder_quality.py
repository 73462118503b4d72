"""The front of the ways to decode: which settings are on it, and how the table says so."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.decoder_quality import plot, table, verdicts
from benchmarks.speed.decoder_settings import REFERENCE, SETTINGS, Measured, Setting, front

AS_REFERENCE = Measured(REFERENCE, 1.0, 1.0, 59.0, 99.0, 200, 200, 0.99)
FAST = replace(AS_REFERENCE, setting=Setting(14, name="fast"), work=0.28, to_exact=60.5)
SLOW = replace(FAST, setting=Setting(25), work=0.5, to_exact=52.0)
CACHED = replace(FAST, setting=Setting(14, depth=2, interval=2), work=0.19, to_exact=59.5)


def test_the_front_has_what_nothing_else_beats():
    found = [CACHED, FAST, SLOW, AS_REFERENCE]
    assert front(found) == {0, 1}
    assert front([FAST, FAST]) == {0, 1}, "equals do not drive each other out"


def test_the_table_marks_the_front_and_names_settings():
    lines = table([replace(FAST, on_front=True), SLOW, AS_REFERENCE]).splitlines()
    assert lines[2].startswith("| * fast | euler, karras, 14 | 0.280 ")
    assert lines[3].startswith("|   | euler, karras, 25 |")
    assert "| - |" in lines[4], "the reference is not compared with itself"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "reached"),
        ({"work": 0.31}, "MISSED"),
        ({"to_exact": 58.9}, "no setting"),
        ({"scenes": 197}, "no setting"),
        ({"features": 0.98}, "no setting"),
    ],
)
def test_a_goal_asks_for_all_that_is_kept(change: dict, verdict: str):
    without, reuse = verdicts([AS_REFERENCE, replace(FAST, **change), CACHED])
    said = without if verdict != "no setting" else without.replace("1.000 by", "no setting by")
    assert verdict in said
    assert "with reuse: 0.190" in reuse


def test_settings_are_each_another_one():
    assert len({str(setting) for setting in SETTINGS}) == len(SETTINGS)
    names = [setting.name for setting in SETTINGS if setting.name]
    assert len(set(names)) == len(names)


def test_the_plot_is_drawn(tmp_path: Path):
    plot([CACHED, FAST, SLOW, AS_REFERENCE], tmp_path / "front.svg")
    assert "<svg" in (tmp_path / "front.svg").read_text("utf-8")
