"""What the decoder draws on: nothing, or a picture of which a mask keeps the rest.

The VAE takes whole blocks of pixels and changes all of them. So a picture is padded to whole
blocks and the result cut again, and outside of the mask the source picture is put back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import comfy.model_management as memory
import comfy.sd
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

LOAD_IMAGE_EMPTY = (64, 64)  # the mask of the host's Load Image for a picture without alpha
EDGE = 2  # pixels; the seam is blended over twice as many on each side of its middle
NOTHING_TO_DRAW = "BLIP3-U: the mask is black everywhere; the source picture stays as it is."


@dataclass(frozen=True)
class Canvas:
    """What is drawn on; 0 is the checkpoint's own size, or that of the source picture."""

    width: int = 0
    height: int = 0
    source: Tensor | None = None  # (B, H, W, C)
    mask: Tensor | None = None  # (B, h, w), 1 = redraw


@dataclass(frozen=True)
class Start:
    """Where the sampling begins, and what of the source picture stays."""

    latent: Tensor  # (B, L, h, w)
    mask: Tensor | None = None  # (B, 1, H, W), of the padded picture
    source: Tensor | None = None  # (B, 3, H, W), cropped and resized, not padded

    def finish(self, pictures: Tensor) -> Tensor:
        """Drawn pictures (B, H, W, 3) without the padding, with the source outside of the mask."""
        if self.source is None:
            return pictures
        height, width = self.source.shape[2:]
        drawn = pictures[:, :height, :width]
        if self.mask is None:
            return drawn
        source = self.source.movedim(1, -1).to(drawn)
        share = soft_inside(self.mask[..., :height, :width]).movedim(1, -1).to(drawn)
        return torch.where(share > 0, torch.lerp(source, drawn, share), source)

    @property
    def keeps_everything(self) -> bool:
        return self.mask is not None and not self.mask.any()

    def unchanged(self, batch: int) -> Tensor:
        """The source itself (B, H, W, 3), as many times as pictures were asked for."""
        assert self.source is not None
        logging.info(NOTHING_TO_DRAW)
        return self.source.movedim(1, -1).expand(batch, -1, -1, -1).clone()


def soft_inside(mask: Tensor) -> Tensor:
    """A mask (B, 1, H, W) whose edges are soft on their inner side: nowhere above what it was."""
    size = 2 * EDGE + 1
    eroded = -F.max_pool2d(-mask, size, stride=1, padding=EDGE)
    return F.avg_pool2d(eroded, size, stride=1, padding=EDGE, count_include_pad=False)


def start_on(canvas: Canvas, vae: comfy.sd.VAE, own_size: int) -> Start:
    """The latent to begin from, with what `Start.finish` needs.

    Args: own_size: side of the checkpoint's pictures, pixels.
    Raises: ValueError for a mask without a picture, a mask that redraws nothing because no one
        painted it, and sizes that the VAE cannot make.
    """
    host: Any = vae  # its own types know other VAEs, whose factor is a function
    factor = host.spacial_compression_decode()
    if canvas.source is None:
        return _empty(canvas, vae, own_size, factor)
    source = rgb_planes(canvas.source)
    mask = None if canvas.mask is None else mask_of(canvas.mask, source)
    size = (canvas.height or source.shape[2], canvas.width or source.shape[3])
    if size != tuple(source.shape[2:]):
        source = resized(source, size, "lanczos")
        mask = None if mask is None else resized(mask, size, "bilinear")
    latent = host.encode(padded(source, factor).movedim(1, -1))
    return Start(latent, None if mask is None else padded(mask, factor), source)


def _empty(canvas: Canvas, vae: comfy.sd.VAE, own_size: int, factor: int) -> Start:
    if canvas.mask is not None:
        raise ValueError(
            "a mask came without a source_image, expected the picture whose unmasked part "
            "stays. Connect source_image, or remove the mask."
        )
    size = (canvas.height or own_size, canvas.width or own_size)
    if size[0] % factor or size[1] % factor:
        raise ValueError(
            f"the picture is to be {size[1]} x {size[0]}, expected multiples of {factor}. Change "
            "width and height; 0 takes the checkpoint's own."
        )
    shape = (1, vae.latent_channels, size[0] // factor, size[1] // factor)
    return Start(torch.zeros(shape, device=memory.intermediate_device()))


def mask_of(mask: Tensor, source: Tensor) -> Tensor:
    """A mask of any shape, stretched over the whole source (B, 3, H, W): (B, 1, H, W)."""
    planes = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    size = tuple(source.shape[2:])
    if not planes.any() and tuple(planes.shape[2:]) == LOAD_IMAGE_EMPTY != size:
        raise ValueError(
            "the mask is 64 x 64 and black, as Load Image gives it for a picture without "
            "transparency: nothing would be redrawn; expected a mask with something white. Paint "
            "one (right click, Open in MaskEditor), or disconnect the mask."
        )
    if tuple(planes.shape[2:]) != size:
        planes = F.interpolate(planes, size, mode="bilinear", antialias=True).clamp(0, 1)
    return planes


def resized(planes: Tensor, size: tuple[int, int], method: str) -> Tensor:
    """(B, C, H, W) cut to the shape of `size` around its middle, then scaled to it."""
    height, width = planes.shape[2:]
    rows = min(height, max(1, round(width * size[0] / size[1])))
    columns = min(width, max(1, round(height * size[1] / size[0])))
    top, left = (height - rows) // 2, (width - columns) // 2
    planes = planes[:, :, top : top + rows, left : left + columns]
    if planes.shape[2:] == size:  # the host's lanczos would round it to 8 bits
        return planes
    return comfy.utils.common_upscale(planes, size[1], size[0], method, "disabled")


def padded(planes: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) with its last row and column repeated up to whole blocks of `factor`."""
    height, width = planes.shape[2:]
    below, right = -height % factor, -width % factor
    return F.pad(planes, (0, right, 0, below), mode="replicate") if below or right else planes


def rgb_planes(pictures: Tensor) -> Tensor:
    """(B, H, W, 1 to 4) to (B, 3, H, W); alpha is dropped, as the host's VAE Encode does."""
    colours = pictures[..., :3] if pictures.shape[-1] >= 3 else pictures[..., :1]
    return colours.expand(-1, -1, -1, 3).movedim(-1, 1)
