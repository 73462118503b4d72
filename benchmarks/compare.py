"""`python -m benchmarks.compare RESULTS ...`: your run beside the published tables, as Markdown.

RESULTS are folders or files that lmms-eval and the scorers wrote; see docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .result_files import read_scores

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PUBLISHED = Path(__file__).with_name("published.toml")
ANCHOR = "BLIP3-U 8B"  # the row that a run of the released 8B should meet

Rows = Mapping[str, Mapping[str, float]]


def published() -> dict[str, Any]:
    """The published tables: name -> {columns, rows of model -> column -> number}."""
    return tomllib.loads(PUBLISHED.read_text("utf-8"))


def tables(scores: Mapping[str, float], name: str) -> Iterator[tuple[str, Sequence[str], Rows]]:
    """(title, columns, rows) of every table that `scores` have a number for, yours last."""
    for title, table in published().items():
        mine = {column: scores[column] for column in table["columns"] if column in scores}
        if not mine:
            continue
        rows = {**table.get("rows", {}), f"**{name}**": mine}
        if ANCHOR in rows:
            anchor = rows[ANCHOR]
            apart = {c: mine[c] - anchor[c] for c in mine if c in anchor}
            rows[f"{name} less {ANCHOR}"] = apart
        yield title, table["columns"], rows


def markdown(title: str, columns: Sequence[str], rows: Rows) -> str:
    lines = [f"| {title} | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for model, row in rows.items():
        cells = [_cell(row.get(c), c, " less " in model) for c in columns]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, column: str, signed: bool) -> str:
    if value is None:
        return "-"
    digits = 2 if column in ("GenEval", "DPG-Bench") or "WISE" in column else 1
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def plot(scores: Mapping[str, float], name: str, file: Path) -> None:
    """A strip a benchmark: every published model a dot, BLIP3-U and your run marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    strips = [
        (column, table.get("rows", {}))
        for table in published().values()
        for column in table["columns"]
        if column in scores
    ]
    figure, axes = pyplot.subplots(
        len(strips), figsize=(7, 0.65 * len(strips) + 1), squeeze=False, layout="constrained"
    )
    for (column, rows), axis in zip(strips, axes[:, 0], strict=True):
        others = [row[column] for row in rows.values() if column in row]
        axis.plot(others, [0] * len(others), "o", color="0.7", label="published")
        if column in rows.get(ANCHOR, {}):
            axis.plot(rows[ANCHOR][column], 0, "D", color="tab:blue", label=ANCHOR)
        axis.plot(scores[column], 0, "*", color="tab:red", markersize=12, label=name)
        axis.set_yticks([0], [column])
    axes[0, 0].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--name", default="your run", help="what your row is called")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw it (.png, .svg, .pdf)")
    options = parser.parse_args(arguments)
    scores = {c: score.value for c, score in read_scores(options.results).items()}
    print("\n\n".join(markdown(*table) for table in tables(scores, options.name)))
    if options.plot:
        plot(scores, options.name, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
