"""Where and when: rotations for places on the feature grid, sinusoids for timesteps."""

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def grid_rotations(
    height: int, width: int, head_dim: int, theta: float, device: torch.device
) -> Tensor:
    """Rotations of a head's channel pairs, as (cos, sin), for each place of a grid.

    The pairs alternate between the two axes: row * f_0, column * f_0, row * f_1, column * f_1 ...
    with f_j = theta^(-4j / head_dim).

    Returns: (height * width, 1, head_dim / 2, 2) float32, row by row; the 1 stands for the heads.
    Source: two-axis RoPE of Lumina-Next, Zhuo et al. 2024.
    """
    with torch.inference_mode(False):  # the table outlives the caller, who may train next
        frequencies = theta ** (-torch.arange(0, head_dim, 4, dtype=torch.float32) / head_dim)
        rows = torch.arange(height)[:, None, None].expand(height, width, 1) * frequencies
        columns = torch.arange(width)[None, :, None].expand(height, width, 1) * frequencies
        angles = torch.stack((rows, columns), -1).reshape(height * width, 1, head_dim // 2)
        return torch.stack((angles.cos(), angles.sin()), -1).to(device)


def rotate_pairs(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate consecutive channel pairs of `x` (B, T, heads, head_dim), in float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real numbers, but not complex ones
        (a, b), (cos, sin) = pairs.unbind(-1), rotations.unbind(-1)
        rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), -1)
    else:  # one kernel
        rotated = torch.view_as_real(
            torch.view_as_complex(pairs) * torch.view_as_complex(rotations)
        )
    return rotated.flatten(-2).to(x.dtype)


def timestep_sinusoid(timesteps: Tensor, width: int) -> Tensor:
    """Embed timesteps (...) in [0, 1000] as (..., width) float32, cosines first."""
    half = width // 2
    places = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    # Parity: this order of operations; another one differs by 3e-5 at timestep 1000.
    angles = timesteps.float()[..., None] * torch.exp(-math.log(10_000.0) * places / half)
    return torch.cat((angles.cos(), angles.sin()), -1)
