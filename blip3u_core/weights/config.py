"""Configurations as declared types: what a JSON file may say, checked once, in one message.

A configuration is a frozen pydantic dataclass under `STRICT`: no bool or float stands for an int,
every number is finite and has bounds, so that a damaged one costs neither memory nor time.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .json_files import ADVICE, FileContent, shown, source_of

STRICT = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)

MAX_LAYERS = 1000
MAX_SIZE = 1 << 24  # wider than any vocabulary
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Levels = Annotated[tuple[Size, ...], Field(min_length=1, max_length=8)]
Positive = Annotated[float, Field(gt=0, le=1e9)]

Config = TypeVar("Config")


@dataclass(frozen=True, config=STRICT)
class CheckpointConfig:
    """What config.json says of the whole checkpoint."""

    num_queries: Annotated[Size | None, Field(alias="n_query")] = None  # Q, 64
    decoder_steps: Annotated[int, Field(ge=1, le=1000)] = 50  # as published
    writes_image_token: bool = False  # whether it learned to ask for pictures by [IMG] unasked

    def __post_init__(self) -> None:
        if math.isqrt(self.num_queries or 0) ** 2 != (self.num_queries or 0):
            raise ValueError(
                f"n_query {self.num_queries}, expected a square number: the features form a "
                "square grid"
            )


def feature_grid(config: Mapping[str, Any]) -> int:
    """g: side of the square feature grid, as many features as there are latent queries.

    Raises: ValueError if `n_query` is missing or no square.
    """
    num_queries = read_config(CheckpointConfig, config, "config.json").num_queries
    if num_queries is None:
        raise ValueError(
            f"{source_of(config, 'config.json')} says n_query None, expected the number of latent "
            f"queries (64 in the published checkpoints). {ADVICE}"
        )
    return math.isqrt(num_queries)


def read_config(kind: type[Config], values: Mapping[str, Any], otherwise: str) -> Config:
    """The declared configuration `kind`, read from what a JSON file says; other keys are ignored.

    Args: otherwise: the file to name where `values` do not know theirs.
    Raises: ValueError that names file, key, value, what was expected and what to do.
    """
    where = source_of(values, otherwise)
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} holds {shown(values)}, expected a JSON object. {ADVICE}")
    known = {key: value for key, value in values.items() if key in _keys(kind)}
    fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}  # for ever
    try:
        return kind(**fixed)
    except ValidationError as error:
        raise ValueError(_message(error, values, where)) from error


def read_value(adapter: TypeAdapter[Config], value: Any, where: str) -> Config:
    """As `read_config`, of a plain type such as a mapping from tokens to ids."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ValueError(_message(error, value, where)) from error


def part_of(values: Mapping[str, Any], key: str, otherwise: str) -> FileContent:
    """The JSON object at `key`; empty where there is none or null. Raises ValueError for others."""
    where = source_of(values, otherwise)
    part = values.get(key)
    if part is not None and not isinstance(part, Mapping):
        raise ValueError(f"{where} says {key} {shown(part)}, expected a JSON object. {ADVICE}")
    return FileContent(part or {}, where if part is None else f"{where}, {key},")


def _keys(kind: Any) -> set[str]:
    """The JSON names of a configuration's fields."""
    declared = kind.__pydantic_fields__
    return {declared[field.name].alias or field.name for field in fields(kind)}


def _message(error: ValidationError, values: Any, where: str) -> str:
    """The first thing that is wrong; a union says once for each of its kinds what it expected."""
    problems = error.errors()
    path = _path(problems[0]["loc"], values)
    name = ".".join(map(str, path))
    if problems[0]["type"] == "missing":
        return f"{where} lacks {name}, which it must say. {ADVICE}"
    if problems[0]["type"] == "value_error":  # a check of ours, which says what it expected
        said = problems[0].get("ctx", {}).get("error")
        return f"{where} says {said}. {ADVICE}"
    same = [problem["msg"] for problem in problems if _path(problem["loc"], values) == path]
    expected = " or ".join(dict.fromkeys(map(_expected, same)))
    value = shown(_found(values, path))
    return f"{where} says {name or 'its value'} {value}, expected {expected}. {ADVICE}"


def _path(place: Iterable[Any], values: Any) -> tuple[Any, ...]:
    """The part of pydantic's location that is in the JSON: keys and numbers of items."""
    place = tuple(place)
    path = []
    for part in place:
        inside = isinstance(values, Mapping) and part in values
        if isinstance(values, list | tuple):
            inside = isinstance(part, int) and part < len(values)
        if not inside:
            break
        path.append(part)
        values = values[part]
    return tuple(path) or place[:1]


def _found(values: Any, path: Iterable[Any]) -> Any:
    for part in path:
        values = values[part]
    return values


_WORDS = {
    "Input should be ": "",
    "a valid ": "a ",
    "an instance of ": "",
    "a integer": "a whole number",
    "a dictionary": "a JSON object",
    "a tuple": "a list",
    "a boolean": "true or false",
    "a string": "text",
    "None": "null",
    "True": "true",
    "False": "false",
    "Tuple should have": "a list with",
    "Value should have": "a list with",
    "String should match pattern": "text like",
    " after validation": "",
}


def _expected(message: str) -> str:
    for pydantic_word, word in _WORDS.items():
        message = message.replace(pydantic_word, word)
    return f"a number {message}" if message.startswith(("greater", "less")) else message
