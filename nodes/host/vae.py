"""The decoder's VAE as the host's VAE: every stock node that takes one works."""

from collections.abc import Callable
from typing import Any

import comfy.model_management as memory
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor

from ...blip3u_core.decoder.vae import Vae, VaeConfig
from ...blip3u_core.finite import all_finite
from ...blip3u_core.weights.assign import assign_weights, shapes_of
from ...blip3u_core.weights.checkpoint import Checkpoint
from .memory import free_bytes, reported_peak
from .patchers import patcher_for
from .placement import Placement, main_dtype
from .progress import check_interrupted

# The host's own estimates for SDXL's VAE: bytes of a number a pixel, at 128 channels.
ENCODE_NUMBERS = 1767
DECODE_NUMBERS = 2178
PUBLISHED_WIDTH = 128

TILE = 64  # latents, as the host's own tiles
WHOLE_ON_CPU = 1024 * 1280  # pixels; the largest that must not differ by a tile's edge


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
        height, width = (side * self.upscale_ratio for side in samples_in.shape[2:])
        needed = self.memory_used_decode(samples_in[:1].shape, self.vae_dtype)
        with reported_peak("VAE", self.patcher):
            if self._needs_tiles(height * width, needed):
                pictures = self._decode_in_tiles(samples_in)
            else:
                pictures: Any = super().decode(samples_in, *args, **kwargs)
        return self._checked(pictures, "picture")

    def encode(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        height, width = pixel_samples.shape[1:3]
        needed = self.memory_used_encode((1, 3, height, width), self.vae_dtype)
        with reported_peak("VAE", self.patcher):
            if self._needs_tiles(height * width, needed):
                latents = self._encode_in_tiles(pixel_samples)
            else:
                latents: Any = super().encode(pixel_samples, *args, **kwargs)
        return self._checked(latents, "latent")

    def _needs_tiles(self, pixels: int, needed: float) -> bool:
        """Whether memory is short; on a processor, whether Cancel would come too late."""
        slow = self.device.type == "cpu" and pixels > WHOLE_ON_CPU
        return slow or needed > free_bytes(self.device)

    def _decode_in_tiles(self, latents: Tensor) -> Tensor:
        """What `decode` gives, tile by tile, each laid softly over the one before."""
        tile = TILE // self.upscale_ratio
        self._load_for(
            self.memory_used_decode((1, self.latent_channels, tile, tile), self.vae_dtype)
        )

        def decode(part: Tensor) -> Tensor:
            check_interrupted()
            return self.first_stage_model.decode(part.to(self.vae_dtype).to(self.device)).float()

        pictures = self._scaled_in_tiles(latents, decode, TILE, self.upscale_ratio, 3)
        return self.process_output(pictures).movedim(1, -1)

    def _encode_in_tiles(self, pictures: Tensor) -> Tensor:
        pixels = self.vae_encode_crop_pixels(pictures).movedim(-1, 1)
        tile = TILE * self.downscale_ratio
        self._load_for(self.memory_used_encode((1, 3, tile, tile), self.vae_dtype))

        def encode(part: Tensor) -> Tensor:
            check_interrupted()
            numbers = self.process_input(part).to(self.vae_dtype).to(self.device)
            return self.first_stage_model.encode(numbers).float()

        scale = 1 / self.downscale_ratio
        return self._scaled_in_tiles(pixels, encode, tile, scale, self.latent_channels)

    def _load_for(self, needed: float) -> None:
        memory.load_models_gpu([self.patcher], memory_required=int(needed))

    def _scaled_in_tiles(
        self,
        whole: Tensor,
        run: Callable[[Tensor], Tensor],
        tile: int,
        scale: float,
        channels: int,
    ) -> Tensor:
        overlap = tile // 4
        rows, columns = whole.shape[2:]
        steps = comfy.utils.get_tiled_scale_steps(columns, rows, tile, tile, overlap)
        host: Any = comfy.utils  # its own types know whole scales alone
        return host.tiled_scale(
            whole,
            run,
            tile,
            tile,
            overlap,
            upscale_amount=scale,
            out_channels=channels,
            output_device=self.output_device,
            pbar=comfy.utils.ProgressBar(len(whole) * steps),
        )

    def _checked(self, made: Tensor, name: str) -> Tensor:
        if not all_finite(made):
            raise ValueError(
                f"the VAE computed NaN or infinite values for the {name}, expected finite numbers. "
                "Load the checkpoint with weight_dtype bf16 or fp32; if it stays so, its weights "
                "are damaged: download diffusion-decoder/vae again."
            )
        return made

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
        if not all_finite(latents):
            raise ValueError(
                "the VAE was given a LATENT with NaN or infinite values, expected finite numbers. "
                "The decoder computed them: load it with weight_dtype bf16 or fp32; if it stays "
                "so, its weights are damaged: download diffusion-decoder/unet again."
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
