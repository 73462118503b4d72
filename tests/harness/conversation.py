"""A conversation's graph, and what a user does with whole workflows: save, drop."""

import base64
from pathlib import Path
from typing import Any

from harness.canvas import Canvas
from harness.comfy import Graph

TINY = "blip3u-tiny (built-in)"


def converse_graph(message: str = "", conversation: str = "", **more: Any) -> Graph:
    """Load, converse, save; small numbers of steps that still draw what was asked."""
    models = {"llm": ["1", 0], "model": ["1", 1], "decoder": ["1", 2], "vae": ["1", 3]}
    settings = {
        "max_images": 1,
        "seed": 7,
        "steps": 20,
        "decoder_steps": 12,
        "cfg": 3.0,
        "max_new_tokens": 60,
        "picture_request": "auto",
        "remember_last": 0,
    }
    checkpoint = more.pop("checkpoint", TINY)
    inputs = {**models, "message": message, "conversation": conversation, **settings, **more}
    loader = {"checkpoint": checkpoint, "weight_dtype": "fp32"}
    save = {"images": ["2", 1], "filename_prefix": "talk"}
    return {
        "1": {"class_type": "BLIP3U_LoadModel", "inputs": loader},
        "2": {"class_type": "BLIP3U_Converse", "inputs": inputs},
        "3": {"class_type": "SaveImage", "inputs": save},
    }


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
