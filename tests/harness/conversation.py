"""What a user does with whole workflows: save, drop."""

import base64
from pathlib import Path

from harness.canvas import Canvas


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
