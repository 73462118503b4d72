"""Which weights may be kept in 8 bits or less, and in which dtype each is kept. One rule for all.

8 bits are for the matrices of attention and feed-forward layers: they are nearly all of the bytes,
each of their numbers meets many others in a sum, and errors cancel. What stays as it is stored:

- patch and timestep embedders, projections of conditions: everything passes through them once,
  and no later layer makes up for what they lose;
- the DiT's output layer (`norm_out`): it is the velocity itself;
- modulations: scales and gates multiply whole layers; and they are computed once a sampling;
- norms, biases, gates, queries: small, and not matrices;
- convolutions and the whole VAE: hosts multiply no convolution in 8 bits.

In 4 bits the rest of the language model would be as large as its layers. With scales beside the
numbers it may therefore be small, too:

- the output layer in 8 bits, never less: the greedy choice hangs on it; the vision encoder, too,
  for its errors reach every token, but for the matrices of queries, keys and values, whose errors
  are lost in the softmax (measured: docs/quantization.md);
- the token table as the layers: a token is one row, and its error is one among many tokens'. A
  table that is the output layer, too, stays: hosts multiply by no quantised table.
"""

import re
from typing import Literal

import torch
from torch import Tensor

Role = Literal["matrix", "projection", "beside", "table"]
TOKEN_TABLE = "model.embed_tokens.weight"

# Stage -> names that may be kept in 8 bits; the decoder's UNet by diffusers' names.
_MATRICES = {
    "llm": re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight"),
    "dit": re.compile(
        r"layers\.\d+\.(attn[12]\.to_[qkv]|attn2\.to_out\.0|feed_forward\.linear_\d)\.weight"
    ),
    "unet": re.compile(r".+\.transformer_blocks\.\d+\.(attn[12]|ff)\..+\.weight"),
    "vision_tower": re.compile(r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])\.weight"),
}

_PROJECTION = re.compile(r"visual\.blocks\.\d+\.attn\.qkv\.weight")
_BESIDE = re.compile(
    r"(visual\.blocks\.\d+\.(attn|mlp)\.\w+|visual\.merger\.mlp\.\d+|lm_head)\.weight"
)


def role_of(stage: str, name: str, num_axes: int, tied: bool) -> Role | None:
    """What a weight is to a quantised file; None for what stays as it is stored.

    Args: tied: whether the token table is the output layer as well.
    """
    if fits_8_bits(stage, name, num_axes):
        return "matrix"
    if stage != "llm" or num_axes != 2:
        return None
    if name == TOKEN_TABLE:
        return None if tied else "table"
    if _PROJECTION.fullmatch(name):
        return "projection"
    stays = tied and name.startswith("lm_head")  # a copy of the table
    return "beside" if _BESIDE.fullmatch(name) and not stays else None


def fits_8_bits(stage: str, name: str, num_axes: int) -> bool:
    """Whether the weight `name`, with so many axes, may be kept in 8 bits without a scale."""
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
