"""Measured settings in a file, one JSON object a line: a run that was stopped goes on."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .decoder_settings import SETTINGS

TINY = Path(__file__).parents[2] / "models" / "blip3u-tiny"

Row = dict[str, Any]  # what `Measured` holds, with the setting's number


def weights_digest(checkpoint: Path = TINY) -> str:
    """Of all weights of a checkpoint: rows of others do not count."""
    digest = hashlib.sha256()
    for file in sorted(checkpoint.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class RowFile:
    """Rows of one checkpoint and number of cases; others in the file are passed over."""

    path: Path
    cases: int
    weights: str

    def read(self) -> list[Row]:
        """Raises: ValueError if a line is none of ours."""
        if not self.path.is_file():
            return []
        numbers = {str(setting): number for number, setting in enumerate(SETTINGS)}
        rows = {}
        for line in self.path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
                same = (row.pop("weights"), row["cases"]) == (self.weights, self.cases)
                setting = row.pop("setting")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path} holds {line[:60]!r}, expected the rows of an earlier run. Name "
                    "another file, or take that line out."
                ) from error
            if same and setting in numbers:
                rows[setting] = {**row, "number": numbers[setting]}
        return list(rows.values())

    def add(self, row: Row) -> None:
        line = {"setting": str(SETTINGS[row["number"]]), "weights": self.weights, **row}
        del line["number"]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
