"""`python tests/compat/lmms_eval_scores.py`: lmms-eval, offline, against our own answers.

Needs an environment with `tests/compat/requirements-lmms-eval.txt` and `pip install .` of this
repository. A small task of the small world, a Parquet file beside its YAML, must give the score
that `Pipeline.answer` gives on the same questions, asked once, in rounds, or as a choice whose
likelihoods are compared; and photos must run through the golden checkpoint, whose weights are
random, without an error.
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
doc_to_visual: !function utils.visual
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
  do_sample: false
  until: ["\\n\\n"]
metric_list:
  - metric: {metric}
    aggregation: mean
    higher_is_better: true
"""
# output_type: metric and the lines of its own
FORMS = {
    "generate_until": (
        "exact_match",
        'doc_to_text: "{{question}}"\nprocess_results: !function utils.exact\n',
    ),
    "generate_until_multi_round": (
        "exact_match",
        "doc_to_text: !function utils.rounds\nprocess_results: !function utils.both\n",
    ),
    "multiple_choice": (
        "acc",
        'doc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ntarget_delimiter: ""\n',
    ),
}
UTILS = """
import io

from PIL import Image


def visual(doc):
    return [Image.open(io.BytesIO(doc["image"])).convert("RGB")]


def exact(doc, results):
    return {"exact_match": float(results[0].strip() == doc["answer"].strip())}


def rounds(doc, previous_output=None, round_idx=None, previous_round_info=None, **unused):
    if round_idx is None:
        return doc["question"]
    if round_idx == 1:
        return visual(doc), doc["question"], False, previous_output, None
    return None, None, True, previous_output, None


def both(doc, results):
    said = [answer.strip() for answer in results[0]]
    return {"exact_match": float(said == [doc["answer"].strip()] * 2)}
"""


def write_task(
    folder: Path,
    name: str,
    rows: list[tuple[str, str, Image.Image]],
    form: str = "generate_until",
) -> None:
    """A task that lmms-eval finds by `--include_path`, a Parquet file beside its YAML."""
    folder.mkdir(parents=True)
    answers = sorted({answer for _, answer, _ in rows})
    table = []
    for index, (question, answer, picture) in enumerate(rows):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        others = [other for other in answers if other != answer]
        choices = [*random.Random(index).sample(others, min(3, len(others))), answer]
        row = {"question": question, "answer": answer, "image": buffer.getvalue()}
        table.append({**row, "choices": sorted(choices)})
    pq.write_table(pa.Table.from_pylist(table), folder / "test.parquet")
    metric, more = FORMS[form]
    file = folder / "test.parquet"
    task = TASK.format(file=file, name=name, tokens=NEW_TOKENS, metric=metric)
    (folder / f"{name}.yaml").write_text(f"{task}output_type: {form}\n{more}")
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
        for form, (metric, _) in list(FORMS.items())[1:]:
            name = f"small_world_{form}"
            folder = Path(temporary) / name
            write_task(folder, name, rows[::2], form)
            theirs = lmms_eval_score(folder, name, TINY, 4)[f"{metric},none"]
            ours = our_score(rows[::2])
            print(f"| {form}, {len(rows[::2])} questions | {theirs:.4f} | {ours:.4f} |")
            assert theirs >= ours - 0.05  # a choice may be right where free words are not
        folder = Path(temporary) / "photos"
        write_task(folder, "photos", photos())
        score = lmms_eval_score(folder, "photos", GOLDEN, 2)
        print(f"| {len(PHOTOS)} photos, golden checkpoint | ran | {score['exact_match,none']} |")


if __name__ == "__main__":
    main()
