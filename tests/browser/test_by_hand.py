"""A dialogue built by hand: search, drag, connect, type, run, save, reload, drop its PNG, run."""

from pathlib import Path

import pytest

from harness.canvas import Canvas
from harness.comfy import Host
from harness.conversation import drop, save_as

CAPTION = "a big red circle in the center, on snow"
QUESTION = "what color is the circle?"

# name on the canvas -> (what is typed into the search, where it is put)
NODES = {
    "load": ("Load BLIP3-U", -900, -300),
    "say": ("Chat Message", -900, 60),
    "tokens": ("Visual Tokens", -480, -300),
    "sampler": ("CLIP Feature Sampler", -60, -300),
    "decode": ("BLIP3U_Decode", 360, -300),
    "save": ("Save Image", 780, -300),
    "picture": ("Chat Message", -60, 260),
    "ask": ("BLIP3U_VQA", 360, 260),
    "show": ("Show Chat", 780, 260),
}
LINKS = [
    ("load", "llm", "tokens", "llm"),
    ("say", "chat_out", "tokens", "chat"),
    ("load", "model", "sampler", "model"),
    ("tokens", "positive", "sampler", "positive"),
    ("tokens", "negative", "sampler", "negative"),
    ("load", "decoder", "decode", "decoder"),
    ("load", "vae", "decode", "vae"),
    ("sampler", "features", "decode", "features"),
    ("decode", "images", "save", "images"),
    ("say", "chat_out", "picture", "chat"),
    ("decode", "images", "picture", "image"),
    ("load", "llm", "ask", "llm"),
    ("picture", "chat_out", "ask", "chat"),
    ("ask", "chat_out", "show", "chat"),
]
TEXTS = [
    ("say", "text", f"Please generate image based on the following caption: {CAPTION}"),
    ("tokens", "prompt", ""),
    ("ask", "question", QUESTION),
]


