"""The types of the core and the nodes, checked against the host's own sources."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.comfy import REPOSITORY

# The host's nodes override `execute` and its kin by intent: that one rule is off, there alone.
# What the core's extras import (ray, lmms-eval) lies in environments of their own.
FOLDERS = {
    "blip3u_core": {"reportMissingImports": "none"},
    "nodes": {"reportIncompatibleMethodOverride": "none"},
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_types_agree(folder: str, tmp_path: Path) -> None:
    config = {
        "include": [str(REPOSITORY / folder)],
        "extraPaths": [os.environ["COMFYUI_PATH"]],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.10",
        **FOLDERS[folder],
    }
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(config), "utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "-p", str(project)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
