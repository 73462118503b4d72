"""A server of its own for the browser, and one open canvas.

Screenshots go to the folder named in BLIP3U_SCREENSHOTS, else to pytest's temporary folder.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.canvas import Canvas, open_canvas
from harness.comfy import Host, make_base_folder, running_host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = make_base_folder(tmp_path_factory.mktemp("comfyui"))
    with running_host(base) as server:
        yield server


@pytest.fixture(scope="session")
def canvas(host: Host) -> Iterator[Canvas]:
    with open_canvas(host) as page:
        yield page


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("BLIP3U_SCREENSHOTS")
    return Path(named) if named else tmp_path_factory.mktemp("screenshots")
