"""Make the canvas form and the thumbnail of every graph in workflows/api.

    python -m harness.make_workflows [name ...]      (in tests/; starts its own host and browser)

The API form is what is written by hand, its place on the canvas is in templates.py. The canvas form
is what the real frontend makes of both; the thumbnail shows what the graph really gave.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from harness.canvas import open_canvas
from harness.comfy import PACK, REPOSITORY, Graph, Host, Result, make_base_folder, running_host
from harness.templates import TEMPLATES, Template

WORKFLOWS = REPOSITORY / "workflows"
NOTES = json.loads((Path(__file__).parent / "workflow_notes.json").read_text("utf-8"))
SIZES = {
    "LoadImage": [300, 250],
    "PreviewImage": [300, 250],
    "SaveImage": [300, 280],
    "PreviewAny": [320, 150],
    "BLIP3U_LoadModel": [320, 200],  # with Nodes 2.0 it is higher than on the classic canvas
    "BLIP3U_LoadVisionTower": [320, 140],
    "BLIP3U_ShowChat": [420, 480],
    "BLIP3U_VisualTokens": [380, 240],
    "BLIP3U_VQA": [360, 440],
    "BLIP3U_Reason": [360, 330],
    "BLIP3U_EditPlan": [360, 280],
    "BLIP3U_Interleave": [380, 480],
    "BLIP3U_Converse": [460, 900],
    "BLIP3U_CaptionFolder": [380, 380],
    "PrimitiveStringMultiline": [320, 150],
    "GetImageSize": [260, 220],
}
NOTE_WIDTH = 340
FACE_WIDTH, TEXT_ROWS = 330, {"prompt": 120, "instruction": 120, "question": 100}
MODELS = [  # where the published weights are; for the frontend's list of missing models
    {"name": name, "url": f"https://huggingface.co/BLIP3o/{name}", "directory": "blip3u"}
    for name in ("BLIP3o-Model-8B", "BLIP3o-Model-4B")
]
FIX_SEEDS = """() => app.graph._nodes.forEach(n => (n.widgets || []).forEach(w => {
  if (w.name === 'control_after_generate') w.value = 'fixed';
}))"""
TILE, GAP, TEXT_LINE = 256, 8, 22


# One node in place of a chain: its inputs and outputs are the links that crossed the border.
PACK_UP = """([kept, face, title, width, height]) => {
  const inner = app.graph._nodes.filter(n => kept.includes(String(n.id)));
  const {node, subgraph} = app.graph.convertToSubgraph(new Set(inner));
  subgraph.name = title;
  node.title = title;
  node.properties.proxyWidgets = face;
  node.setSize([width, Math.max(height, 40 + 22 * (node.inputs || []).length)]);
  return node.id;
}"""

# Columns from left to right, each in a group of its own.
PLACE = """([columns, sizes, gap, pad]) => {
  let x = 0;
  for (const {title, items, top} of columns) {
    const nodes = items.map(id => app.graph.getNodeById(id));
    let y = top;
    nodes.forEach(n => {
      const wanted = sizes[n.type];
      if (wanted) n.setSize([Math.max(wanted[0], n.computeSize()[0]),
                             Math.max(wanted[1], n.computeSize()[1])]);
      n.pos = [x, y];
      y += n.size[1] + 48;
    });
    const width = Math.max(...nodes.map(n => n.size[0]));
    const group = new LiteGraph.LGraphGroup(title);
    group.pos = [x - pad, top - 90];
    group.size = [width + 2 * pad, y - top + 66];
    app.graph.add(group);
    x += width + gap;
  }
}"""


def canvas_form(canvas: Any, graph: dict[str, Any], name: str) -> dict[str, Any]:
    canvas.load_api(graph, name)
    canvas.page.wait_for_timeout(800)
    canvas.page.evaluate(FIX_SEEDS)
    place(canvas, graph, TEMPLATES[name])
    text = NOTES[name]
    canvas.add_note(text, NOTE_WIDTH, note_height(text), len(TEMPLATES[name].columns) > 3)
    problems = canvas.problems() + canvas.overlaps() + canvas.links_behind() + canvas.errors
    if problems:
        raise RuntimeError(f"{name}: {problems}")
    made, wanted = wiring(canvas.api(), graph), wiring(graph, graph)
    if made != wanted:
        changed = [(made.get(key), wanted[key]) for key in wanted if made.get(key) != wanted[key]]
        raise RuntimeError(f"{name}: canvas and workflows/api differ: {changed}")
    return signed(canvas.serialized())


def note_height(text: str) -> int:
    """Of the node that shows this note; a Chinese character is as wide as two letters."""
    widths = (sum(1 + (char > "\u2e80") for char in part) for part in text.split("\n"))
    return int(50 + 12 * sum(1.2 + width // 46 for width in widths))


def place(canvas: Any, graph: dict[str, Any], template: Template) -> None:
    canvas.arrange(SIZES)  # inside the boxes
    boxes = []
    for box in template.boxes:
        face = [item.split(".") for item in box.face.split()]
        height = 90 + sum(TEXT_ROWS.get(widget, 30) for _, widget in face)
        kept = box.nodes.split()
        height += 22 * len({tuple(link) for link in links_into(graph, kept)})
        height += 30 * sum(len(links_into(graph, kept, name)) for name in TEXT_ROWS)
        number = canvas.page.evaluate(PACK_UP, [kept, face, box.title, FACE_WIDTH, height])
        boxes.append(number)
    columns = [
        {
            "title": column.title,
            "items": [boxes[int(i[1:])] if i[0] == "#" else int(i) for i in column.items.split()],
            "top": column.top,
        }
        for column in template.columns
    ]
    canvas.page.evaluate(PLACE, [columns, SIZES, 80, 20])


def links_into(graph: dict[str, Any], kept: list[str], name: str = "") -> list[list[Any]]:
    """What nodes in a box take from outside of it; with a name, by the inputs of that name."""
    inputs = [item for key in kept for item in graph[key]["inputs"].items()]
    values = [value for known, value in inputs if name in ("", known)]
    return [value for value in values if isinstance(value, list) and value[0] not in kept]


def signed(made: dict[str, Any]) -> dict[str, Any]:
    """Every node of ours says which pack, which version, and where its weights are."""
    version = json.loads(
        (REPOSITORY / "pyproject.toml").read_text("utf-8").split("version = ")[1].split()[0]
    )
    inside = [
        node for sub in made.get("definitions", {}).get("subgraphs", []) for node in sub["nodes"]
    ]
    for node in [*made["nodes"], *inside]:
        if node["type"].startswith("BLIP3U_"):
            node["properties"].update(cnr_id=PACK, ver=version)
        if node["type"] == "BLIP3U_LoadModel":
            node["properties"]["models"] = MODELS
    return made


def wiring(made: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Classes and inputs of `made`; widgets that the frontend adds by itself are left out.

    Nodes inside a box are known by their own number: "12:3" is 3.
    """

    def plain(value: Any) -> Any:
        return [value[0].split(":")[-1], value[1]] if isinstance(value, list) else value

    nodes = {key.split(":")[-1]: node for key, node in made.items()}
    return {
        key: (node["class_type"], {k: plain(v) for k, v in node["inputs"].items() if k in expected})
        for key, node in nodes.items()
        for expected in [wanted.get(key, {}).get("inputs", {})]
    }


