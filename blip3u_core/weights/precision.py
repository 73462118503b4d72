"""Which weights may be kept in 8 bits, and in which dtype each is kept. One rule for all.

8 bits are for the matrices of attention and feed-forward layers: they are nearly all of the bytes,
each of their numbers meets many others in a sum, and errors cancel. What stays as it is stored:

- token table, patch and timestep embedders, projections of conditions: everything passes through
  them once, and no later layer makes up for what they lose;
- output layers (`lm_head`, `norm_out`): the greedy choice, or the velocity itself, hangs on them;
- modulations: scales and gates multiply whole layers; and they are computed once a sampling;
- norms, biases, gates, queries: small, and not matrices;
- convolutions and the whole VAE: hosts multiply no convolution in 8 bits;
- the language model's vision encoder: a tenth of its bytes, and its errors reach every token.
"""

import re

import torch
from torch import Tensor

# Stage -> names that may be kept in 8 bits; the decoder's UNet by diffusers' names.
_MATRICES = {
    "llm": re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight"),
    "dit": re.compile(
        r"layers\.\d+\.(attn[12]\.to_[qkv]|attn2\.to_out\.0|feed_forward\.linear_\d)\.weight"
    ),
    "unet": re.compile(r".+\.transformer_blocks\.\d+\.(attn[12]|ff)\..+\.weight"),
    "vision_tower": re.compile(r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])\.weight"),
}


def fits_8_bits(stage: str, name: str, num_axes: int) -> bool:
    """Whether the weight `name` of a stage, with so many axes, may be kept in 8 bits."""
    matrices = _MATRICES.get(stage)
    return num_axes == 2 and matrices is not None and matrices.fullmatch(name) is not None


def storage_dtype(stage: str, name: str, weight: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """In which dtype a weight is kept if `dtype` was asked for; None asks for no change."""
    if dtype is None or (dtype.itemsize == 1 and not fits_8_bits(stage, name, weight.ndim)):
        return weight.dtype
    return dtype


class Cast:
    """Keeps a stage's weights in another dtype, for `write_safetensors`."""

    def __init__(self, stage: str, dtype: torch.dtype | None) -> None:
        self.stage = stage
        self.dtype = dtype

    def entries(self, name: str, weight: Tensor) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Dtype and shape by name of what `make` gives."""
        return {name: (storage_dtype(self.stage, name, weight, self.dtype), tuple(weight.shape))}

    def make(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """The weight in its dtype."""
        return {name: weight.to(storage_dtype(self.stage, name, weight, self.dtype))}
