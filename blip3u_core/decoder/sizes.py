"""Sizes of pictures by aspect ratio, at the number of pixels that a decoder was trained on."""

import math

RATIOS = {"1:1": (1, 1), "3:4": (3, 4), "4:3": (4, 3), "9:16": (9, 16), "16:9": (16, 9)}  # w, h
_STEPS = 16  # sides are multiples of 1/16 of the trained side: 64 of 1024, as SDXL's buckets


def size_of_ratio(ratio: str, trained_side: int) -> tuple[int, int]:
    """(height, width) in pixels of a ratio, as near to `trained_side` squared as steps allow.

    Raises: ValueError for an unknown ratio.
    """
    if ratio not in RATIOS:
        raise ValueError(
            f"aspect_ratio is {ratio!r}, expected one of {', '.join(RATIOS)}. Choose one, or set "
            "width and height."
        )
    across, down = RATIOS[ratio]
    step = max(8, trained_side // _STEPS)
    height = step * round(trained_side * math.sqrt(down / across) / step)
    width = step * round(trained_side * math.sqrt(across / down) / step)
    return height, width
