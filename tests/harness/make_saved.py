"""Make tests/browser/saved_by_unreleased.json: one of each node, no widget at its default.

    python -m harness.make_saved      (in tests/; starts its own host and browser)

What is saved today must open tomorrow. At a release the file is renamed after it and stays.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from harness.canvas import Canvas, open_canvas
from harness.comfy import REPOSITORY, make_base_folder, running_host
from harness.graph import BUILT_IN
from harness.make_workflows import FIX_SEEDS, signed

FILE = REPOSITORY / "tests" / "browser" / "saved_by_unreleased.json"
TURNS = [{"role": role, "parts": [text]} for role, text in (("user", "hi"), ("assistant", "yes"))]
TEXTS = {  # values that another machine has too, or that mean something to the node
    "checkpoint": BUILT_IN,
    "vision_tower": BUILT_IN,
    "lora_name": "a style.safetensors",
    "file": "a merge.safetensors",
    "conversation": json.dumps({"format": "blip3u-conversation", "version": 1, "turns": TURNS}),
}
ADD = """([type, values, index]) => {
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.pos = [480 * (index % 7), 620 * Math.floor(index / 7)];
  for (const widget of node.widgets || [])
    if (widget.name in values) widget.value = values[widget.name];
  return [node.id, (node.widgets || []).map(w => w.name).filter(name => name in values)];
}"""


def other_value(name: str, spec: list[Any]) -> Any:
    """A value that is allowed and not the default; None for an input that is no widget."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if name in TEXTS:
        return TEXTS[name]
    if kind in ("INT", "FLOAT"):
        step, value = options.get("step", 1), options["default"]
        return round(value + step if value + step <= options["max"] else value - step, 6)
    if kind == "BOOLEAN":
        return not options["default"]
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices or kind == "STRING":
        return choices[-1] if choices else f"{name}, as saved"
    return None


def one_of_each(canvas: Canvas, nodes: dict[str, Any]) -> dict[str, Any]:
    canvas.page.evaluate("() => app.graph.clear()")
    expected = {}
    for index, (kind, node) in enumerate(sorted(nodes.items())):
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        values = {name: other_value(name, spec) for name, spec in inputs.items()}
        values = {name: value for name, value in values.items() if value is not None}
        number, widgets = canvas.page.evaluate(ADD, [kind, values, index])
        expected[str(number)] = {name: values[name] for name in widgets}
    canvas.page.evaluate(FIX_SEEDS)
    made = signed(canvas.serialized())
    made["extra"]["expected"] = expected
    return made


def main() -> None:
    base = Path(tempfile.mkdtemp())
    try:
        with running_host(make_base_folder(base)) as host, open_canvas(host) as canvas:
            every = host.get("/object_info")
            ours = {name: node for name, node in every.items() if name.startswith("BLIP3U_")}
            made = one_of_each(canvas, ours)
    finally:
        shutil.rmtree(base)
    FILE.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{FILE.name}: {len(made['nodes'])} nodes")


if __name__ == "__main__":
    main()
