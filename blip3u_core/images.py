"""Pictures as 8-bit RGB, whatever channels and numbers they came with."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

_made: Any = WeakIdKeyDictionary()  # frozen picture -> what was made of it, while it lives


def rgb_image(picture: Tensor) -> Image.Image:
    """Any picture tensor as 8-bit RGB: grey is repeated, alpha lies over white.

    Args:
        picture: (H, W, 1 to 4), uint8, or floating point in [0, 1].

    Raises: ValueError for another shape, an empty picture, NaN or infinity.
    """
    if picture.ndim != 3 or not 1 <= picture.shape[2] <= 4 or 0 in picture.shape:
        raise ValueError(
            f"the picture has shape {tuple(picture.shape)}, expected (height, width, channels) "
            "with 1 to 4 channels. Give one picture of an IMAGE batch."
        )
    if picture.dtype != torch.uint8:
        if not torch.isfinite(picture).all():
            bad = int((~torch.isfinite(picture)).sum())
            raise ValueError(
                f"the picture holds {bad} values that are NaN or infinite, expected numbers from "
                "0 to 1. The step that made it went wrong (often a VAE in 16 bits): run that one "
                "in another precision."
            )
        picture = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)
    channels = picture.shape[2]
    if channels in (1, 2):
        picture = torch.cat((picture[..., :1].expand(-1, -1, 3), picture[..., 1:]), dim=-1)
    if channels in (2, 4):
        colour, alpha = picture[..., :3].float(), picture[..., 3:].float() / 255
        picture = (colour * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return Image.fromarray(picture.cpu().numpy())


def frozen(picture: Tensor) -> Tensor:
    """A copy as 8-bit RGB (H, W, 3), which nobody changes from here on; of such a copy, itself.

    Raises: ValueError as `rgb_image` does.
    """
    if picture in _made:
        return picture
    pixels = bytearray(rgb_image(picture).tobytes())
    copy = torch.frombuffer(pixels, dtype=torch.uint8).reshape(*picture.shape[:2], 3)
    _made[copy] = {}
    return copy


def made_once(picture: Tensor, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` makes of a picture: of a frozen one, once for every `key`.

    A dialogue's pictures are read again with every message.
    """
    made = _made.get(picture)
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    return made[key]
