"""Every benchmark runs at its smallest size and gives rows; nothing here looks at a time."""

from importlib import import_module

import pytest

from benchmarks.__main__ import BENCHMARKS, line
from benchmarks.speed import measure
from benchmarks.speed.measure import Measurement, Times, alternate

# Run in tests/host; `compiled` also needs a C++ compiler and half a minute, and is run by hand.
NEED_A_HOST = {
    "host_import",
    "conversation",
    "sampler",
    "compiled",
    "reuse",
    "decode",
    "decoder",
    "loading",
    "memory",
}


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - NEED_A_HOST))
def test_a_benchmark_gives_rows(name: str):
    rows = list(import_module(f"benchmarks.speed.{name}").rows(minimal=True))
    assert rows
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.ratio is None or row.ratio >= 0
        assert row.detail
        assert line(row).count("|") == 6


def test_rounds_alternate_and_turn_round():
    order = []
    times = alternate(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        rounds=2,
        before=lambda name: order.append(f"before {name}"),
    )
    assert [name for name in order if len(name) == 1] == ["b", "a", "a", "b", "b", "a"]
    assert order[::2] == [f"before {name}" for name in order[1::2]]
    assert {len(seconds) for seconds in times.seconds.values()} == {2}


def test_a_slow_moment_of_the_machine_does_not_decide():
    slow_once = Times({"ours": (1.0, 10.0, 1.0), "plain": (2.0, 20.0, 2.0)})
    assert slow_once.ratio("ours", "plain") == 0.5
    assert slow_once.quartiles("ours", "plain") == "0.50..0.50"


def test_a_goal_is_met_up_to_its_number():
    verdicts = [Measurement("", ratio, 1.0).verdict for ratio in (0.9, 1.0, 1.1)]
    assert verdicts == ["met", "met", "MISSED"]
    assert Measurement("", 2.0).verdict == ""


def test_an_unknown_clock_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCHMARK_CLOCK", "sun")
    with pytest.raises(ValueError, match="'sun', expected one of"):
        measure.clock()
