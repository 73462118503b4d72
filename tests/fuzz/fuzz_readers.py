"""Fuzz the readers of a checkpoint for as long as you like, guided by coverage (atheris).

    pip install -r tests/fuzz/requirements.txt
    python tests/fuzz/fuzz_readers.py [tests/fuzz/corpus] [-max_total_time=600]

The first byte chooses the reader, the rest is its file. What it finds, it writes beside you as
crash-...; `python tests/fuzz/fuzz_readers.py crash-...` shows it again. Move it into the corpus
once it is mended: tests/core replays that.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import atheris  # noqa: E402 - after the path

with atheris.instrument_imports(include=["blip3u_core", "json"]):
    from fuzz.readers import Known, originals, read, readers

READERS = readers(Known())
NAMES = sorted(READERS)


def one_input(content: bytes) -> None:
    if content:
        read(READERS[NAMES[content[0] % len(NAMES)]], content[1:])


def seed(folder: Path) -> None:
    """Begin from files that are right."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in originals().items():
        if len(content) < 32_000:
            (folder / name).write_bytes(bytes([NAMES.index(name)]) + content)


def main() -> None:
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not folders:
        seed(Path("fuzz-seeds"))
        sys.argv.append("fuzz-seeds")
    atheris.Setup([*sys.argv, "-max_len=32000", "-timeout=30"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
