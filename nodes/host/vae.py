"""The decoder's VAE as the host's VAE: every stock node that takes one works."""

from typing import Any

import comfy.model_management as memory
import comfy.ops
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor

from ...blip3u_core.decoder.vae import Vae, VaeConfig
from ...blip3u_core.weights.assign import assign_weights, shapes_of
from ...blip3u_core.weights.checkpoint import Checkpoint
from .memory import reported_peak
from .patchers import patcher_for
from .placement import Placement, main_dtype

# The host's own estimates for SDXL's VAE: bytes of a number a pixel, at 128 channels.
ENCODE_NUMBERS = 1767
DECODE_NUMBERS = 2178
PUBLISHED_WIDTH = 128


class FeatureVae(comfy.sd.VAE):
    """Stock behaviour (tiles, batches, memory) around a VAE of any size."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype | None) -> None:
        config = VaeConfig.from_json(checkpoint.vae.config)
        # Host: the constructor only knows SDXL's sizes (0.3.75), and sets what later versions may
        # add; so it makes a VAE of one small level, which then gives way to ours.
        small = _one_level(config.latent_channels)
        super().__init__(
            sd=AutoencoderKL(**small).state_dict(), config={"params": small}, dtype=dtype
        )
        network = Vae(config, device="meta", operations=comfy.ops.manual_cast)
        expected = shapes_of(Vae(config, device="meta"))
        assign_weights(network, checkpoint.vae, expected=expected)
        self.first_stage_model = network
        placement = Placement(
            device=self.device,
            offload_device=memory.vae_offload_device(),
            stored=main_dtype(checkpoint.vae),
            kept=None,
            working=self.vae_dtype,
            computing=self.vae_dtype,
        )
        self.patcher = patcher_for(network, placement)
        self.size = None  # Host: it looks the size up again when it asks (from 0.3.68 on)
        self.latent_channels = config.latent_channels
        self.downscale_ratio = self.upscale_ratio = config.factor
        share = config.widths[0] / PUBLISHED_WIDTH
        self.memory_used_encode = lambda shape, dtype: (
            ENCODE_NUMBERS * share * shape[2] * shape[3] * memory.dtype_size(dtype)
        )
        self.memory_used_decode = lambda shape, dtype: (
            DECODE_NUMBERS
            * share
            * shape[2]
            * shape[3]
            * config.factor**2
            * memory.dtype_size(dtype)
        )

    def decode(self, samples_in: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self._check_latents(samples_in)
        with reported_peak("VAE", self.patcher):
            return super().decode(samples_in, *args, **kwargs)

    def encode(self, *args: Any, **kwargs: Any) -> Tensor:
        with reported_peak("VAE", self.patcher):
            return super().encode(*args, **kwargs)

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self._check_latents(samples)
        return super().decode_tiled(samples, *args, **kwargs)

    def _check_latents(self, latents: Tensor) -> None:
        if latents.ndim != 4 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"the VAE was given a LATENT {tuple(latents.shape)}, expected "
                f"(B, {self.latent_channels}, h, w). CLIP features are no picture yet: sample the "
                "decoder with them (Decoder, or CLIP Features to Conditioning and a KSampler) and "
                "decode what that gives. A LATENT of another model needs that model's VAE."
            )


def load_vae(checkpoint: Checkpoint, weight_dtype: torch.dtype | None) -> FeatureVae:
    """The VAE under the host's memory management.

    Args: weight_dtype: bf16 or fp32; anything else leaves the choice to the host, for SDXL's VAE
        overflows in fp16 and is too small for fp8 to matter.
    Raises: FileNotFoundError or ValueError if it is missing or does not fit.
    """
    safe = weight_dtype in (torch.bfloat16, torch.float32)
    return FeatureVae(checkpoint, weight_dtype if safe else None)


def _one_level(latent_channels: int) -> dict[str, Any]:
    sizes = {
        "ch": 32,
        "ch_mult": [1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "resolution": 32,
    }
    planes = {"in_channels": 3, "out_ch": 3, "z_channels": latent_channels, "double_z": True}
    return {"ddconfig": {**sizes, **planes, "dropout": 0.0}, "embed_dim": latent_channels}
