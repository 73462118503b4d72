"""A sample of the odd inputs of `tests/fuzz/odd_inputs.py`, on the host's own modules."""

import os
import subprocess
import sys
from pathlib import Path

from harness.comfy import REPOSITORY, host_folder


def test_odd_inputs_are_told_or_answered(tmp_path: Path) -> None:
    program = REPOSITORY / "tests" / "fuzz" / "odd_inputs.py"
    done = subprocess.run(
        [sys.executable, str(program), "--sample", "400"],
        cwd=tmp_path,
        env={**os.environ, "COMFYUI_PATH": str(host_folder())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "all 400" in done.stdout
