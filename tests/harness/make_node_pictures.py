"""Make web/docs/assets/*.png: every node as the canvas draws it, for its help page.

python -m harness.make_node_pictures [id ...]      (in tests/; starts its own host and browser)
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from harness.canvas import open_canvas
from harness.comfy import REPOSITORY, make_base_folder, running_host

ASSETS = REPOSITORY / "web" / "docs" / "assets"
LEFT, TOP, MARGIN, TITLE = 300, 150, 12, 50

SHOW = """async ([id, left, top]) => {
  app.graph.clear();
  const node = LiteGraph.createNode(id);
  app.graph.add(node);
  node.pos = [0, 0];
  node.setSize([Math.max(340, node.computeSize()[0]), node.computeSize()[1]]);
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [left, top];
  app.canvas.deselectAll();
  app.canvas.setDirty(true, true);
  await new Promise(done => setTimeout(done, 500));
  const box = app.canvas.canvas.getBoundingClientRect();
  return [box.left + left, box.top + top, node.size[0], node.size[1]];
}"""


def main(names: list[str]) -> None:
    base = Path(tempfile.mkdtemp())
    ASSETS.mkdir(parents=True, exist_ok=True)
    try:
        with running_host(make_base_folder(base)) as host, open_canvas(host) as canvas:
            known = [name for name in host.get("/object_info") if name.startswith("BLIP3U_")]
            for name in names or sorted(known):
                x, y, width, height = canvas.page.evaluate(SHOW, [name, LEFT, TOP])
                clip = {
                    "x": x - MARGIN,
                    "y": y - TITLE,
                    "width": width + 2 * MARGIN,
                    "height": height + TITLE + MARGIN,
                }
                shot = canvas.page.screenshot(clip=clip, timeout=120_000)
                picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(64)
                picture.save(ASSETS / f"{name}.png", optimize=True)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main(sys.argv[1:])
