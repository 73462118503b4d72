"""A run's own result files beside the published tables."""

import json
from pathlib import Path

import pytest
from matplotlib import pyplot
from PIL import Image

from benchmarks.compare import main, plot, published, tables
from benchmarks.result_files import UNDERSTANDING, read_scores


def write(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), "utf-8")
    return file


def write_lines(file: Path, lines: list[dict]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


def lmms_eval_results(folder: Path, **tasks: dict[str, float]) -> Path:
    return write(folder / "20260101_000000_results.json", {"results": tasks, "versions": {}})


def test_published_tables_are_whole() -> None:
    tables = published()
    assert tables["understanding"]["columns"] == list(UNDERSTANDING)
    assert len(tables["understanding"]["rows"]) == 13
    numbers = sum(len(row) for row in tables["understanding"]["rows"].values())
    assert numbers == 101
    for table in tables.values():
        for row in table.get("rows", {}).values():
            assert row.keys() <= set(table["columns"])
    assert tables["understanding"]["rows"]["BLIP3-U 8B"].keys() == set(UNDERSTANDING)
    assert tables["generation"]["rows"]["Show-o 1.3B"] == {"GenEval": 0.68, "DPG-Bench": 67.27}


def test_lmms_eval_scores_come_in_the_tables_units(tmp_path: Path) -> None:
    lmms_eval_results(
        tmp_path,
        gqa={"exact_match,none": 0.6, "exact_match_stderr,none": 0.01},
        mmbench_en_dev={"gpt_eval_score,none": 83.2, "submission,none": "N/A"},
        mme={"mme_perception_score,none": 1600.0, "mme_cognition_score,none": 600.0},
    )
    found = {column: score.value for column, score in read_scores([tmp_path]).items()}
    assert found == pytest.approx({"GQA": 60, "MMBench": 83.2, "MME-P": 1600, "MME-C": 600})


def test_drawing_scores_as_their_scorers_count_them(tmp_path: Path) -> None:
    right = [("counting", True), ("counting", False), ("colors", True)]
    lines = [{"filename": "", "tag": tag, "correct": ok} for tag, ok in right]
    write_lines(tmp_path / "results.jsonl", lines)
    (tmp_path / "dpg.txt").write_text("0.png, 1.0, 1.0\nDPG-Bench score: 81.5\n")
    write(tmp_path / "typescore.json", {"add": 4.0, "style": 3.0})
    head = "source_image,edited_image,instruction,sementics_score,quality_score,"
    head += "intersection_exist,instruction_language\n"
    for group, marks in (("color_alter", "4,9"), ("style_change", "0,8")):
        (tmp_path / f"m_{group}_gpt_score.csv").write_text(f"{head}s,e,do,{marks},True,en\n")
    (tmp_path / "m_combined_gpt_score.csv").write_text(f"{head}s,e,do,9,9,True,en\n")
    found = {column: score.value for column, score in read_scores([tmp_path]).items()}
    # GenEval: the mean of tasks (0.5, 1), not of pictures; GEdit: the mean of sqrt(36) and 0
    assert found == pytest.approx(
        {"GenEval": 0.75, "DPG-Bench": 81.5, "ImgEdit": 3.5, "GEdit en": 3.0}
    )


def test_wise_weighs_its_categories_and_wants_them_all(tmp_path: Path) -> None:
    lines = [{"prompt_id": n, "score": float(n <= 400)} for n in range(1, 1001)]
    write_lines(tmp_path / "scores.jsonl", lines)
    assert read_scores([tmp_path])["WISE verified"].value == pytest.approx(0.4)
    marks = {"consistency": 2, "realism": 1, "aesthetic_quality": 0}
    write_lines(tmp_path / "scores.jsonl", [{"prompt_id": n, **marks} for n in range(1, 1001)])
    assert read_scores([tmp_path])["WISE"].value == pytest.approx(0.8)
    write_lines(tmp_path / "scores.jsonl", lines[:-1])
    with pytest.raises(ValueError, match=r"lacks 1 of 1000 prompts \(first \[1000\]\)"):
        read_scores([tmp_path])


def test_two_runs_are_not_mixed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        lmms_eval_results(tmp_path / name, gqa={"exact_match,none": len(name) * 0.5 + (name > "a")})
    with pytest.raises(ValueError, match="GQA stands in"):
        read_scores([tmp_path])


@pytest.mark.parametrize("path", ["missing", "."])
def test_nothing_to_compare_is_said(tmp_path: Path, path: str) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match="expected"):
        read_scores([tmp_path / path])


def test_the_command_prints_both_rows_and_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lmms_eval_results(tmp_path, pope={"pope_f1_score,none": 0.861})
    assert main([str(tmp_path), "--name", "8B here"]) == 0
    printed = capsys.readouterr().out
    assert "| BLIP3-U 8B | 83.1 | 60.5 | 83.5 | 77.5 | 87.5 |" in printed
    assert "| **8B here** | - | - | - | - | 86.1 |" in printed
    assert "| 8B here less BLIP3-U 8B | - | - | - | - | -1.4 |" in printed
    assert "GenEval" not in printed
    assert [title for title, _, _ in tables({"ImgEdit": 3.0}, "x")] == ["editing"]


def test_the_plot_shows_every_published_number_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    plot({"GQA": 59.0, "GenEval": 0.8}, "8B", tmp_path / "two.svg")
    (figure,) = figures
    assert [axis.get_yticklabels()[0].get_text() for axis in figure.axes] == ["GQA", "GenEval"]
    known = published()
    for axis, column, table in zip(
        figure.axes, ("GQA", "GenEval"), ("understanding", "generation"), strict=True
    ):
        shown = {line.get_label(): sorted(line.get_xdata()) for line in axis.lines}
        rows = known[table]["rows"]
        assert shown["published"] == sorted(r[column] for r in rows.values() if column in r)
        assert shown["BLIP3-U 8B"] == [rows["BLIP3-U 8B"][column]]
        assert shown["8B"] == [{"GQA": 59.0, "GenEval": 0.8}[column]]
    assert "<svg" in (tmp_path / "two.svg").read_text("utf-8")
    monkeypatch.undo()
    pyplot.close(figure)


def test_the_command_draws_a_strip_a_column(tmp_path: Path) -> None:
    write(tmp_path / "typescore.json", {"add": 4.0})  # ImgEdit, which has no published rows
    heights = []
    for name in ("one.png", "two.png"):
        assert main([str(tmp_path), "--plot", str(tmp_path / name)]) == 0
        with Image.open(tmp_path / name) as picture:
            heights.append(picture.height)
        lmms_eval_results(tmp_path, gqa={"exact_match,none": 0.6})
    assert heights[1] > heights[0]
