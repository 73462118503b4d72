"""Every node, every input, odd values: what comes of it?

    python tests/fuzz/odd_inputs.py [--sample N] [--pairs N] [--only BLIP3U_Decode] [--all]

Each case changes one input (or two) of a call that works. Verdicts: `clear`, an error of ours in
words; `fine`, a result that the value allows; and what must not be: `unclear` (a bare error from
inside), `NaN` (in a result), `hang` (longer than SECONDS), `wrong success` (a value that must be
refused).
Runs in this process on blip3u-tiny; COMFYUI_PATH names the host. Exits with 1 if one must not be.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import odd_values as odd
import torch
from good_calls import Values, good_calls
from in_process import PACK, ROOT, load_nodes, ours

SECONDS = 20
ALLOWED = ("clear", "fine")


class TooLong(BaseException):
    """So that nothing between here and the node takes it for an error."""


@dataclass(frozen=True)
class Case:
    node: str
    what: str
    values: Values  # by input, instead of the good ones
    must_fail: bool

    def joined(self, other: "Case") -> "Case":
        values = {**self.values, **other.values}
        failing = self.must_fail and not self.values.keys() & other.values.keys()
        must_fail = other.must_fail or failing
        return Case(self.node, f"{self.what}, {other.what}", values, must_fail)


def parts_of(good: dict[str, Values]) -> dict[str, Any]:
    """What each socket of a model may be given by mistake: another one, or a missing part."""
    decode, encode = good["BLIP3U_Decode"], good["BLIP3U_EncodeImage"]
    parts = {
        "BLIP3U_LLM": good["BLIP3U_VQA"]["llm"],
        "the DiT": good["BLIP3U_EmptyFeatures"]["model"],
        "the decoder": decode["decoder"],
        "VAE": decode["vae"],
        "CLIP_VISION": encode["clip_vision"],
        "an object": object(),
    }
    missing = ours("nodes.host.parts").MissingPart(FileNotFoundError("no such part. Download it."))
    return {**parts, "a missing part": missing}


def values_for(given: Any, good: Any, calls: dict[str, Values]) -> Iterator[odd.Odd]:
    kind = str(given.get_io_type())
    plain: dict[str, Callable[[], Iterator[odd.Odd]]] = {
        "INT": lambda: odd.numbers(given, True),
        "FLOAT": lambda: odd.numbers(given, False),
        "STRING": lambda: odd.texts(given),
        "COMBO": lambda: odd.choices(given),
        "IMAGE": lambda: odd.pictures(given),
        "COMFY_AUTOGROW_V3": lambda: odd.growing_pictures(given),
        "MASK": lambda: odd.masks(given),
        "LATENT": lambda: odd.latents(given, good or calls["BLIP3U_Decode"]["features"]),
        "CONDITIONING": lambda: odd.conditionings(given, good),
    }
    if kind in plain:
        yield from plain[kind]()
    elif kind == "BLIP3U_CHAT":
        chat = type(calls["BLIP3U_ShowChat"]["chat"])
        yield from odd.DATA
        yield from [
            ("an empty chat", chat(), False),
            ("orders alone", chat().say("system", "be brief"), False),
            ("one that was answered", chat().say("user", "a").say("assistant", "b"), False),
        ]
    else:
        yield from odd.DATA
        fits = (kind, "the DiT", "the decoder") if kind == "MODEL" else (kind,)
        for name, part in parts_of(calls).items():
            if part is not good:
                yield name, part, name not in fits
    if not given.optional and kind not in ("INT", "FLOAT", "STRING", "COMBO"):
        yield "nothing", None, True


def all_cases(nodes: dict[str, Any], good: dict[str, Values]) -> list[Case]:
    return [
        Case(
            name,
            f"{given.id} = {what}",
            {given.id: value},
            must_fail and (value is not None or not given.optional),
        )
        for name, node in nodes.items()
        for given in node.define_schema().inputs
        for what, value, must_fail in values_for(given, good[name].get(given.id), good)
    ]


def pairs_of(cases: list[Case], count: int) -> list[Case]:
    """Pairs of what need not be refused alone, mostly: those are what comes through the door."""
    rng = random.Random(1)
    by_node: dict[str, list[Case]] = {}
    for case in cases:
        by_node.setdefault(case.node, []).extend([case] * (1 if case.must_fail else 5))
    chosen = [rng.choice(list(by_node.values())) for _ in range(count)]
    return [rng.choice(own).joined(rng.choice(own)) for own in chosen]


def judge(node: Any, values: Values, case: Case) -> tuple[str, str]:
    """The verdict, and what was said."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    if node.define_schema().is_input_list:  # as the host gives them
        values = {name: [value] for name, value in values.items()}
    try:
        output = node.execute(**values)
    except TooLong:
        return "hang", f"longer than {SECONDS} s"
    except Exception as error:  # noqa: BLE001 - any error is what is looked at
        return ("clear" if is_clear(error) else "unclear"), f"{type(error).__name__}: {error!s}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if case.must_fail:
        return "wrong success", ""
    return ("fine" if all(map(is_finite, output.args)) else "NaN"), ""


def is_clear(error: Exception) -> bool:
    """An error that this pack raises in words of its own, which any terminal can print."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    message = str(error)
    try:
        message.encode()
    except UnicodeEncodeError:
        return False
    in_words = len(message) > 20 and message.rstrip()[-1] in ".'\"]"
    kinds = isinstance(error, ValueError | FileNotFoundError)
    return kinds and in_words and raised_in.is_relative_to(ROOT)


def is_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, list) or all(map(is_finite, value))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sample", type=int, help="so many cases, chosen by the seed 0")
    options.add_argument("--pairs", type=int, help="two odd values at once, so many times")
    options.add_argument("--only", help="the id of one node")
    options.add_argument("--all", action="store_true", help="print every case")
    chosen = options.parse_args()

    def ring(*_: Any) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        nodes = load_nodes(Path(folder))
        good = good_calls(nodes, Path(folder))
        cases = [case for case in all_cases(nodes, good) if chosen.only in (None, case.node)]
        if chosen.pairs:
            cases = pairs_of(cases, chosen.pairs)
        if chosen.sample:
            cases = random.Random(0).sample(cases, min(chosen.sample, len(cases)))
        table: Counter[tuple[str, str]] = Counter()
        start = time.monotonic()
        for case in cases:
            values = {**good[case.node], **case.values}
            verdict, said = judge(nodes[case.node], values, case)
            table[case.node, verdict] += 1
            if chosen.all or verdict not in ALLOWED:
                print(f"{verdict}: {case.node}: {case.what}: {said[:300]!a}")
    return report(table, time.monotonic() - start)


def report(table: Counter[tuple[str, str]], seconds: float) -> int:
    verdicts = [*ALLOWED, "unclear", "NaN", "hang", "wrong success"]
    print(f"\n{'node':30}" + "".join(f"{verdict:>15}" for verdict in verdicts))
    for node in sorted({node for node, _ in table}):
        print(f"{node:30}" + "".join(f"{table[node, verdict]:15}" for verdict in verdicts))
    totals = [sum(n for (_, v), n in table.items() if v == verdict) for verdict in verdicts]
    print(f"{'all ' + str(sum(totals)):30}" + "".join(f"{total:15}" for total in totals))
    print(f"{seconds:.0f} s, {PACK}")
    return int(any(totals[len(ALLOWED) :]))


if __name__ == "__main__":
    sys.exit(main())
