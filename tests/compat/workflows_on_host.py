"""The shipped workflows through the API of whatever host COMFYUI_PATH names; `hosts.py` runs this.

It is no part of the suite, whose browser tests run the same workflows on one host.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.comfy import REPOSITORY, Host, make_base_folder, running_host

WORKFLOWS = sorted((REPOSITORY / "workflows" / "api").glob("*.json"))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = make_base_folder(tmp_path_factory.mktemp("comfyui"))
    with running_host(base) as server:
        yield server


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow_runs_and_gives_pictures_or_text(file: Path, host: Host) -> None:
    graph = json.loads(file.read_text("utf-8"))
    outputs = host.run(graph).outputs.values()
    pictures = [host.file(image) for out in outputs for image in out.get("images", [])]
    assert all(picture.is_file() for picture in pictures)
    texts = [text for out in outputs for text in out.get("text", [])]
    assert pictures or any(texts)


def test_the_server_still_answers_afterwards(host: Host) -> None:
    """A prompt worker that died takes prompts and never runs them."""
    grey = {"width": 8, "height": 8, "batch_size": 1, "color": 0x808080}
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": grey},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert host.run(graph, timeout=60).outputs["2"]["images"]