class Hand:
    """The mouse and the keyboard of a user; nodes are known by the names in NODES."""

    def __init__(self, canvas: Canvas):
        self.canvas = canvas
        self.page = canvas.page
        self.ids: dict[str, int] = {}

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the graph lies on the screen."""
        return tuple(
            self.page.evaluate(
                """([x, y]) => {
                    const box = app.canvas.canvas.getBoundingClientRect(), ds = app.canvas.ds;
                    return [(x + ds.offset[0]) * ds.scale + box.left,
                            (y + ds.offset[1]) * ds.scale + box.top];
                }""",
                [x, y],
            )
        )

    def add(self, name: str, words: str, x: float, y: float) -> None:
        before = set(self.page.evaluate("() => app.graph._nodes.map(n => n.id)"))
        box = self.page.get_by_role("combobox").last
        for _ in range(4):  # a busy machine sees two clicks in place of a double one
            self.page.mouse.dblclick(*self.place(x, y))
            self.page.wait_for_timeout(1500)
            if box.is_visible():
                break
        box.fill(words)
        self.page.wait_for_timeout(700)
        self.page.keyboard.press("Enter")
        self.page.wait_for_function(
            "count => app.graph._nodes.length == count", arg=len(before) + 1, timeout=10_000
        )
        after = set(self.page.evaluate("() => app.graph._nodes.map(n => n.id)"))
        (self.ids[name],) = after - before
        self.drag_title_to(name, x, y)

    def drag_title_to(self, name: str, x: float, y: float) -> None:
        left, top = self.page.evaluate("id => [...app.graph.getNodeById(id).pos]", self.ids[name])
        grip = self.place(left + 60, top - 15)
        self.page.mouse.move(*grip)
        self.page.mouse.down()
        self.page.mouse.move(*self.place(x + 60, y - 15), steps=6)
        self.page.mouse.up()

    def slot(self, name: str, slot: str, is_input: bool) -> tuple[float, float]:
        x, y = self.page.evaluate(
            """([id, slot, isInput]) => {
                const node = app.graph.getNodeById(id);
                const slots = isInput ? node.inputs : node.outputs;
                const index = slots.findIndex(s => s.name == slot);
                if (index < 0) throw new Error(slot + ' not in ' + slots.map(s => s.name));
                return [...(isInput ? node.getInputPos(index) : node.getOutputPos(index))];
            }""",
            [self.ids[name], slot, is_input],
        )
        return self.place(x, y)

    def connect(self, source: str, output: str, target: str, input: str) -> None:
        self.page.mouse.move(*self.slot(source, output, False))
        self.page.mouse.down()
        self.page.mouse.move(*self.slot(target, input, True), steps=8)
        self.page.mouse.up()
        linked = self.page.evaluate(
            """([id, name]) => app.graph.getNodeById(id).inputs.find(i => i.name == name).link""",
            [self.ids[target], input],
        )
        assert linked is not None, f"{source}.{output} did not connect to {target}.{input}"

    def write(self, name: str, widget: str, text: str) -> None:
        """Click into a text field of a node and type."""
        place = self.page.evaluate(
            """([id, name]) => {
                const field = app.graph.getNodeById(id).widgets.find(w => w.name == name);
                const box = field.element.getBoundingClientRect();
                return [box.left + box.width / 2, box.top + box.height / 2];
            }""",
            [self.ids[name], widget],
        )
        self.page.mouse.click(*place)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.press("Delete")
        self.page.keyboard.type(text)

    def choose(self, name: str, widget: str, value: str) -> None:
        """Set a widget that opens a menu or a number field."""
        self.page.evaluate(
            """([id, name, value]) => {
                const node = app.graph.getNodeById(id);
                const widget = node.widgets.find(w => w.name == name);
                widget.value = value;
                widget.callback?.(value);
            }""",
            [self.ids[name], widget, value],
        )


@pytest.fixture(scope="module")
def hand(canvas: Canvas) -> Hand:
    canvas.page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    canvas.page.wait_for_timeout(500)
    canvas.page.evaluate(
        "() => { app.canvas.ds.scale = 0.75; app.canvas.ds.offset = [1150, 480]; "
        "app.canvas.setDirty(true, true); }"
    )
    return Hand(canvas)


def spoken(entry: dict) -> str:
    return " ".join(text for out in entry["outputs"].values() for text in out.get("text", []))


def picture_of(host: Host, entry: dict) -> Path:
    shown = [i for out in entry["outputs"].values() for i in out.get("images", [])]
    return next(host.file(image) for image in shown if image["type"] == "output")


def test_dialogue_by_hand(hand: Hand, canvas: Canvas, host: Host, screenshots: Path) -> None:
    for name, (words, x, y) in NODES.items():
        hand.add(name, words, x, y)
    for link in LINKS:
        hand.connect(*link)
    for text in TEXTS:
        hand.write(*text)
    hand.choose("picture", "role", "assistant")
    hand.choose("decode", "steps", 20)
    for name in ("sampler", "decode", "ask"):
        hand.choose(name, "control_after_generate", "fixed")
    assert canvas.problems() == []
    first = canvas.run()
    assert first["status"]["status_str"] == "success", first["status"]["messages"][-1]
    assert QUESTION in spoken(first)
    canvas.screenshot(screenshots / "by_hand.png")

    save_as(canvas, "dialogue by hand")
    wanted = canvas.api()
    canvas.open()
    canvas.page.wait_for_timeout(1000)
    canvas.load(host.get("/api/userdata/workflows%2Fdialogue%20by%20hand.json"))
    assert canvas.api() == wanted

    canvas.page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    canvas.page.wait_for_timeout(500)
    drop(canvas, picture_of(host, first))
    canvas.page.wait_for_function(f"() => app.graph._nodes.length == {len(NODES)}", timeout=10_000)
    assert canvas.api() == wanted
    hand.choose("ask", "question", "what shape is it?")
    again = canvas.run()
    assert again["status"]["status_str"] == "success", again["status"]["messages"][-1]
    assert "what shape is it?" in spoken(again)