def thumbnail(host: Host, result: Result, graph: Graph) -> Image.Image:
    """The pictures that the graph gave, or else took, and the first words that it said."""
    kept = [out for key, out in result.outputs.items() if key not in transcripts(graph)]
    shown = [host.file(image) for out in kept for image in out.get("images", [])]
    loaded = [n["inputs"]["image"] for n in graph.values() if n["class_type"] == "LoadImage"]
    files = shown or [host.base / "input" / name for name in loaded]
    pictures = [Image.open(file).convert("RGB") for file in files]
    tiles = list({picture.tobytes(): picture for picture in pictures}.values())[:4]
    texts = {str(text).replace("→", "to:"): None for out in kept for text in out.get("text", [])}
    lines = [wrapped for text in list(texts)[:3] for wrapped in wrap(text, 44)[:3]]
    columns = 2 if len(tiles) > 1 else 1
    rows = (len(tiles) + columns - 1) // columns
    width = max(2, columns) * (TILE + GAP) + GAP
    height = rows * (TILE + GAP) + GAP + (len(lines) * TEXT_LINE + GAP if lines else 0)
    picture = Image.new("RGB", (width, height), (32, 32, 36))
    indent = (width - columns * (TILE + GAP) + GAP) // 2
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        place = (indent + column * (TILE + GAP), GAP + row * (TILE + GAP))
        picture.paste(tile.resize((TILE, TILE), Image.Resampling.LANCZOS), place)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(16)
    for index, line in enumerate(lines):
        top = rows * (TILE + GAP) + GAP + index * TEXT_LINE
        draw.text((2 * GAP, top), line, fill=(230, 230, 230), font=font)
    return picture


def transcripts(graph: Graph) -> set[str]:
    """Nodes that show a whole chat: its pictures are other nodes' too."""
    whole = ("BLIP3U_ShowChat", "BLIP3U_Converse")
    return {key for key, node in graph.items() if node["class_type"] in whole}


def wrap(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]


def main(names: list[str]) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        with running_host(make_base_folder(base)) as host, open_canvas(host) as canvas:
            for name in names or sorted(NOTES):
                graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))
                made = canvas_form(canvas, graph, name)
                text = json.dumps(made, indent=1, ensure_ascii=False)
                (WORKFLOWS / f"{name}.json").write_text(text + "\n", "utf-8")
                thumbnail(host, host.run(graph), graph).save(WORKFLOWS / f"{name}.jpg", quality=88)
                print(f"{name}: {len(made['nodes'])} nodes")
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1:])
