"""Make the canvas form and the thumbnail of every graph in workflows/api.

    python -m harness.make_workflows [name ...]      (in tests/; starts its own host and browser)

The API form is what is written by hand. The canvas form is what the real frontend makes of it,
arranged from left to right; the thumbnail shows what the graph really gave.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from harness.canvas import open_canvas
from harness.comfy import REPOSITORY, Graph, Host, Result, make_base_folder, running_host

WORKFLOWS = REPOSITORY / "workflows"
NOTES = json.loads((Path(__file__).parent / "workflow_notes.json").read_text("utf-8"))
SIZES = {
    "PreviewImage": [300, 330],
    "SaveImage": [300, 380],
    "PreviewAny": [340, 190],
    "BLIP3U_ShowChat": [460, 460],
    "BLIP3U_VisualTokens": [380, 240],
    "BLIP3U_VQA": [360, 440],
    "BLIP3U_Reason": [360, 460],
    "BLIP3U_EditPlan": [360, 280],
    "BLIP3U_Interleave": [380, 720],
    "GetImageSize": [260, 220],
}
NOTE_WIDTH = 420
FIX_SEEDS = """() => app.graph._nodes.forEach(n => (n.widgets || []).forEach(w => {
  if (w.name === 'control_after_generate') w.value = 'fixed';
}))"""
TILE, GAP, TEXT_LINE = 256, 8, 22


def canvas_form(canvas: Any, graph: dict[str, Any], name: str) -> dict[str, Any]:
    canvas.load_api(graph, name)
    canvas.page.wait_for_timeout(800)
    canvas.page.evaluate(FIX_SEEDS)
    canvas.arrange(SIZES)
    note = NOTES[name]
    canvas.add_note(note, NOTE_WIDTH, 80 + 24 * (len(note) // 46 + note.count("\n") + 1))
    problems = canvas.problems() + canvas.overlaps() + canvas.errors
    if problems:
        raise RuntimeError(f"{name}: {problems}")
    made, wanted = wiring(canvas.api(), graph), wiring(graph, graph)
    if made != wanted:
        changed = [(made.get(key), wanted[key]) for key in wanted if made.get(key) != wanted[key]]
        raise RuntimeError(f"{name}: canvas and workflows/api differ: {changed}")
    return canvas.serialized()


def wiring(made: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Classes and inputs of `made`; widgets that the frontend adds by itself are left out."""
    return {
        key: (node["class_type"], {k: v for k, v in node["inputs"].items() if k in expected})
        for key, node in made.items()
        for expected in [wanted.get(key, {}).get("inputs", {})]
    }


def thumbnail(host: Host, result: Result, graph: Graph) -> Image.Image:
    """The pictures that the graph gave, and under them the first words that it said."""
    kept = [out for key, out in result.outputs.items() if key not in transcripts(graph)]
    shown = [image for out in kept for image in out.get("images", [])]
    pictures = [Image.open(host.file(image)).convert("RGB") for image in shown]
    tiles = list({picture.tobytes(): picture for picture in pictures}.values())[:4]
    texts = [str(text) for out in kept for text in out.get("text", [])]
    lines = [wrapped for text in texts[:3] for wrapped in wrap(text, 44)[:3]]
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
    return {key for key, node in graph.items() if node["class_type"] == "BLIP3U_ShowChat"}


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
