"""What a user does with the chat on Converse, and with whole workflows: save, drop."""

import base64
import json
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Locator

from harness.canvas import Canvas
from harness.comfy import Graph
from harness.make_workflows import FIX_SEEDS
from small_world.scorer import read_scene

SENDS = "word => document.querySelector('.b3u-send').textContent == word"
CONVERSATION = """() => app.graph._nodes.find(n => n.type == 'BLIP3U_Converse')
    .widgets.find(w => w.name == 'conversation').value"""


def drop(canvas: Canvas, file: Path) -> None:
    """Drag a file from the desktop onto the canvas."""
    transfer = canvas.page.evaluate_handle(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: 'image/png'}));
            return transfer;
        }""",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )
    canvas.page.dispatch_event("#graph-canvas", "drop", {"dataTransfer": transfer})


def save_as(canvas: Canvas, name: str) -> None:
    canvas.page.mouse.move(20, 20)
    canvas.page.mouse.click(400, 860)  # the canvas has the keyboard
    canvas.page.keyboard.press("Control+S")
    field = canvas.page.get_by_role("dialog").get_by_role("textbox")
    field.fill(name)
    field.press("Enter")
    canvas.page.wait_for_timeout(1000)


class Keyboard:
    """What a user does with the chat on the one Converse node of the page."""

    def __init__(self, canvas: Canvas, box: str = "Message", send: str = "Send"):
        self.canvas, self.page, self.host = canvas, canvas.page, canvas.host
        self.box_label, self.send_word = box, send
        self.known = ""

    def begin_with(self, graph: Graph) -> None:
        self.canvas.errors.clear()
        self.canvas.load_api(graph, "conversation")
        self.page.wait_for_timeout(500)
        self.page.evaluate(FIX_SEEDS)
        self.canvas.fit()

    @property
    def box(self) -> Locator:
        return self.page.get_by_label(self.box_label, exact=True)

    def send(self, text: str) -> None:
        """Type in place of what the box holds, press Enter."""
        self.known = self.page.evaluate(CONVERSATION)
        self.box.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def answered(self) -> str:
        """Wait for the answer; the text of the log after it."""
        self.page.wait_for_function(f"known => ({CONVERSATION})() != known", arg=self.known)
        self.wait_until_button_says(self.send_word)
        return self.log()

    def say(self, text: str) -> str:
        self.send(text)
        return self.answered()

    def wait_until_button_says(self, word: str) -> None:
        self.page.wait_for_function(SENDS, arg=word)

    def press(self, button: str) -> None:
        """A button by the keyboard alone."""
        self.page.get_by_role("button", name=button, exact=True).focus()
        self.page.keyboard.press("Enter")

    def log(self) -> str:
        return self.page.get_by_role("log").inner_text()

    def turns(self) -> list[dict]:
        return json.loads(self.page.evaluate(CONVERSATION) or '{"turns": []}')["turns"]

    def picture(self) -> Path:
        """The file of the one picture of the last answer."""
        (part,) = [part for part in self.turns()[-1]["parts"] if isinstance(part, dict)]
        return self.host.base / "output" / part["picture"].removesuffix(" [output]")

    def drawn(self) -> set[tuple[str, str]]:
        """Colors and shapes in the last answer's picture."""
        scene = read_scene(np.array(Image.open(self.picture()).convert("RGB")))
        return {(thing.color, thing.shape) for thing in scene.objects}
