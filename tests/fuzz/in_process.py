"""This pack's nodes inside this process, with the host's own modules but without its server."""

import asyncio
import importlib.util
import os
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACK = "blip3u_pack"


def load_nodes(base: Path) -> dict[str, Any]:
    """Node classes by id. `base` is the host's base directory; COMFYUI_PATH says where it is."""
    host = os.environ.get("COMFYUI_PATH") or str(ROOT / ".host" / "ComfyUI")
    for folder in ("models", "input", "output", "temp", "user", "custom_nodes"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    # Our root holds a folder `nodes`, the host a file of that name.
    sys.path[:] = [host] + [path for path in sys.path if Path(path or ".").resolve() != ROOT]
    import_module("comfy.options").enable_args_parsing()
    for name in ("comfy.cli_args", "utils.install_util", "folder_paths", "nodes"):
        import_module(name)
    # Who listens to the server; there is none.
    import_module("server").PromptServer.instance = SimpleNamespace(
        client_id=None, send_sync=lambda *_: None, send_progress_text=lambda *_: None
    )
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    extension = import_module(f"{PACK}.nodes").Blip3uExtension()
    return {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}


def ours(name: str) -> Any:
    """A module of the pack, as the loaded nodes see it."""
    return import_module(f"{PACK}.{name}")
