"""Run the golden tests of the language model under several versions of transformers.

    python tests/compat/transformers_versions.py            # the versions below
    python tests/compat/transformers_versions.py 4.53.3 5   # others; a prefix takes its newest

Each version is installed with what it asks for (tokenizers, huggingface_hub) into a temporary
folder in front of the current environment, and the goldens run there in their own process. Prints
the table for the README; exits with 1 if a test failed anywhere. Our language model needs only
`tokenizers`: the table shows that no version changes a number.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
VERSIONS = ("4.51.3", "4.57", "5")
TESTS = ("tests/golden/test_language_model.py",)
COLUMNS = (
    "transformers",
    "tokenizers",
    "golden tests",
    "visual tokens, largest difference",
    "answers, equal tokens",
)


def main(versions: tuple[str, ...]) -> int:
    rows, failed = [], False
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            install(version, folder)
            environment = {**os.environ, "PYTHONPATH": folder, "HF_HUB_OFFLINE": "1"}
            tests = run(environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
            measured = run(environment, __file__, "--measure")
        failed = failed or tests.returncode != 0 or measured.returncode != 0
        if tests.returncode or measured.returncode:
            print(tests.stdout[-3000:], measured.stderr[-3000:], file=sys.stderr)
        summary = tests.stdout.strip().splitlines()[-1].split(" in ")[0].strip("= ")
        numbers = json.loads(measured.stdout) if measured.returncode == 0 else {}
        rows.append(
            [
                numbers.get("transformers", version),
                numbers.get("tokenizers", "?"),
                summary,
                f"{numbers['visual_tokens']:.1e}" if numbers else "?",
                f"{numbers['equal']} of {numbers['answers']}" if numbers else "?",
            ]
        )
    print_table(rows)
    return int(failed)


def install(version: str, folder: str) -> None:
    asked = version if version.count(".") == 2 else f"{version}.*"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", folder, f"transformers=={asked}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"transformers {asked} cannot be installed:\n{done.stderr}")


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def measure() -> None:
    """The numbers of the current environment, as JSON."""
    sys.path[:0] = [
        str(REPOSITORY),
        str(REPOSITORY / "tests" / "golden"),
        str(REPOSITORY / "tests"),
    ]
    import test_language_model as golden
    import transformers  # its import must not disturb ours

    checkpoint = golden.open_checkpoint(golden.ORACLE / "checkpoint")
    llm = golden.build_language_model(
        checkpoint.llm, checkpoint.assets, checkpoint.generation_config
    )
    differences = [
        golden.largest_difference(
            golden.visual_tokens(llm, [golden.context_of(llm, case, "llm")]),
            golden.goldens("llm")[f"{case}.visual_tokens"],
        )
        for case in golden.DRAWN
    ]
    equal = [
        golden.generate_tokens(
            llm,
            [golden.context_of(llm, case, "vqa")],
            golden.Sampling(20, repetition_penalty=float(penalty)),
        )[0]
        == golden.goldens("vqa")[f"{case}.new_ids.rp{penalty}"][0].tolist()
        for case in ("vqa_image", "vqa_text")
        for penalty in ("1.0", "1.05")
    ]
    numbers = {
        "transformers": transformers.__version__,
        "tokenizers": importlib.metadata.version("tokenizers"),
        "visual_tokens": max(differences),
        "equal": sum(equal),
        "answers": len(equal),
    }
    print(json.dumps(numbers))


def print_table(rows: list[list[str]]) -> None:
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        measure()
    else:
        sys.exit(main(tuple(sys.argv[1:]) or VERSIONS))
