"""The front of the ways to decode: which settings are on it, and how the table says so."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.decoder_quality import plot, table, verdicts
from benchmarks.speed.decoder_rows import RowFile, weights_digest
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
        ({"to_exact": 58.9}, "by euler, checkpoint, 50"),
        ({"scenes": 197}, "by euler, checkpoint, 50"),
        ({"features": 0.98}, "by euler, checkpoint, 50"),
    ],
)
def test_a_goal_asks_for_all_that_is_kept(change: dict, verdict: str):
    _, without, reuse = verdicts([AS_REFERENCE, replace(FAST, **change), CACHED])
    assert verdict in without
    assert "with reuse: 0.190" in reuse


def test_the_table_says_what_a_setting_keeps_less_of():
    found = [replace(FAST, scenes=190, features=0.98), SLOW, AS_REFERENCE]
    ends = [line.split("|")[-2].strip() for line in table(found).splitlines()[2:]]
    assert ends == ["less scenes, less features", "less near", "yes"]


def test_a_setting_on_the_front_wants_a_name():
    (*_, said) = verdicts([AS_REFERENCE, FAST, replace(CACHED, on_front=True)])
    assert said == "On the front without a name: euler, karras, 14; Deep Cache 2, depth 2"


def test_a_stopped_run_goes_on_with_what_it_measured(tmp_path: Path):
    row = {"number": 2, "work": 0.16, "cases": 200}
    file = RowFile(tmp_path / "rows", 200, "these weights")
    assert file.read() == []
    file.add(row)
    file.add({**row, "number": 3})
    file.add({**row, "number": 3, "work": 0.2})  # measured again: the last one counts
    assert file.read() == [row, {**row, "number": 3, "work": 0.2}]
    assert replace(file, weights="others").read() == []
    assert replace(file, cases=50).read() == []


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "rows").write_text("[1, 2]\n", "utf-8")
    with pytest.raises(ValueError, match=r"holds '\[1, 2\]', expected the rows of an earlier run"):
        RowFile(tmp_path / "rows", 200, "").read()


def test_the_digest_is_of_the_weights(tmp_path: Path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.safetensors").write_bytes(b"1")
    first = weights_digest(tmp_path)
    (tmp_path / "config.json").write_text("{}", "utf-8")
    assert weights_digest(tmp_path) == first
    (tmp_path / "unet" / "a.safetensors").write_bytes(b"2")
    assert weights_digest(tmp_path) != first


def test_settings_are_each_another_one():
    assert len({str(setting) for setting in SETTINGS}) == len(SETTINGS)
    names = [setting.name for setting in SETTINGS if setting.name]
    assert len(set(names)) == len(names)


def test_the_plot_is_drawn(tmp_path: Path):
    plot([CACHED, FAST, SLOW, AS_REFERENCE], tmp_path / "front.svg")
    assert "<svg" in (tmp_path / "front.svg").read_text("utf-8")
