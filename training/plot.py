"""Draw the losses of every stage that has a log: `python -m training.plot` writes losses.svg."""

import json
from math import log10
from pathlib import Path

from .common import RUNS

OUTPUT = Path(__file__).parent / "losses.svg"
PANELS = {
    "vae": ("l1", "mse"),
    "tower": ("shape", "color", "index", "draw", "contrast"),
    "eyes": ("loss",),
    "unet": ("velocity", "routed"),
    "llm": ("text", "regress", "cells", "kept", "flow"),
}
INKS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")
WIDTH, HEIGHT, MARGIN = 420, 220, 44
LOWEST = 1e-3  # losses are drawn on a logarithmic axis from here to 10


def read_log(name: str) -> dict[int, dict]:
    """The last record of each step; a resumed run writes some of them again."""
    file = RUNS / name / "log.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {record["step"]: record for record in records if "loss" in record}


def height_of(value: float) -> float:
    """Pixels from the top for a loss; 10 lies at the top, `LOWEST` at the bottom."""
    share = (1 - log10(max(value, LOWEST))) / (1 - log10(LOWEST))
    return MARGIN / 2 + min(max(share, 0), 1) * (HEIGHT - MARGIN)


def panel(name: str, keys: tuple[str, ...]) -> list[str]:
    records = read_log(name)
    last = max(records, default=1)
    bottom = HEIGHT - MARGIN / 2
    lines = [
        f'<text x="{MARGIN}" y="14" font-weight="bold">{name}, {last} steps</text>',
        f'<path d="M{MARGIN} {MARGIN / 2}V{bottom}H{WIDTH - 8}" fill="none" stroke="#888"/>',
    ]
    for value in (10, 1, 0.1, 0.01, 0.001):
        y = height_of(value)
        lines.append(f'<text x="4" y="{y + 4:.0f}">{value:g}</text>')
        lines.append(f'<path d="M{MARGIN} {y:.0f}H{WIDTH - 8}" stroke="#eee"/>')
    for number, (key, ink) in enumerate(zip(keys, INKS, strict=False)):
        points = " ".join(
            f"{MARGIN + step / last * (WIDTH - MARGIN - 8):.1f},{height_of(record[key]):.1f}"
            for step, record in sorted(records.items())
            if key in record
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{ink}"/>')
        x = WIDTH - 70
        lines.append(f'<text x="{x}" y="{34 + 14 * number}" fill="{ink}">{key}</text>')
    return lines


def main() -> None:
    parts = []
    drawn = {name: keys for name, keys in PANELS.items() if read_log(name)}
    for number, (name, keys) in enumerate(drawn.items()):
        x, y = number % 2 * WIDTH, number // 2 * HEIGHT
        parts += [f'<g transform="translate({x},{y})">', *panel(name, keys), "</g>"]
    rows = -(-len(drawn) // 2)
    size = f'width="{2 * WIDTH}" height="{rows * HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    OUTPUT.write_text("\n".join([head, background, *parts, "</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
