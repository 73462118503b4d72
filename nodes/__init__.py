"""The node list that the host asks for. Each file of this folder names its nodes in `NODES`."""

from importlib import import_module

from comfy_api.v0_0_2 import ComfyExtension, io

from .host.examples import put_examples
from .host.paths import register_model_folders

# In the order of the data: load, think, draw, look, edit.
FILES: tuple[str, ...] = (
    "load",
    "lora",
    "saved_weights",
    "prompts",
    "language",
    "captions",
    "clip_features",
    "reason",
    "decode",
    "deep_cache",
    "vision",
    "chat",
    "edit",
    "interleave",
    "converse",
)


class Blip3uExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_model_folders()
        put_examples()
        files = [import_module(f".{name}", __name__) for name in FILES]
        return [node for file in files for node in file.NODES]
