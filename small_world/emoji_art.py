"""The art of the things: glyphs of Noto Color Emoji (SIL Open Font License 1.1), never committed.

The font is Debian's package fonts-noto-color-emoji; elsewhere `BLIP3U_EMOJI_FONT` names the same
NotoColorEmoji.ttf (the one whose glyphs are bitmaps of 136x128 pixels).
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from small_world.things import THINGS

DEBIAN_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
FONT_SIZE = 109  # the only one that the bitmaps have
SIDES = {"small": 25, "big": 37}  # pixels along the longer side; odd, so that the centre is a pixel


@cache
def emoji_font() -> ImageFont.FreeTypeFont:
    """Raises: FileNotFoundError where the font is not installed."""
    path = Path(os.environ.get("BLIP3U_EMOJI_FONT", DEBIAN_FONT))
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no font {path}, expected NotoColorEmoji.ttf, the art of the wide world. "
            "Install it (Debian: apt install fonts-noto-color-emoji) or name it in "
            "BLIP3U_EMOJI_FONT."
        )
    return ImageFont.truetype(str(path), FONT_SIZE)


@cache
def glyph(name: str) -> Image.Image:
    """The thing in RGBA as the font has it, without its margins."""
    canvas = Image.new("RGBA", (160, 160))
    draw = ImageDraw.Draw(canvas)
    draw.text((8, 8), THINGS[name].emoji, font=emoji_font(), embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise ValueError(
            f"the emoji font has no glyph of {name!r} ({THINGS[name].emoji}), expected one of "
            "every thing; install Noto Color Emoji 2.042 or newer."
        )
    return canvas.crop(box)


@cache
def thing_art(name: str, size: str) -> tuple[np.ndarray, np.ndarray]:
    """Coverage (n, n, 1) in 0..1 and colours times coverage (n, n, 3) in 0..255, float32."""
    art, side = glyph(name), SIDES[size]
    scale = side / max(art.size)
    width, height = (max(1, round(length * scale)) for length in art.size)
    # "RGBa": premultiplied, so that what is transparent has no say in the colours
    small = art.convert("RGBa").resize((width, height), Image.Resampling.BOX)
    patch = Image.new("RGBa", (side, side))
    patch.paste(small, ((side - width) // 2, (side - height) // 2))
    pixels = np.asarray(patch, np.float32)
    return pixels[..., 3:] / 255, pixels[..., :3]
