"""Draw the losses of every stage that has a log: `python -m training.plot` writes losses.svg."""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from .common import RUNS, WIDE

OUTPUT = Path(__file__).parent / ("losses-wide.svg" if WIDE else "losses.svg")
PANELS = {
    "vae": ("l1", "mse"),
    "tower": ("shape", "color", "index", "draw", "contrast"),
    "eyes": ("loss",),
    "unet": ("velocity", "routed"),
    "llm": ("text", "regress", "cells", "kept", "flow"),
}


def read_log(name: str) -> dict[int, dict]:
    """The last record of each step; a resumed run writes some of them again."""
    file = RUNS / name / "log.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {record["step"]: record for record in records if "loss" in record}


def main() -> None:
    matplotlib.use("svg")
    logs = {name: log for name in PANELS if (log := read_log(name))}
    figure, panels = plt.subplots(-(-len(logs) // 2) or 1, 2, figsize=(10, 6), squeeze=False)
    for panel, (name, log) in zip(panels.flat, logs.items(), strict=False):
        for key in PANELS[name]:
            known = {step: log[step][key] for step in sorted(log) if key in log[step]}
            panel.plot(known.keys(), known.values(), label=key, linewidth=0.8)
        panel.set(title=f"{name}, {max(log)} steps", yscale="log", ylim=(1e-3, 10))
        panel.legend(frameon=False)
    for panel in panels.flat[len(logs) :]:
        panel.set_axis_off()
    figure.tight_layout()
    figure.savefig(OUTPUT, metadata={"Date": None})


if __name__ == "__main__":
    main()
