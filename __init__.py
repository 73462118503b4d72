"""BLIP3-U for ComfyUI: the model's stages as nodes that work beside the stock ones."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called once by ComfyUI; everything is imported here, so that tests and scripts need no host."""
    from .nodes import Blip3uExtension

    return Blip3uExtension()
