"""`python -m benchmarks.decoder_quality`: what each way to decode costs, and what it keeps.

On blip3u-tiny, in the host: the UNet's work relative to the reference's 50 steps (counted; also at
the 8B's shapes), PSNR to the exact solution (200 evaluations) and to the reference, scenes and
features kept. A star marks the front: nothing else is nearer to exact for as little work.
200 scenes take five minutes of a core; `--keep FILE` goes on where a run was stopped.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .meaning.rates import Rate
from .speed.decoder_rows import RowFile, weights_digest
from .speed.decoder_settings import REFERENCE, SETTINGS, Measured, front
from .speed.in_host import call_in_host

WORK_GOALS = {"without reuse": 0.30, "with reuse": 0.20}
NEAR, WHOLE = 59.0, 0.99  # dB to exact, share of scenes
LINE = 1.1  # dB of the plot that a line of text is high


def measure(cases: int, minimal: bool = False, file: Path | None = None) -> list[Measured]:
    """Every setting measured in the host, least work first; what the file holds is not repeated."""
    kept = RowFile(file, cases, weights_digest()) if file else None
    rows = kept.read() if kept else []
    known = {row["number"] for row in rows}
    missing = [number for number in range(len(SETTINGS)) if number not in known]
    if minimal:
        shown = ("draft", "fast, cached", "lean, gated")
        missing = [number for number in missing if SETTINGS[number].name in shown]
    if missing:
        written = (str(kept.path.resolve()), kept.weights) if kept else None
        rows += call_in_host(
            "decoder_pictures", "measure_in_host", cases, missing, written, minimal
        )
    found = [Measured(SETTINGS[row.pop("number")], **row) for row in rows]
    found.sort(key=lambda one: (one.work, one.to_exact))
    best = front(found)
    return [replace(one, on_front=i in best) for i, one in enumerate(found)]


def table(found: Sequence[Measured]) -> str:
    lines = [
        "| | setting | UNet work | at the 8B's shapes | PSNR to exact | to the reference | "
        "scenes kept (95 %) | features kept | as good as the reference |",
        "|---|---|--:|--:|--:|--:|---|--:|---|",
    ]
    for one in found:
        same = one.setting == REFERENCE
        lines.append(
            f"| {'*' if one.on_front else ''} {one.setting.name} | {one.setting} | "
            f"{one.work:.3f} | {one.work_8b:.3f} | {one.to_exact:.1f} | "
            f"{'-' if same else f'{one.to_reference:.1f}'} | "
            f"{Rate(one.scenes, one.cases)} | {one.features:.4f} | "
            f"{', '.join(lacks(one, found)) or 'yes'} |"
        )
    return "\n".join(lines)


def lacks(one: Measured, found: Sequence[Measured]) -> list[str]:
    """What a setting keeps less of than the reference, or than the goals ask for."""
    features = max((other.features for other in found if other.setting == REFERENCE), default=0.0)
    return [
        f"less {what}"
        for what, kept in (
            ("near", round(one.to_exact, 1) >= NEAR),
            ("scenes", one.scenes >= WHOLE * one.cases),
            ("features", round(one.features, 4) >= round(features, 4)),
        )
        if not kept
    ]


def verdicts(found: Sequence[Measured]) -> list[str]:
    """The least work that is as near to exact as the reference and keeps as much, by goal."""
    good = [one for one in found if not lacks(one, found)]
    lines = [
        f"Asked for: {NEAR:.0f} dB to exact, {WHOLE:.0%} of the scenes, features kept no less than "
        "by the reference."
    ]
    for name, goal in WORK_GOALS.items():
        reuse = name == "with reuse"
        fitting = [one for one in good if bool(one.setting.depth) == reuse]
        if not fitting:
            lines.append(f"{name}: no setting keeps enough, MISSED (goal {goal:.2f})")
            continue
        least = min(fitting, key=lambda one: one.work)
        verdict = "reached" if least.work <= goal else "MISSED"
        lines.append(
            f"{name}: {least.work:.3f} ({least.work_8b:.3f} at the 8B's shapes) by "
            f"{least.setting}, {verdict} (goal {goal:.2f})"
        )
    nameless = [str(one.setting) for one in found if one.on_front and not one.setting.name]
    return lines + [f"On the front without a name: {setting}" for setting in nameless]


def plot(found: Sequence[Measured], file: Path) -> None:
    """Work against distance, the front as a line, its named settings with their names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for label, reuse in (("without reuse", False), ("with Deep Cache", True)):
        part = [one for one in found if bool(one.setting.depth) == reuse]
        axis.plot([o.work for o in part], [o.to_exact for o in part], "so"[reuse], label=label)
    line = [one for one in found if one.on_front]
    axis.plot([o.work for o in line], [o.to_exact for o in line], "-", color="0.7", zorder=0)
    for reuse in (False, True):  # their names stand on either side, one above the other
        height = 0.0
        for one in sorted(found, key=lambda one: one.to_exact):
            if one.setting.name and bool(one.setting.depth) == reuse:
                height = max(one.to_exact, height + LINE)
                place = (one.work + (-0.015 if reuse else 0.015), height)
                side = "right" if reuse else "left"
                axis.text(*place, one.setting.name, ha=side, va="center")
    axis.axhline(NEAR, color="0.8", linestyle=":")
    axis.set_xlim(0, 1.15)
    axis.set_xlabel("UNet work, relative to the reference's 50 steps")
    axis.set_ylabel("PSNR to the exact solution, dB")
    axis.legend(loc="lower right")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.decoder_quality", description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="held-out scenes, at least 12")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="measured settings; a stopped run goes on"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw it (.svg, .png)")
    options = parser.parse_args(arguments)
    found = measure(max(options.cases, 12), file=options.keep)
    print(table(found))
    print("\n" + "\n".join(verdicts(found)))
    if options.plot:
        plot(found, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
