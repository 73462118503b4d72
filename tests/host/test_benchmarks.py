"""The benchmarks that need a host run at their smallest size; what they count must hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import decoder_quality
from benchmarks.speed import conversation, decode, host_import, memory, quantized_stages, reuse
from benchmarks.speed.in_host import call_in_host
from harness.comfy import RANDOM_TINY, REPOSITORY, Host


def text_to_image() -> reuse.Graph:
    """The shipped workflow in two steps on random weights."""
    graph = json.loads(reuse.WORKFLOW.read_text(encoding="utf-8"))
    for node in graph.values():
        if "checkpoint" in node["inputs"]:
            node["inputs"]["checkpoint"] = RANDOM_TINY
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    return graph


def test_a_new_seed_repeats_neither_language_model_nor_negative_features(host: Host) -> None:
    graph = text_to_image()
    repeated, remade, _ = reuse.reuse_rows(host, graph, "random weights", 2)
    assert repeated.ratio == 0, repeated.detail
    assert remade.ratio == 0
    assert "ClipFeatureSampler, Decode" in repeated.detail


def test_fast_is_measured_against_exact_and_the_decoder_against_stock_nodes(host: Host) -> None:
    fast, stock = decode.decode_rows(host, 1, minimal=True)
    assert fast.ratio > 0
    assert stock.ratio > 0


def test_a_conversation_is_measured_turn_by_turn(host: Host) -> None:
    row = conversation.conversation_row(host, 4, 2)
    assert row.ratio > 0
    assert "1 pictures before turn 4" in row.detail or "2 pictures" in row.detail


def test_every_stage_reports_its_peak_where_it_is_counted(host: Host) -> None:
    graph = reuse.with_prompt(text_to_image(), 9)  # asked by no other test: what is cached runs not
    host.hook(counted_bytes=3 * 1024**3)
    before = len(host.log_text())
    host.run(graph)
    host.hook()
    said = host.log_text()[before:]
    for stage in ("language model", "DiT", "decoder", "VAE"):
        assert f"BLIP3-U {stage}: at most 3.0 GB in use, 0.0 of its 0.0 GB" in said, stage


def test_loading_the_pack_imports_no_heavy_package() -> None:
    seconds, heavy = host_import.rows(minimal=True)
    assert " nodes; " in seconds.detail
    assert heavy.ratio == 0, heavy.detail


def test_the_hosts_samplers_give_what_the_bare_loop_gives() -> None:
    result = call_in_host("sampler", "measure_in_host", True)
    assert set(result["seconds"]) == {"bare", "CLIP Feature Sampler", "KSampler", "previews"}
    assert max(result["difference"].values()) < 1e-5


def test_the_host_is_asked_for_as_much_room_as_a_stage_takes() -> None:
    for row in memory.rows(minimal=True):
        assert 0.4 < row.ratio <= 1, row


def test_ways_to_decode_are_measured_with_what_they_cost() -> None:
    found = {one.setting.name: one for one in decoder_quality.measure(2, minimal=True)}
    assert found["draft"].work == pytest.approx(8 / 50)
    cached = found["fast, cached"]
    assert 7 / 50 < cached.work < 14 / 50
    # Five of 13 evaluations are full, three of them late; nothing of 0.59 of a UNet is left out.
    assert 0.185 < found["lean, gated"].work < (5 + 8 * 0.587) / 50
    for one in found.values():
        assert one.to_exact > 20
        assert 0.5 < one.features <= 1


def test_what_quantised_stages_lose_is_measured_in_the_host() -> None:
    _, _, trained, *small = quantized_stages.table(2)
    assert trained.startswith("| as trained | 8.2 | 0 | 0 | 0 | 0 | 2 of 2 |")
    assert [line.split("`")[1] for line in small] == list(quantized_stages.KINDS)
    for line in small:
        errors = [float(cell) for cell in line.split("|")[3:7]]
        assert all(0 < error < 0.2 for error in errors), line


def test_the_meaning_table_is_shared_out_among_processes(tmp_path: Path) -> None:
    """As the documents say it: functions of a package's `__main__` are not found there."""
    table = tmp_path / "table.md"
    small = ["--jobs", "2", "--cases", "1", "--steps", "1", "--decoder-steps", "1"]
    command = [sys.executable, "-m", "benchmarks.meaning", *small, "--table", str(table)]
    command += ["--rows", "questions", "reconstruction"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = table.read_text()
    assert rows.index("VQA: color") < rows.index("keeps the scene")
