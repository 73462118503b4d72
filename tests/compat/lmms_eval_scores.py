"""`python tests/compat/lmms_eval_scores.py`: lmms-eval, offline, against our own answers.

Needs an environment with `tests/compat/requirements-lmms-eval.txt` and `pip install .` of this
repository. A small task of the small world, a Parquet file beside its YAML, must give the score
that `Pipeline.answer` gives on the same questions; and photos must run through the golden
checkpoint, whose weights are random, without an error.
"""

import io
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from blip3u_core.language.generate import SamplingParams  # noqa: E402  after the path above
from blip3u_core.pipeline import Pipeline  # noqa: E402
from small_world.questions import ask  # noqa: E402
from small_world.world import render, sample_scene  # noqa: E402

TINY = REPOSITORY / "models" / "blip3u-tiny"
GOLDEN = REPOSITORY / "tests" / "golden" / "oracle" / "checkpoint"
KINDS = ("color", "shape", "count", "position", "yes_no")
A_KIND = 12
NEW_TOKENS = 48
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera")

TASK = """
dataset_path: parquet
dataset_kwargs:
  data_files: {{test: {file}}}
task: {name}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
  do_sample: false
  until: ["\\n\\n"]
process_results: !function utils.exact
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
UTILS = """
import io

from PIL import Image


def visual(doc):
    return [Image.open(io.BytesIO(doc["image"])).convert("RGB")]


def exact(doc, results):
    return {"exact_match": float(results[0].strip() == doc["answer"].strip())}
"""


def write_task(folder: Path, name: str, rows: list[tuple[str, str, Image.Image]]) -> None:
    """A task that lmms-eval finds by `--include_path`, a Parquet file beside its YAML."""
    folder.mkdir(parents=True)
    table = []
    for question, answer, picture in rows:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        table.append({"question": question, "answer": answer, "image": buffer.getvalue()})
    pq.write_table(pa.Table.from_pylist(table), folder / "test.parquet")
    task = TASK.format(file=folder / "test.parquet", name=name, tokens=NEW_TOKENS)
    (folder / f"{name}.yaml").write_text(task)
    (folder / "utils.py").write_text(UTILS)


def small_world() -> list[tuple[str, str, Image.Image]]:
    """The first of the held-out questions that benchmarks/MEANING.md counts."""
    rows = []
    for kind in KINDS:
        for number in range(A_KIND):
            rng = random.Random(f"vqa {kind} {number}")
            scene = sample_scene(rng, "held_out")
            question = ask(rng, scene, kind)
            rows.append((question.text, question.answer, Image.fromarray(render(scene))))
    return rows


def photos() -> list[tuple[str, str, Image.Image]]:
    pictures = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOS]
    return [("What is in this picture?", "", picture.convert("RGB")) for picture in pictures]


def lmms_eval_score(folder: Path, name: str, checkpoint: Path, batch: int) -> dict[str, float]:
    out = folder / f"out-{batch}"
    command = [sys.executable, "-m", "lmms_eval", "--model", "blip3u", "--tasks", name]
    command += ["--model_args", f"pretrained={checkpoint}", "--device", "cpu"]
    command += ["--include_path", str(folder), "--batch_size", str(batch)]
    command += ["--output_path", str(out), "--force_simple"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    environment |= {"HF_HOME": str(folder / "cache"), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    found = list(out.rglob("*_results.json"))
    if done.returncode or not found:  # lmms-eval ends with 0 after an error, too
        raise SystemExit(done.stdout[-3000:] + done.stderr[-6000:])
    return json.loads(found[0].read_text())["results"][name]


def our_score(rows: list[tuple[str, str, Image.Image]]) -> float:
    import numpy as np

    pipeline = Pipeline.from_checkpoint(TINY)
    right = 0
    for question, answer, picture in rows:
        pixels = torch.from_numpy(np.array(picture)).float() / 255
        said = pipeline.answer(question, pixels, sampling=SamplingParams(max_new_tokens=NEW_TOKENS))
        right += said.strip() == answer.strip()
    return right / len(rows)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "small_world"
        rows = small_world()
        write_task(folder, "small_world", rows)
        ours = our_score(rows)
        for batch in (1, 8):
            theirs = lmms_eval_score(folder, "small_world", TINY, batch)["exact_match,none"]
            print(
                f"| small world, {len(rows)} questions, batch {batch} | {theirs:.4f} | {ours:.4f} |"
            )
            assert theirs == ours
        folder = Path(temporary) / "photos"
        write_task(folder, "photos", photos())
        score = lmms_eval_score(folder, "photos", GOLDEN, 2)
        print(f"| {len(PHOTOS)} photos, golden checkpoint | ran | {score['exact_match,none']} |")


if __name__ == "__main__":
    main()
