"""A custom node folder that makes a host on a CPU build its layers as under DynamicVRAM.

BLIP3U_DYNAMIC_VRAM=1 links it into every test host (harness/comfy.py). On an NVIDIA card the host
loads comfy-aimdo's library, sets this flag and takes its dynamic patcher. Here the flag alone is
set: layers are built without parameters and get them while weights are loaded, and the plain
patcher moves them. What aimdo itself does needs a card.
"""

import ctypes
import mmap
from pathlib import Path

import comfy.memory_management
import comfy_aimdo.model_mmap
import comfy_aimdo.model_vbar as vbar
from comfy_aimdo import control


class MappedFile:
    """In place of aimdo's ModelMMAP, through which the host reads safetensors under the flag."""

    def __init__(self, path: str | Path):
        self.file = Path(path).open("rb")  # noqa: SIM115 - as long as tensors point into it
        self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.bytes = (ctypes.c_uint8 * len(self.map)).from_buffer(self.map)

    def get(self) -> int:
        return ctypes.addressof(self.bytes)

    def get_file_handle(self) -> int:
        return self.file.fileno()

    def bounce(self) -> bool:
        return True


comfy.memory_management.aimdo_enabled = True

if control.lib is None:  # a start on a CPU never loads the library, a real start always does
    comfy_aimdo.model_mmap.ModelMMAP = MappedFile
    # Host: up to aimdo 0.2 called into the library after every node ('NoneType' has no attribute
    # vbars_reset_watermark_limits, host 0.20.1).
    vbar.vbars_reset_watermark_limits = lambda: None
    vbar.vbars_analyze = lambda *_: 0

NODE_CLASS_MAPPINGS = {}
