"""`python tests/compat/scorers_read.py --scorers FOLDER`: do the official scorers find our exports?

FOLDER holds checkouts `geneval` (djghosh13), `ELLA` (TencentQQGYLab), `WISE`, `ImgEdit`
(PKU-YuanGroup) and `Step1X-Edit` (stepfun-ai); none of their code is ours. Their own code walks the
folders that `blip3u_core.export` writes; detectors and judges are stand-ins that count what they
are shown. Needs pandas and pyarrow; what the scorers import beside it is replaced. A checkout of
`VLMEvalKit` (open-compass) there shows that its base class takes our model.
"""

import argparse
import csv
import importlib.machinery
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from blip3u_core.export.__main__ import main as export
from blip3u_core.run_settings import BUILT_IN

FEW = ["--feature-steps", "1", "--decoder-steps", "1", "--batch-size", "4", "--device", "cpu"]
SIDE = 128  # of blip3u-tiny's pictures
NUM = 3  # prompts a benchmark


def stubs(*names: str) -> Any:
    """Packages that the scorers import and that need not be here."""
    made: dict[str, ModuleType | MagicMock] = {}
    for name in names:
        module = MagicMock(name=name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        made[name] = module
    return patch.dict(sys.modules, made)


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scorer_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def arguments(*words: str | Path) -> Any:
    with patch.object(sys, "argv", ["scorer", *map(str, words)]):
        yield


def draw(benchmark: str, prompts: Path, out: Path, *more: str | Path) -> None:
    words = [benchmark, "--prompts", prompts, "--out", out, *FEW, *more]
    export([str(word) for word in words])


def geneval(scorers: Path, work: Path) -> str:
    source = scorers / "geneval" / "prompts" / "evaluation_metadata.jsonl"
    lines = source.read_text("utf-8").splitlines(keepends=True)[:NUM]
    (work / "prompts.jsonl").write_text("".join(lines))
    draw("geneval", work / "prompts.jsonl", work / "out")
    sizes = []
    with (
        stubs("mmdet", "mmdet.apis", "open_clip", "clip_benchmark", "clip_benchmark.metrics"),
        patch("torch.cuda.is_available", return_value=True),
    ):
        module = load(scorers / "geneval" / "evaluation" / "evaluate_images.py")
        names = (scorers / "geneval/evaluation/object_names.txt").read_text().splitlines()

        def detect(_: object, path: str) -> list[np.ndarray]:
            """Finds one of everything."""
            sizes.append(Image.open(path).size)
            return [np.array([[0, 0, 9, 9, 0.99]]) for _ in names]

        module.inference_detector = detect
        constants = {"THRESHOLD": 0.3, "COUNTING_THRESHOLD": 0.9, "MAX_OBJECTS": 16}
        constants |= {"NMS_THRESHOLD": 1.0, "POSITION_THRESHOLD": 0.1}
        vars(module).update(constants, object_detector=None, classnames=names)
        module.main(argparse.Namespace(imagedir=str(work / "out"), outfile=str(work / "r.jsonl")))
    rows = [json.loads(line) for line in (work / "r.jsonl").read_text().splitlines()]
    assert len(rows) == len(sizes) == 4 * NUM
    assert {row["prompt"] for row in rows} == {json.loads(line)["prompt"] for line in lines}
    assert all(row["correct"] for row in rows)
    assert set(sizes) == {(SIDE, SIDE)}
    return f"{len(rows)} pictures of {NUM} prompts"


def dpg(scorers: Path, work: Path) -> str:
    files = sorted((scorers / "ELLA" / "dpg_bench" / "prompts").glob("*.txt"))[-NUM:]  # words
    (work / "prompts").mkdir()
    for file in files:
        (work / "prompts" / file.name).write_text(file.read_text("utf-8"))
    draw("dpg", work / "prompts", work / "out")
    columns = ["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad"]
    columns += ["category_detailed", "tuple", "question_natural_language"]
    with (work / "dpg.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(columns)
        for file in (files[0], *files):  # its reader skips the first row
            row = [file.stem, file.read_text("utf-8"), "", 1, "0,0", "", "", "entity - whole (x)"]
            writer.writerow([*row, "Is it so?"])
    draw("dpg", work / "dpg.csv", work / "of_table")
    for picture in (work / "out").iterdir():
        assert (work / "of_table" / picture.name).read_bytes() == picture.read_bytes()
    seen = []
    with stubs("accelerate", "accelerate.utils"):
        module = load(scorers / "ELLA" / "dpg_bench" / "compute_dpg_bench.py")

        class Judge:
            def vqa(self, picture: Image.Image, question: str) -> str:
                seen.append((picture.size, np.array(picture).tobytes()))
                return "yes"

        options = argparse.Namespace(
            csv=str(work / "dpg.csv"), pic_num=4, res_path=str(work / "r.txt")
        )
        asked = module.prepare_dpg_data(options)
        for picture in sorted((work / "out").iterdir()):
            score, *_ = module.compute_dpg_one_sample(options, asked, str(picture), Judge(), SIDE)
            assert score == 1
    assert {size for size, _ in seen} == {(SIDE, SIDE)}
    assert len({pixels for _, pixels in seen}) == 4 * NUM
    return f"{len(seen)} quarters of {NUM} pictures"


def wise(scorers: Path, work: Path) -> str:
    source = scorers / "WISE" / "data_verified" / "natural_science_verified.json"
    rows = json.loads(source.read_text("utf-8"))[:NUM]
    (work / "prompts.json").write_text(json.dumps(rows))
    draw("wise", work / "prompts.json", work / "out")
    with stubs("requests"):
        module = load(scorers / "WISE" / "vllm_eval.py")
        module._chat_completion_via_vllm = lambda messages, config: "Score: 1"
        words = ["--json_path", work / "prompts.json", "--image_dir", work / "out", "--model", "m"]
        words += [
            "--output_dir",
            work / "r",
            "--result_full",
            "f.json",
            "--result_scores",
            "s.jsonl",
        ]
        with arguments(*words):
            module.main()
    scored = [json.loads(line) for line in (work / "r" / "s.jsonl").read_text().splitlines()]
    assert [row["prompt_id"] for row in scored] == sorted(row["prompt_id"] for row in rows)
    return f"{len(scored)} of {NUM} prompts"


def imgedit(scorers: Path, work: Path) -> str:
    folder = scorers / "ImgEdit" / "Benchmark" / "Basic"
    rows = dict(list(json.loads((folder / "basic_edit.json").read_text("utf-8")).items())[:NUM])
    (work / "edit.json").write_text(json.dumps(rows))
    for row in rows.values():
        place = work / "images" / row["id"]
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 96), "beige").save(place)
    draw("imgedit", work / "edit.json", work / "out", "--images", work / "images")
    with stubs("openai", "tenacity"):
        module = load(folder / "basic_bench.py")
        answer = MagicMock()
        answer.choices[0].message.content = "Prompt Compliance: 5"
        module.OpenAI.return_value.chat.completions.create.return_value = answer
        judged = json.loads((folder / "prompts.json").read_text("utf-8"))
        module.process_json(
            str(work / "edit.json"), str(work / "out"), str(work / "images"), 1, judged
        )
        calls = module.OpenAI.return_value.chat.completions.create.call_count
    results = json.loads((work / "out" / "result.json").read_text())
    assert results.keys() == rows.keys()
    assert all(isinstance(result, str) for result in results.values()), results
    assert calls == NUM
    return f"{calls} pairs of {NUM} edits"


