"""Scores out of the files that lmms-eval and the scorers of drawing leave."""

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

# column: lmms-eval's task, its metric, and what turns that into the table's unit
UNDERSTANDING = {
    "VQAv2": ("vqav2_val", "exact_match", 100),
    "GQA": ("gqa", "exact_match", 100),
    "MMBench": ("mmbench_en_dev", "gpt_eval_score", 1),
    "SEED": ("seedbench", "seed_image", 100),
    "POPE": ("pope", "pope_f1_score", 100),
    "MM-Vet": ("mmvet", "gpt_eval_score", 1),
    "MME-P": ("mme", "mme_perception_score", 1),
    "MME-C": ("mme", "mme_cognition_score", 1),
    "MMMU": ("mmmu_val", "mmmu_acc", 100),
    "RWQA": ("realworldqa", "exact_match", 100),
    "TEXTVQA": ("textvqa_val", "exact_match", 100),
}
# the last prompt of each category, and its weight in the whole
WISE = ((400, 0.4), (567, 0.167), (700, 0.133), (800, 0.1), (900, 0.1), (1000, 0.1))
WISE_VERIFIED = ((400, 0.4), (520, 0.12), (640, 0.12), (760, 0.12), (880, 0.12), (1000, 0.12))
# as its prompt file names them
IMGEDIT_TYPES = {
    "add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action",
}  # fmt: skip
DPG_SCORE = re.compile(r"DPG-Bench score:\s*([0-9.]+)")
GEDIT_FILE = re.compile(r"_gpt_score\.csv$")


class Score(NamedTuple):
    column: str
    value: float
    file: Path


def read_scores(paths: Iterable[Path]) -> dict[str, Score]:
    """Every score in files and folders, by the column of the table that it belongs to.

    Files of other kinds are left alone.

    Raises: FileNotFoundError if a path is missing; ValueError if nothing is found, if a score
        is there twice, or if a run of WISE is not whole.
    """
    files = [file for path in paths for file in _files(path)]
    found: dict[str, Score] = {}
    for score in [*_single(files), *_wise(files), *_gedit(files)]:
        other = found.setdefault(score.column, score)
        if other != score:
            raise ValueError(
                f"{score.column} stands in {other.file} and in {score.file}, expected one run. "
                "Give the files of one run only."
            )
    if not found:
        raise ValueError(
            f"no scores in {', '.join(map(str, paths))}, expected lmms-eval's *_results.json or "
            "the scorers' files (docs/benchmarks.md lists them). Name the folder they lie in."
        )
    return found


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing, expected a folder or file of results.")
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _single(files: Iterable[Path]) -> Iterator[Score]:
    """Scores of files that are whole by themselves."""
    for file in files:
        if file.suffix == ".json":
            content = json.loads(file.read_text("utf-8"))
            if isinstance(content, dict):
                yield from _lmms_eval(file, content)
                yield from _imgedit(file, content)
        elif file.suffix == ".jsonl":
            yield from _geneval(file)
        elif file.suffix == ".txt" and (match := DPG_SCORE.search(file.read_text("utf-8"))):
            yield Score("DPG-Bench", float(match[1]), file)


def _lmms_eval(file: Path, content: Mapping[str, Any]) -> Iterator[Score]:
    tasks = content.get("results")
    if not isinstance(tasks, dict):
        return
    for column, (task, metric, scale) in UNDERSTANDING.items():
        # The filter stands behind the comma: "exact_match,none".
        for key, value in tasks.get(task, {}).items():
            if key.split(",")[0] == metric and isinstance(value, int | float):
                yield Score(column, value * scale, file)


def _imgedit(file: Path, content: Mapping[str, Any]) -> Iterator[Score]:
    """Its step 2: the mean of each type of edit."""
    if content and content.keys() <= IMGEDIT_TYPES:
        yield Score("ImgEdit", fmean(content.values()), file)


def _geneval(file: Path) -> Iterator[Score]:
    """The mean over its six tasks of the share of right pictures."""
    tasks: dict[str, list[bool]] = defaultdict(list)
    for line in _lines(file):
        if "tag" in line and "correct" in line:
            tasks[line["tag"]].append(line["correct"])
    if tasks:
        yield Score("GenEval", fmean(fmean(right) for right in tasks.values()), file)


def _wise(files: Iterable[Path]) -> Iterator[Score]:
    """WISE comes as three files, one for each of its prompt files."""
    first: dict[int, float] = {}
    verified: dict[int, float] = {}
    seen: dict[str, Path] = {}
    for file in files:
        for line in _lines(file) if file.suffix == ".jsonl" else ():
            if "prompt_id" not in line:
                continue
            if "consistency" in line:
                marks = line["consistency"], line["realism"], line["aesthetic_quality"]
                first[line["prompt_id"]] = (
                    sum(map(math.prod, zip(marks, (0.7, 0.2, 0.1), strict=True))) / 2
                )
                seen["WISE"] = file
            elif "score" in line:
                verified[line["prompt_id"]] = line["score"]
                seen["WISE verified"] = file
    for column, scores, categories in (
        ("WISE", first, WISE),
        ("WISE verified", verified, WISE_VERIFIED),
    ):
        if scores:
            yield Score(column, _weighted(column, scores, categories), seen[column])


def _weighted(
    column: str, scores: Mapping[int, float], categories: Iterable[tuple[int, float]]
) -> float:
    missing = [number for number in range(1, 1001) if number not in scores]
    if missing:
        raise ValueError(
            f"{column} lacks {len(missing)} of 1000 prompts (first {missing[:5]}), expected all. "
            "Give the score files of its three prompt files together."
        )
    total, start = 0.0, 1
    for last, weight in categories:
        total += weight * fmean(scores[number] for number in range(start, last + 1))
        start = last + 1
    return total


def _gedit(files: Iterable[Path]) -> Iterator[Score]:
    """The mean over its tasks of the geometric mean of both marks; all pictures of a language."""
    groups: dict[str, list[float]] = defaultdict(list)
    where: dict[str, Path] = {}
    for file in files:
        if not GEDIT_FILE.search(file.name) or "_combined_" in file.name:
            continue
        marks: dict[str, list[float]] = defaultdict(list)
        with file.open(newline="", encoding="utf-8") as opened:
            for row in csv.DictReader(opened):
                # sic: so its scorer spells the column
                both = float(row["sementics_score"]) * float(row["quality_score"])
                marks[row["instruction_language"]].append(math.sqrt(both))
        for language, values in marks.items():
            groups[language].append(fmean(values))
            where[language] = file
    for language, means in groups.items():
        yield Score(f"GEdit {language}", fmean(means), where[language])


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    parse: Callable[[str], Any] = json.loads
    for text in file.read_text("utf-8").splitlines():
        line = parse(text) if text.strip() else None
        if isinstance(line, dict):
            yield line
