"""What the pack serves besides running: help, languages, templates, blueprints."""

import json
import re
import urllib.parse
import urllib.request
from typing import Any

import pytest

from harness.comfy import PACK, REPOSITORY, Host

DESIGNED = [
    "LoadModel",
    "LoadVisionTower",
    "VisualTokens",
    "ClipFeatureSampler",
    "EmptyFeatures",
    "FeatureSigmas",
    "DecoderSigmas",
    "NegativeFeatures",
    "FeatureConditioning",
    "Decode",
    "VQA",
    "CaptionFolder",
    "Reason",
    "EncodeImage",
    "EditPlan",
    "EditFeatures",
    "FeatureDifferenceMask",
    "ChatMessage",
    "ShowChat",
    "Interleave",
    "PreviewFeatures",
]


@pytest.fixture(scope="module")
def nodes(host: Host) -> dict[str, Any]:
    info = host.get("/object_info")
    return {name: node for name, node in info.items() if name.startswith("BLIP3U_")}


def inputs_of(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    both = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    return {name: spec[1] if len(spec) > 1 else {} for name, spec in both.items()}


def text(host: Host, path: str) -> str:
    with urllib.request.urlopen(host.url + urllib.parse.quote(path), timeout=30) as reply:
        return reply.read().decode()


def test_every_designed_node_is_there(nodes: dict[str, Any]) -> None:
    assert {f"BLIP3U_{name}" for name in DESIGNED} <= set(nodes)


def test_every_socket_has_a_tooltip_and_every_float_a_step(nodes: dict[str, Any]) -> None:
    for name, node in nodes.items():
        assert node["description"], name
        assert node["category"].startswith("BLIP3-U/"), name
        assert all(node["output_tooltips"]), f"{name}: {node['output_tooltips']}"
        for key, spec in inputs_of(node).items():
            assert spec.get("tooltip"), f"{name}.{key}"
            if isinstance(spec.get("default"), float):
                assert spec.get("step"), f"{name}.{key}: the canvas would round it"


def test_every_node_is_found_by_other_words(host: Host, nodes: dict[str, Any]) -> None:
    """Hosts from 0.12 on search by aliases; stock nodes show whether this host does."""
    if "search_aliases" not in host.get("/object_info/PreviewAny")["PreviewAny"]:
        pytest.skip("this host's schemas hold no search aliases")
    for name, node in nodes.items():
        assert node["search_aliases"], name


@pytest.mark.parametrize("language", ["en", "zh"])
def test_language_is_complete(host: Host, nodes: dict[str, Any], language: str) -> None:
    served = host.get("/i18n")[language]["nodeDefs"]
    assert {name for name in served if name.startswith("BLIP3U_")} == set(nodes)
    for name, node in nodes.items():
        words, inputs = served[name], inputs_of(node)
        assert words["display_name"]
        assert words["description"]
        assert set(words["inputs"]) - set(inputs) <= {"more_images"}, name  # older hosts lack it
        assert set(inputs) <= set(words["inputs"]), name
        assert set(words.get("outputs", {})) == {str(i) for i in range(len(node["output"]))}, name
        for key, spec in inputs.items():
            assert words["inputs"][key]["tooltip"], f"{name}.{key}"
            if language == "en":
                assert words["inputs"][key]["tooltip"] == spec["tooltip"], f"{name}.{key}"
        for number, tooltip in enumerate(node["output_tooltips"]):
            told = words["outputs"][str(number)]["tooltip"]
            assert told == tooltip if language == "en" else re.search("[一-鿿]", told), name
        if language == "en":
            assert words["display_name"] == node["display_name"]
            assert words["description"] == node["description"]
        if language == "zh":
            assert re.search("[一-鿿]", words["description"]), name


def test_every_node_has_a_help_page(host: Host, nodes: dict[str, Any]) -> None:
    for name, node in nodes.items():
        page = text(host, f"/extensions/{PACK}/docs/{name}.md")
        for word in [*inputs_of(node), *node["output_name"]]:
            assert re.search(rf"\b{word}\b", page), f"{name}: the page does not name {word}"
        assert re.search("^## Input", page, re.MULTILINE), name
        inputs = page.split("## Input")[1].split("\n## ")[0]
        assert "\n|" not in inputs, (
            f"{name}: a table is squeezed in the narrow panel of newer hosts"
        )
        assert "## Pitfalls" in page, name
        pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
        assert pictures, f"{name}: the page has no picture"
        for picture in pictures:
            assert (REPOSITORY / "web" / "docs" / picture).is_file(), f"{name}: {picture}"
    pages = {page.stem for page in (REPOSITORY / "web" / "docs").glob("*.md")}
    assert pages == set(nodes), "a page without its node"


def test_templates_and_blueprints_are_listed(host: Host) -> None:
    templates = set(host.get("/api/workflow_templates")[PACK])
    assert templates == {file.stem for file in (REPOSITORY / "workflows").glob("*.json")}
    for name in templates:  # the host takes the first of several folders' names for templates
        address = f"{host.url}/api/workflow_templates/{PACK}/{name}"
        for ending in ("json", "jpg"):
            with urllib.request.urlopen(f"{address}.{ending}", timeout=30) as served:
                file = REPOSITORY / "workflows" / f"{name}.{ending}"
                assert served.read() == file.read_bytes(), file.name
    blueprints = host.get("/api/global_subgraphs")
    ours = {entry["name"]: key for key, entry in blueprints.items() if PACK in str(entry["info"])}
    assert set(ours) == {file.stem for file in (REPOSITORY / "subgraphs").glob("*.json")}
    for key in ours.values():
        graph = json.loads(host.get(f"/api/global_subgraphs/{key}")["data"])
        (subgraph,) = graph["definitions"]["subgraphs"]
        assert subgraph["category"] == "BLIP3-U"
        assert subgraph["description"]


def test_start_imports_nothing_heavy(host: Host) -> None:
    loaded = host.get("/blip3u_test/modules_at_start")
    assert any("blip3_u" in name or "blip3-u" in name for name in loaded)
    assert not [name for name in loaded if name.split(".")[0] == "diffusers"]
    assert not [name for name in loaded if name.startswith("transformers.models.qwen2_5_vl")]
