"""The benchmarks that need a host run at their smallest size; what they count must hold."""

import json

from benchmarks import host_import, reuse
from benchmarks.in_host import call_in_host
from harness.comfy import RANDOM_TINY, Host


def test_a_new_seed_repeats_neither_language_model_nor_negative_features(host: Host) -> None:
    graph = json.loads(reuse.WORKFLOW.read_text(encoding="utf-8"))
    for node in graph.values():
        if "checkpoint" in node["inputs"]:
            node["inputs"]["checkpoint"] = RANDOM_TINY
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    repeated, remade, _ = reuse.reuse_rows(host, graph, "random weights", 2)
    assert repeated.ratio == 0, repeated.detail
    assert remade.ratio == 0
    assert "ClipFeatureSampler, Decode" in repeated.detail


def test_loading_the_pack_imports_no_heavy_package() -> None:
    seconds, heavy = host_import.rows(minimal=True)
    assert " nodes; " in seconds.detail
    assert heavy.ratio == 0, heavy.detail


def test_the_hosts_samplers_give_what_the_bare_loop_gives() -> None:
    result = call_in_host("sampler", "measure_in_host", True)
    assert set(result["seconds"]) == {"bare", "CLIP Feature Sampler", "KSampler", "previews"}
    assert max(result["difference"].values()) < 1e-5
