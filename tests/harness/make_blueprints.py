"""Make subgraphs/*.json: the common chains as one node each, out of the shipped workflows.

python -m harness.make_blueprints [title ...]      (in tests/; starts its own host and browser)
"""

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.canvas import Canvas, open_canvas
from harness.comfy import REPOSITORY, Graph, make_base_folder, running_host
from harness.make_workflows import FIX_SEEDS, SIZES, signed

CATEGORY = "BLIP3-U"  # its folder in the node library

# The links that cross the border become the inputs and outputs of the one node.
PACK_UP = """([kept, feeders, reader, shown, title]) => {
  const beside = n => [...feeders, reader].includes(String(n.id));
  const outer = app.graph._nodes.filter(n => !kept.includes(String(n.id)));
  outer.filter(n => !beside(n)).forEach(n => app.graph.remove(n));
  outer.filter(n => feeders.includes(String(n.id))).forEach(n => n.inputs.forEach((_, i) =>
    n.disconnectInput(i)));
  const inner = app.graph._nodes.filter(n => kept.includes(String(n.id)));
  const {node, subgraph} = app.graph.convertToSubgraph(new Set(inner));
  app.graph._nodes.filter(n => n !== node).forEach(n => app.graph.remove(n));
  subgraph.name = title;
  node.title = title;
  node.properties.proxyWidgets = shown;
  node.pos = [0, 0];
  node.setSize([420, 90 + 40 * shown.length]);
}"""


@dataclass(frozen=True)
class Blueprint:
    title: str
    workflow: str
    nodes: tuple[str, ...]  # ids in the workflow's API form
    widgets: tuple[tuple[str, str], ...]  # (id, widget) to show on the one node
    description: str  # in the node library of newer frontends
    reader: str  # the node outside that takes the output
    feeders: tuple[str, ...] = ()  # the nodes outside that give the inputs
    rewire: dict[tuple[str, str], list[Any]] = field(default_factory=dict)


BLUEPRINTS = (
    Blueprint(
        "BLIP3-U Text to Image",
        "text_to_image",
        ("1", "2", "3", "4", "5"),
        (("1", "checkpoint"), ("2", "prompt"), ("3", "seed"), ("5", "width"), ("5", "height")),
        description="Draws a picture from a prompt: all stages of BLIP3-U as one node.",
        reader="6",
    ),
    Blueprint(
        "BLIP3-U Decode, fast",
        "text_to_image",
        ("5",),
        (("5", "seed"), ("5", "aspect_ratio"), ("5", "scheduler"), ("5", "steps")),
        description="Draws the pictures of CLIP features with 0.28 of the decoder's work: 14 "
        "karras steps lie as near to the exact solution as the reference's 50.",
        reader="6",
        feeders=("1", "3", "4"),
    ),
    Blueprint(
        "BLIP3-U Ask about an Image",
        "visual_question_answering",
        ("1", "7"),
        (("1", "checkpoint"), ("7", "question"), ("7", "max_new_tokens")),
        description="Asks the language model about a picture and gives the answer as text.",
        reader="8",
        feeders=("5",),
    ),
    Blueprint(
        "BLIP3-U Edit an Image",
        "masked_editing",
        ("1", "4", "7", "10", "11", "12", "13", "14", "15", "16", "19"),
        (
            ("1", "checkpoint"),
            ("10", "vision_tower"),
            ("7", "instruction"),
            ("14", "strength"),
            ("14", "seed"),
            ("16", "threshold"),
        ),
        description="Changes a picture by an instruction; a mask keeps all else.",
        reader="20",
        feeders=("5",),
        rewire={("14", "negative"): ["13", 1]},  # in the workflow it comes from the drawn picture
    ),
)


def make(canvas: Canvas, blueprint: Blueprint) -> dict[str, Any]:
    path = REPOSITORY / "workflows" / "api" / f"{blueprint.workflow}.json"
    graph: Graph = json.loads(path.read_text("utf-8"))
    for (node, name), link in blueprint.rewire.items():
        graph[node]["inputs"][name] = link
    canvas.load_api(graph, blueprint.title)
    canvas.page.wait_for_timeout(800)
    canvas.page.evaluate(FIX_SEEDS)
    canvas.arrange(SIZES)
    shown = [list(pair) for pair in blueprint.widgets]
    border = [list(blueprint.feeders), blueprint.reader]
    canvas.page.evaluate(PACK_UP, [list(blueprint.nodes), *border, shown, blueprint.title])
    canvas.page.wait_for_timeout(500)
    made = canvas.serialized()
    (subgraph,) = made["definitions"]["subgraphs"]
    subgraph.update(category=CATEGORY, description=blueprint.description)
    return signed(made)


def main(names: list[str]) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        with running_host(make_base_folder(base)) as host, open_canvas(host) as canvas:
            for blueprint in BLUEPRINTS:
                if names and blueprint.title not in names:
                    continue
                text = json.dumps(make(canvas, blueprint), indent=1, ensure_ascii=False)
                file = REPOSITORY / "subgraphs" / f"{blueprint.title}.json"
                file.parent.mkdir(exist_ok=True)
                file.write_text(text + "\n", "utf-8")
                print(file.name)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1:])
