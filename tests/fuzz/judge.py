"""Use every stage of a checkpoint folder and say how it ended."""

import math
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from blip3u_core.language.generate import SamplingParams
from blip3u_core.pipeline import Pipeline

STEPS = {"seed": 7, "feature_steps": 2, "decoder_steps": 2}
PICTURE = torch.linspace(0, 1, 40 * 30 * 3).view(40, 30, 3)
CLEAR_TYPES = (ValueError, FileNotFoundError)  # and none of their kinds
WHAT_TO_DO = ("Use ", "use ", "ownload", "Copy ", "Put ", "Convert ", "expected", "Let ", "get ")
OURS = ("blip3u_core", "fuzz")
FILES = (".json", ".safetensors", ".txt", "/")
VERDICTS = ("same", "clear", "different", "NaN", "unclear", "hang")  # the worst last
Outcome = dict[str, torch.Tensor | str]


@dataclass(frozen=True)
class Verdict:
    """How one broken folder ended: the worst of its uses."""

    verdict: str
    said: str


def uses() -> dict[str, object]:
    """What is done with a checkpoint: draw, answer, look and draw again."""
    return {
        "draw": lambda p: p.text_to_image("a red circle", **STEPS),
        "answer": lambda p: p.answer("What is this?", PICTURE, sampling=SamplingParams(8)),
        "vary": lambda p: p.image_variation(PICTURE[None], **STEPS),
    }


def outcomes(folder: Path) -> tuple[Outcome, list[tuple[str, Exception]]]:
    """The result of every use, and the errors."""
    results: Outcome = {}
    errors: list[tuple[str, Exception]] = []
    for name, use in uses().items():
        try:
            results[name] = use(Pipeline.from_checkpoint(folder))  # pyright: ignore
        except Exception as error:  # noqa: BLE001 - whatever comes is judged
            errors.append((name, error))
    return results, errors


def judge(folder: Path, expected: Outcome) -> Verdict:
    """Compare what a broken folder gives with what its base gives."""
    results, errors = outcomes(folder)
    verdicts = [error_verdict(name, error) for name, error in errors]
    verdicts += compared(results, expected)
    default = Verdict("same", "")
    return max(verdicts, key=lambda v: VERDICTS.index(v.verdict), default=default)


def compared(results: Outcome, expected: Outcome) -> Iterator[Verdict]:
    """What is wrong with results that came without an error."""
    for name, result in results.items():
        if isinstance(result, torch.Tensor) and not math.isfinite(float(result.sum())):
            yield Verdict("NaN", name)
        elif not _equal(result, expected[name]):
            yield Verdict("different", name)


def error_verdict(name: str, error: Exception) -> Verdict:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    clear = is_clear(error)
    place = "" if clear else f"{Path(frame.filename).name}:{frame.lineno} "
    text = f"{name}: {place}{type(error).__name__}: {error}"
    return Verdict("clear" if clear else "unclear", text)


def is_clear(error: Exception) -> bool:
    """Whether our code raised it and says in which file, and what was expected or to do."""
    text, frame = str(error), traceback.extract_tb(error.__traceback__)[-1]
    ours = any(part in frame.filename for part in OURS) and type(error) in CLEAR_TYPES
    return ours and all(any(word in text for word in words) for words in (FILES, WHAT_TO_DO))


def _equal(result: object, expected: object) -> bool:
    if isinstance(result, torch.Tensor) and isinstance(expected, torch.Tensor):
        return torch.equal(result, expected)
    return result == expected
