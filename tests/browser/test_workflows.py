"""Every shipped canvas in the real frontend: nothing is missing, it runs, it shows what it made."""

import json
from pathlib import Path

import pytest

from harness.canvas import Canvas
from harness.comfy import REPOSITORY, Host
from harness.make_workflows import wiring

WORKFLOWS = sorted((REPOSITORY / "workflows").glob("*.json"))


def test_there_are_workflows() -> None:
    assert len(WORKFLOWS) == 14


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_loads_runs_and_shows(
    file: Path, host: Host, canvas: Canvas, screenshots: Path
) -> None:
    canvas.errors.clear()
    canvas.load(json.loads(file.read_text("utf-8")))
    canvas.page.wait_for_timeout(500)
    assert canvas.problems() == []
    assert canvas.overlaps() == []
    assert canvas.links_behind() == []
    canvas.fit()
    assert canvas.zoom() >= 0.6, "not readable at 1600x900"
    graph = json.loads((file.parent / "api" / file.name).read_text("utf-8"))
    assert wiring(canvas.api(), graph) == wiring(graph, graph)

    entry = canvas.run()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    plain = {  # a chat shows its own; what is inside a box shows there
        n: out for n, out in entry["outputs"].items() if ":" not in n and "conversation" not in out
    }
    pictures = [image for out in plain.values() for image in out.get("images", [])]
    assert pictures or any(out.get("text") for out in plain.values())
    canvas.wait_until_shown(len(pictures))
    canvas.screenshot(screenshots / f"{file.stem}.png")
    told = {n: "\n\n".join(out["text"]) for n, out in plain.items() if out.get("text")}
    assert canvas.shown_texts() == told
    assert canvas.errors == []


def test_an_error_stands_on_the_node(canvas: Canvas) -> None:
    """A wrong value is answered in our words, and the next good prompt works."""
    graph = json.loads((REPOSITORY / "workflows" / "api" / "text_to_image.json").read_text("utf-8"))
    broken = json.loads(json.dumps(graph))
    for node in broken.values():
        if node["class_type"] == "BLIP3U_VisualTokens":
            node["inputs"]["prompt"] = "word " * 40_000
    canvas.load_api(broken, "broken")
    entry = canvas.run()
    assert entry["status"]["status_str"] == "error"
    canvas.dismiss("the language model reads at most")
    canvas.load_api(graph, "mended")
    assert canvas.run()["status"]["status_str"] == "success"


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "subgraphs").glob("*.json")), ids=lambda file: file.stem
)
def test_blueprint_opens_as_one_node(file: Path, canvas: Canvas) -> None:
    blueprint = json.loads(file.read_text("utf-8"))
    canvas.errors.clear()
    canvas.load(blueprint)
    canvas.page.wait_for_timeout(500)
    (node,) = blueprint["nodes"]
    shown = canvas.page.evaluate("() => app.graph._nodes[0].widgets.map(w => w.name)")
    assert len(shown) == len(node["properties"]["proxyWidgets"])
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    inside = sorted(inner["type"] for inner in subgraph["nodes"])
    assert sorted(made["class_type"] for made in canvas.api().values()) == inside
    assert canvas.errors == []
