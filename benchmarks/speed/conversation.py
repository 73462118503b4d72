"""A long conversation on one Converse node, through a real host: what a turn costs as it grows."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tests.harness.comfy import Host, make_base_folder, running_host
from tests.harness.graph import converse_graph

from .measure import ROUNDS, Measurement, milliseconds

SAID = "blip3u.conversation"  # the event of nodes/host/converse.py
TURNS, TURNS_MINIMAL = 50, 4
SPOKEN = (
    "draw a big red circle",
    "what color is it?",
    "make it blue",
    "how many objects are there?",
)
QUESTION = "what color is the {}?"
NAMES = ("circle", "shape", "object", "thing", "big circle", "big shape", "big object")
GOAL = 1.5


def rows(minimal: bool) -> Iterator[Measurement]:
    turns, rounds = (TURNS_MINIMAL, 2) if minimal else (TURNS, ROUNDS)
    with TemporaryDirectory() as base, running_host(make_base_folder(Path(base))) as host:
        yield conversation_row(host, turns, rounds)


def conversation_row(host: Host, turns: int, rounds: int) -> Measurement:
    short, long = (converse(host, count) for count in (1, turns - 1))
    times = [
        [until_first_token(host, QUESTION.format(name), before) for before in (short, long)]
        for name in NAMES[:rounds]
    ]
    early, late = (median(column) for column in zip(*times, strict=True))
    return Measurement(
        f"Converse: Run to the first token, turn {turns} / turn 2 (blip3u-tiny)",
        median(second / first for first, second in times),
        GOAL,
        f"{milliseconds(late)} / {milliseconds(early)}; "
        f"{long.count('.png')} pictures before turn {turns}, over HTTP, wall clock",
    )


def converse(host: Host, turns: int) -> str:
    """The conversation after so many turns, each its own Run."""
    conversation = ""
    for turn in range(turns):
        result = host.run(converse_graph(SPOKEN[turn % len(SPOKEN)], conversation))
        conversation = result.outputs["2"]["conversation"][0]
    return conversation


def until_first_token(host: Host, message: str, conversation: str) -> float:
    """Seconds from Run to the first words that the browser is sent."""
    seen: list[float] = []

    def note(event: dict[str, Any]) -> None:
        if event["type"] == SAID:
            seen.append(time.perf_counter())

    start = time.perf_counter()
    host.run(converse_graph(message, conversation), on_event=note)
    return seen[0] - start
