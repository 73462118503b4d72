"""Make web/docs/assets/*.png: every node as the canvas draws it, for its help page.

    python -m harness.make_node_pictures [id ...]      (in tests/; starts its own host and browser)

Converse is shown after a conversation with the built-in model; the README opens with its chat.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from harness.canvas import Canvas, open_canvas
from harness.comfy import REPOSITORY, make_base_folder, running_host
from harness.conversation import Keyboard
from harness.graph import converse_graph

ASSETS = REPOSITORY / "web" / "docs" / "assets"
LEFT, TOP, MARGIN, TITLE = 300, 150, 12, 50
CONVERSE = "BLIP3U_Converse"
SAID = (
    "a big red circle in the center, on snow",
    "what color is the circle?",
    "make the circle green",
    "add a small yellow star at the top left",
)
CONVERSE_SIZE = (560, 1350)

ADD = """id => {
  app.graph.clear();
  const node = LiteGraph.createNode(id);
  app.graph.add(node);
  return node.id;
}"""

LOADED = "() => [...document.querySelectorAll('.b3u-log img')].every(i => i.naturalWidth)"
KEEP_ONLY = "id => app.graph._nodes.filter(n => n.type != id).forEach(n => app.graph.remove(n))"

# Put one node where it fits and unselect it; its box on the screen.
SHOW = """async ([id, left, top, width, height]) => {
  const node = app.graph._nodes.find(n => n.type == id);
  const least = node.computeSize();
  node.pos = [0, 0];
  node.setSize([Math.max(width, least[0]), Math.max(height, least[1])]);
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [left, top];
  app.canvas.deselectAll();
  document.activeElement?.blur();
  app.canvas.setDirty(true, true);
  await new Promise(done => setTimeout(done, 800));
  const box = app.canvas.canvas.getBoundingClientRect();
  return [box.left + left, box.top + top, node.size[0], node.size[1]];
}"""


def shot(canvas: Canvas, name: str, size: tuple[int, int] = (340, 0)) -> Image.Image:
    x, y, width, height = canvas.page.evaluate(SHOW, [name, LEFT, TOP, *size])
    clip = {
        "x": x - MARGIN,
        "y": y - TITLE,
        "width": width + 2 * MARGIN,
        "height": height + TITLE + MARGIN,
    }
    seen = canvas.page.screenshot(clip=clip, timeout=120_000)
    return Image.open(io.BytesIO(seen)).convert("RGB")


def converse(canvas: Canvas) -> Image.Image:
    keyboard = Keyboard(canvas)
    keyboard.begin_with(converse_graph())
    for text in SAID:
        keyboard.say(text)
    canvas.page.evaluate(KEEP_ONLY, CONVERSE)
    canvas.page.wait_for_function(LOADED)
    return shot(canvas, CONVERSE, CONVERSE_SIZE)


def main(names: list[str]) -> None:
    base = Path(tempfile.mkdtemp())
    ASSETS.mkdir(parents=True, exist_ok=True)
    try:
        with (
            running_host(make_base_folder(base)) as host,
            open_canvas(host, height=1500) as canvas,
        ):
            known = [name for name in host.get("/object_info") if name.startswith("BLIP3U_")]
            for name in names or sorted(known):
                if name == CONVERSE:
                    picture = converse(canvas).quantize(256)
                    chat = canvas.page.locator(".b3u-log").screenshot()
                    chat = Image.open(io.BytesIO(chat)).convert("RGB").quantize(256)
                    chat.save(ASSETS / "conversation.png", optimize=True)
                else:
                    canvas.page.evaluate(ADD, name)
                    picture = shot(canvas, name).quantize(64)
                picture.save(ASSETS / f"{name}.png", optimize=True)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1:])
