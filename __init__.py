"""BLIP3-U for ComfyUI: the model's stages as nodes that work beside the stock ones."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called once by ComfyUI. All imports wait for it: tests and scripts have no host."""
    from .nodes import Blip3uExtension

    return Blip3uExtension()
