"""Progress bars, Cancel, and text that grows on the node while it is written."""

import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context
from server import PromptServer

SECONDS_BETWEEN_TEXTS = 0.1


def check_interrupted() -> None:
    """Raise the host's interrupt if the user pressed Cancel. Never catch it."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def step_progress(total: int | None = None) -> Callable[..., None]:
    """An `on_step(done, total)` for the core: moves the node's bar and obeys Cancel.

    With `total` given here, the bar counts to it whatever each call says, and the calls' own
    totals only advance it: so that two loops in one node share one bar.
    A third argument may be a preview, ("JPEG", PIL image, largest side), as the host's bars take.
    """
    check_interrupted()
    bar = comfy.utils.ProgressBar(total or 1)

    def on_step(done: int, loop_total: int, preview: tuple | None = None) -> None:
        check_interrupted()
        if total is None:
            bar.update_absolute(done, loop_total, preview)
        else:
            bar.update_absolute(bar.current + 1, total, preview)

    return on_step


class TextStream:
    """An `on_token(text, done, total)` for the core: shows the text so far and counts tokens."""

    def __init__(self) -> None:
        check_interrupted()
        self.bar = comfy.utils.ProgressBar(1)
        self.sent_at = 0.0

    def __call__(self, text: str, done: int, total: int) -> None:
        check_interrupted()
        self.bar.update_absolute(done, total)
        if done >= total or time.monotonic() - self.sent_at >= SECONDS_BETWEEN_TEXTS:
            self.show(text)  # the last text of an answer is never held back

    def show(self, text: str) -> None:
        """Send the text at once."""
        self.sent_at = time.monotonic()
        context = get_executing_context()
        if context is not None:
            PromptServer.instance.send_progress_text(text, context.node_id)