def gedit(scorers: Path, work: Path) -> str:
    Image.new("RGB", (160, 96), "beige").save(work / "source.png")
    rows = [
        {"task_type": "color_alter", "key": f"k{n}", "instruction": "make it night",
         "instruction_language": language, "input_image": "source.png"}
        for n in range(NUM) for language in ("en", "cn")
    ]  # fmt: skip
    picture = {"bytes": (work / "source.png").read_bytes(), "path": "source.png"}
    columns = {"input_image": picture, "input_image_raw": picture, "Intersection_exist": True}
    table = pa.Table.from_pylist([row | columns for row in rows])  # as the data set has them
    (work / "data").mkdir()
    pq.write_table(table, work / "data" / "train-00000-of-00001.parquet")
    draw("gedit", work / "data", work / "results", "--model-name", "mine")
    shown = []
    with stubs("viescore", "megfile", "datasets"):
        module = load(scorers / "Step1X-Edit" / "GEdit-Bench" / "test_gedit_score.py")
        module.megfile.smart_open = open
        module.save_path, module.group_name = str(work / "results" / "mine"), "color_alter"
        judge = MagicMock()

        def judged(pictures: list[Image.Image], prompt: str) -> tuple[int, int, int]:
            shown.append([picture.size for picture in pictures])
            return 5, 5, 5

        judge.evaluate = judged
        for row in rows:
            item = {**row, "Intersection_exist": True}
            assert module.process_single_item(item, judge, max_retries=1), row
    assert shown == [[(160, 96)] * 2] * len(rows)
    return f"{len(shown)} pairs of {len(rows)} edits"


def vlmevalkit(scorers: Path, work: Path) -> str:
    """Its base class prepares a message, our class answers it."""
    Image.new("RGB", (96, 96), "beige").save(work / "picture.png")

    def parse_file(text: str) -> tuple[str | None, str]:
        return ("image/png", text) if Path(text).is_file() else (None, text)

    with stubs("vlmeval", "vlmeval.dataset", "vlmeval.smp", "vlmeval.vlm", "vlmeval.vlm.base"):
        sys.modules["vlmeval.smp"].parse_file = parse_file
        base = load(scorers / "VLMEvalKit" / "vlmeval" / "vlm" / "base.py")
        sys.modules["vlmeval.vlm.base"] = base
        from blip3u_core.harnesses.vlmevalkit import Blip3U

        model = Blip3U(str(BUILT_IN), max_new_tokens=8, dtype="fp32")
        said = [
            model.generate([str(work / "picture.png"), "What is this?"]),
            model.generate([{"type": "text", "value": "What is a star?"}], dataset="MMBench"),
        ]
    assert all(said), said
    return f"{len(said)} of 2 messages"


CHECKS: tuple[Callable[[Path, Path], str], ...] = (
    geneval, dpg, wise, imgedit, gedit, vlmevalkit,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scorers", type=Path, required=True)
    options = parser.parse_args()
    for check in CHECKS:
        with tempfile.TemporaryDirectory() as work:
            print(f"| {check.__name__} | {check(options.scorers, Path(work))} |", flush=True)


if __name__ == "__main__":
    main()
