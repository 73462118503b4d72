"""A custom node folder that makes a host on a CPU build its layers as under DynamicVRAM.

BLIP3U_DYNAMIC_VRAM=1 links it into every test host (harness/comfy.py). On an NVIDIA card the host
loads comfy-aimdo's library, sets this flag and takes its dynamic patcher. Here the flag alone is
set: layers are built without parameters and get them while weights are loaded, and the plain
patcher moves them. What aimdo itself does needs a card.
"""

import comfy.memory_management
import comfy_aimdo.model_vbar as vbar
from comfy_aimdo import control

comfy.memory_management.aimdo_enabled = True

if control.lib is None:
    # Host: up to aimdo 0.2 these two call into the library after every node, which a start on a
    # CPU never loads ('NoneType' has no attribute vbars_reset_watermark_limits, host 0.20.1).
    vbar.vbars_reset_watermark_limits = lambda: None
    vbar.vbars_analyze = lambda *_: 0

NODE_CLASS_MAPPINGS = {}
