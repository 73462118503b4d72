"""The real ComfyUI canvas in a headless browser: load, arrange, run and read graphs."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from harness.browser import FLAGS, find_browser
from harness.comfy import Host

READY = (
    "() => Boolean(window.app && app.graph && app.canvas && app.extensionManager && "
    "window.LiteGraph && LiteGraph.registered_node_types['BLIP3U_LoadModel'] && "
    "app.extensionManager.workflow.activeWorkflow)"  # the last page's, put back late
)
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    "Comfy.Minimap.Visible": False,
    "Comfy.NodeSearchBoxImpl.FollowCursor": False,  # a new node lies where the search was opened
    "Comfy.Pointer.DoubleClickTime": 1000,  # ms; on a busy machine 300 are two single clicks
    "Comfy.Graph.AutoPanSpeed": 0,  # a drag near the edge would move the canvas under the mouse
    "Comfy.Workflow.ShowMissingModelsWarning": False,
}

# Left to right by the way of the data: a node stands one column before its first reader.
ARRANGE = """(sizes) => {
  const nodes = app.graph._nodes, ids = new Map(nodes.map(n => [n.id, n]));
  const links = Object.values(app.graph.links instanceof Map ?
    Object.fromEntries(app.graph.links) : app.graph.links);
  const into = id => links.filter(l => l.target_id == id).map(l => l.origin_id);
  const from = id => links.filter(l => l.origin_id == id).map(l => l.target_id);
  const depth = new Map();
  const deep = id => {
    if (!depth.has(id)) depth.set(id, Math.max(-1, ...into(id).map(deep)) + 1);
    return depth.get(id);
  };
  nodes.forEach(n => deep(n.id));
  [...nodes].sort((a, b) => depth.get(b.id) - depth.get(a.id)).forEach(n => {
    const readers = from(n.id).map(id => depth.get(id));
    const loaded = into(n.id).some(id => ids.get(id).type == 'BLIP3U_LoadModel');
    if (readers.length && !loaded && n.type != 'BLIP3U_LoadModel')
      depth.set(n.id, Math.min(...readers) - 1);
  });
  const columns = [];
  nodes.forEach(n => {
    const wanted = sizes[n.type], least = n.computeSize();
    const width = Math.max(wanted ? wanted[0] : 320, least[0]);
    n.setSize([width, Math.max(wanted ? wanted[1] : 0, n.computeSize()[1])]);
    (columns[depth.get(n.id)] ||= []).push(n);
  });
  let x = 0;
  columns.forEach(column => {
    const middle = n => {
      const above = into(n.id).map(id => ids.get(id)).filter(m => m.placed);
      if (!above.length) return -1;
      return above.reduce((sum, m) => sum + m.pos[1] + m.size[1] / 2, 0) / above.length;
    };
    column.sort((a, b) => middle(a) - middle(b));
    let y = 0;
    column.forEach(n => { n.pos = [x, y]; y += n.size[1] + 70; });
    column.forEach(n => { n.placed = true; });
    x += Math.max(...column.map(n => n.size[0])) + 90;
  });
  nodes.forEach(n => { delete n.placed; });
}"""

# Left of the first column, or below it.
ADD_NOTE = """([text, width, height, below]) => {
  const note = LiteGraph.createNode('MarkdownNote');
  const first = app.graph._groups[0];
  app.graph.add(note);
  note.title = 'How to use this';
  note.setSize([width, height]);
  note.pos = below ? [first.pos[0] + 20, first.pos[1] + first.size[1] + 70]
    : [-width - 90, first ? first.pos[1] + 30 : 0];
  note.widgets[0].value = text;
}"""

PROBLEMS = """() => {
  const missing = app.graph._nodes.filter(n => !LiteGraph.registered_node_types[n.type]);
  const loose = [];
  app.graph._nodes.forEach(n => (n.inputs || []).forEach(i => {
    if (i.link == null && !i.widget && i.shape != 7) loose.push(`${n.type}.${i.name}`);
  }));
  return [...missing.map(n => `missing node ${n.type}`), ...loose.map(n => `loose ${n}`)];
}"""

OVERLAPS = """() => {
  const box = n => [n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]];
  const found = [], nodes = app.graph._nodes;
  nodes.forEach((a, i) => nodes.slice(i + 1).forEach(b => {
    const [p, q] = [box(a), box(b)];
    if (p[0] < q[2] && q[0] < p[2] && p[1] < q[3] && q[1] < p[3]) found.push([a.title, b.title]);
  }));
  return found;
}"""


# Links are splines that leave and enter a node level; sampled, without both ends.
LINKS_BEHIND = """() => {
  const found = [], all = app.graph.links instanceof Map ? [...app.graph.links.values()] :
    Object.values(app.graph.links);
  const boxes = app.graph._nodes.map(n => [n, n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0],
    n.pos[1] + n.size[1]]);
  for (const link of all) {
    const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id);
    if (!from || !to) continue;
    const a = [...from.getOutputPos(link.origin_slot)];
    const b = [...to.getInputPos(link.target_slot)];
    const bend = Math.hypot(b[0] - a[0], b[1] - a[1]) * 0.25;
    const points = [a, [a[0] + bend, a[1]], [b[0] - bend, b[1]], b];
    for (let t = 0.02; t < 1; t += 0.02) {
      const w = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t ** 3];
      const [x, y] = [0, 1].map(k => points.reduce((sum, p, i) => sum + w[i] * p[k], 0));
      const hit = boxes.find(([n, l, u, r, d]) =>
        n != from && n != to && x > l && x < r && y > u && y < d);
      if (hit) { found.push(`link ${from.title} > ${to.title} behind ${hit[0].title}`); break; }
    }
  }
  return found;
}"""


LEFT_BAR, TOP_BARS, MARGIN = 80, 95, 0.1  # of the widest and tallest frontend, in pixels
EXTENT = """() => {
  const all = [...app.graph._nodes, ...app.graph._groups].map(item => item.boundingRect);
  const least = axis => Math.min(...all.map(r => r[axis]));
  const most = axis => Math.max(...all.map(r => r[axis] + r[axis + 2]));
  return [most(0) - least(0), most(1) - least(1)];
}"""


class Canvas:
    """One open page. Errors of the page are kept in `errors`."""

    def __init__(self, page: Page, host: Host):
        self.page = page
        self.host = host
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self) -> None:
        self.page.goto(self.host.url)
        self.page.wait_for_function(READY, timeout=120_000)

    def load_api(self, graph: dict[str, Any], name: str) -> None:
        self.page.evaluate("([graph, name]) => app.loadApiJson(graph, name)", [graph, name])

    def load(self, canvas: dict[str, Any]) -> None:
        self.page.evaluate("graph => app.loadGraphData(graph, true, true)", canvas)

    def arrange(self, sizes: dict[str, list[int]]) -> None:
        self.page.evaluate(ARRANGE, sizes)

    def add_note(self, text: str, width: int, height: int, below: bool = False) -> None:
        self.page.evaluate(ADD_NOTE, [text, width, height, below])

    def serialized(self) -> dict[str, Any]:
        return json.loads(self.page.evaluate("() => JSON.stringify(app.graph.serialize())"))

    def api(self) -> dict[str, Any]:
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def problems(self) -> list[str]:
        return self.page.evaluate(PROBLEMS)

    def overlaps(self) -> list[list[str]]:
        return self.page.evaluate(OVERLAPS)

    def links_behind(self) -> list[str]:
        """Links that run behind a node that they have nothing to do with."""
        return self.page.evaluate(LINKS_BEHIND)

    def zoom(self) -> float:
        """The largest zoom at which all is seen at once, with MARGIN around it.

        Fit View of older frontends leaves a quarter of the window empty.
        """
        width, height = self.page.evaluate(EXTENT)
        return min((1600 - LEFT_BAR) / width, (900 - TOP_BARS) / height) * (1 - MARGIN)

    def fit(self) -> None:
        self.page.evaluate(
            "() => { app.canvas.deselectAll();"
            " return app.extensionManager.command.execute('Comfy.Canvas.FitView'); }"
        )
        self.page.wait_for_timeout(600)

    def run(self, timeout: float = 300) -> dict[str, Any]:
        """Press Run and wait for the end. Returns the host's history entry: status, outputs."""
        before = set(self.host.get("/history"))
        self.fit()
        # Newer frontends: the first of two, the other opens the menu of ways to run.
        self.page.get_by_role("button", name="Run", exact=True).first.click()
        for _ in range(int(timeout * 4)):
            history = self.host.get("/history")
            new = [entry for key, entry in history.items() if key not in before]
            if new:
                return new[-1]
            self.page.wait_for_timeout(250)
        raise TimeoutError(f"the canvas' graph did not end within {timeout} s")

    def dismiss(self, words: str) -> None:
        """Read the failure that says `words` and close it.

        Older frontends open a dialog. Newer ones show a toast, whose words lie in a side panel;
        its button is "See Errors" on those of spring 2026, then "View details".
        """
        dialog = self.page.get_by_role("dialog").filter(has_text=words)
        details = self.page.get_by_role("button", name=re.compile("View details|See Errors"))
        dialog.or_(details).first.wait_for(timeout=30_000)
        if dialog.count():
            dialog.get_by_role("button", name="Close").first.click()
            dialog.wait_for(state="hidden")
        else:
            details.click()
            self.page.get_by_text(words).first.wait_for()
            self.page.get_by_role("button", name="Toggle properties panel").click()

    def wait_until_shown(self, count: int) -> None:
        """Until nodes show that many pictures; they are fetched after the end of a run."""
        shown = "() => app.graph._nodes.reduce((sum, n) => sum + (n.imgs ? n.imgs.length : 0), 0)"
        self.page.wait_for_function(f"({shown})() >= {count}", timeout=30_000)

    def shown_texts(self) -> dict[str, str]:
        """Node id -> the text in its read-only field: ours, and PreviewAny's old and new one."""
        return self.page.evaluate(
            """names => Object.fromEntries(app.graph._nodes.flatMap(node => {
                const field = (node.widgets || []).find(w => names.includes(w.name));
                return field ? [[String(node.id), String(field.value ?? '')]] : [];
            }))""",
            ["shown_text", "preview", "preview_text"],
        )

    def screenshot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(file), timeout=120_000)


@contextmanager
def open_canvas(host: Host, width: int = 1600, height: int = 900) -> Iterator[Canvas]:
    """A page on the host's canvas, tutorial and templates out of the way."""
    host.post("/api/settings", SETTINGS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        context = browser.new_context(viewport={"width": width, "height": height})
        context.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        canvas = Canvas(context.new_page(), host)
        try:
            canvas.open()
            yield canvas
        finally:
            browser.close()


@contextmanager
def open_tab(canvas: Canvas) -> Iterator[Canvas]:
    """Another tab of the same browser."""
    tab = Canvas(canvas.page.context.new_page(), canvas.host)
    try:
        tab.open()
        yield tab
    finally:
        tab.page.close()
