"""Whatever a file of a checkpoint holds: it is read, or told in a sentence that says what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.readers import Known, originals, read, readers

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
READERS = readers(Known())
ORIGINALS = originals()
JSON_FILES = sorted(name for name in READERS if name.endswith(".json"))
QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = st.sampled_from([0, -1, 1.5, 10**12, 10**30, -(10**30), 1e300, 1e-300])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | NUMBERS
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\0"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_is_right_is_read(name: str) -> None:
    said = read(READERS[name], ORIGINALS[name])
    assert said is None or "weight files named by" in said  # the index' shards are elsewhere


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON object with up to three values changed, added or taken away, at any depth."""
    whole = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = whole
        while place:
            key = draw(st.sampled_from(sorted(place)))
            deeper = isinstance(place[key], dict) and place[key] and draw(st.booleans())
            if not deeper:
                break
            place = place[key]
        if place and draw(st.integers(0, 5)) == 0:
            del place[key]
        elif place:
            place[key] = draw(VALUES)
    return json.dumps(whole).encode()


@pytest.mark.parametrize("name", JSON_FILES)
def test_changed_values_are_read_or_told(name: str) -> None:
    @QUICK
    @given(changed(ORIGINALS[name]))
    def check(content: bytes) -> None:
        read(READERS[name], content)

    check()


@pytest.mark.parametrize("name", sorted(READERS))
def test_changed_bytes_are_read_or_told(name: str) -> None:
    original = ORIGINALS[name]

    @QUICK
    @given(st.integers(0, len(original) - 1), st.binary(max_size=12), st.integers(0, 16))
    def check(start: int, new: bytes, cut: int) -> None:
        read(READERS[name], original[:start] + new + original[start + cut :])

    check()


@pytest.mark.parametrize("name", sorted(READERS))
def test_any_bytes_are_told(name: str) -> None:
    @QUICK
    @given(st.binary(max_size=64))
    def check(content: bytes) -> None:
        read(READERS[name], content)

    check()


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*")), ids=lambda file: file.name)
def test_what_fuzzing_found_once_is_told(file: Path) -> None:
    """The name begins with the reader's: `config.json-a-word-or-two`."""
    name = file.name.split("-")[0]
    read(READERS[name], file.read_bytes())
