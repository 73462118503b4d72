"""The decoder's UNet as a stock MODEL: SDXL's network, conditioned on CLIP features."""

from collections.abc import Callable, Mapping
from typing import Any

import comfy.latent_formats
import comfy.model_sampling
import comfy.ops
import comfy.supported_models
import comfy.utils
import torch
from comfy.cli_args import args
from comfy.ldm.modules import attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep, UNetModel
from comfy.model_base import SDXL, BaseModel, ModelType
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.decoder.decoder import ORIGINAL_SIZE
from ...blip3u_core.decoder.noise_schedule import NoiseSchedule
from ...blip3u_core.decoder.unet_config import UNetConfig, check_same_latents
from ...blip3u_core.decoder.vae import VaeConfig
from ...blip3u_core.weights.assign import assign_weights, shapes_of
from ...blip3u_core.weights.checkpoint import Checkpoint
from ...blip3u_core.weights.stage import Stage
from .layers import TorchOperations, build_in
from .memory import report_fit, report_samplings
from .parts import present
from .patchers import patcher_for
from .placement import Placement, place_stage
from .progress import check_interrupted
from .refused import refuse_concat, refuse_noise, refuse_options, refuse_patches
from .unet_config import host_unet_config

SDXL_SCALE = 0.13025
SCORES_AT_ONCE = 2**28  # of queries and keys: a second or two of a processor, then Cancel counts
DECODER = "the decoder"  # in messages
PLACES = "blip3u_places"  # of a conditioning: how many tokens its grid of features has
OTHERS_BLOCKS = frozenset({"dit"})  # transformer blocks; the UNet calls every other patch


def load_decoder(
    checkpoint: Checkpoint, weight_dtype: torch.dtype | None, disable_dynamic: bool = False
) -> ModelPatcher:
    """The UNet under the host's memory management; weights stay memory-mapped until used.

    Args: weight_dtype: how weights are kept; None leaves it to the host.
    Raises: FileNotFoundError or ValueError if the decoder is missing or does not fit.
    """
    stage = checkpoint.unet
    config = DecoderConfig(checkpoint)
    placement = place_stage(stage, weight_dtype, config.supported_inference_dtypes)
    build_in(config, placement)
    model = ClipFeatureDecoder(config)
    _assign_weights(model.diffusion_model, stage, config.unet_config, placement)
    patcher = patcher_for(model, placement, disable_dynamic=disable_dynamic)
    host: Any = patcher  # newer ones rebuild it from this
    host.cached_patcher_init = (load_decoder, (checkpoint, weight_dtype))
    if placement.device.type == "cpu":
        _prefer_torch_attention(patcher)
    report_fit("decoder", patcher, placement, stage)
    report_samplings("decoder", patcher)
    return patcher


def decoder_of(patcher: ModelPatcher) -> "ClipFeatureDecoder":
    """The decoder inside a MODEL. Raises ValueError if another model is wired in."""
    if not isinstance(present(patcher).model, ClipFeatureDecoder):
        raise ValueError(
            f"the decoder input is a {type(patcher.model).__name__}, expected the decoder of a "
            "BLIP3-U checkpoint. Connect the third output of Load BLIP3-U (not its model)."
        )
    return patcher.model


class DecoderConfig(comfy.supported_models.SDXL):
    """The host's configuration object, filled from the checkpoint's own JSON files."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - the host's own form
    # As published first: bf16 stays memory-mapped where it is fast.
    supported_inference_dtypes = (torch.bfloat16, torch.float16, torch.float32)

    def __init__(self, checkpoint: Checkpoint) -> None:
        unet = UNetConfig.from_json(checkpoint.unet.config)
        vae = VaeConfig.from_json(checkpoint.vae.config)
        check_same_latents(unet, vae, checkpoint.path)
        super().__init__(host_unet_config(unet))
        self.schedule = NoiseSchedule.from_json(checkpoint.scheduler_config)
        self.sampling_settings["timesteps"] = self.schedule.num_train_timesteps
        self.latent_format = latent_format(vae)
        self.time_id_width = unet.addition_time_embed_dim
        self.picture_size = unet.sample_size * vae.factor

    def inpaint_model(self) -> bool:
        return False  # the host would take more than 4 latent channels for a mask


class DecoderUNet(UNetModel):
    """The host's UNet with any number of norm groups."""

    def __init__(self, *, norm_num_groups: int, operations: Any, **config: Any) -> None:
        super().__init__(operations=with_norm_groups(operations, norm_num_groups), **config)


class ClipFeatureDecoder(SDXL):
    """What the host samples: takes the features' mean and the six time ids beside the tokens."""

    def __init__(self, config: DecoderConfig) -> None:
        model_type = (
            ModelType.V_PREDICTION
            if config.schedule.prediction_type == "v_prediction"
            else ModelType.EPS
        )
        # Host: SDXL's own constructor takes no other network (0.3.75).
        BaseModel.__init__(self, config, model_type, device="meta", unet_model=DecoderUNet)
        self.embedder = Timestep(config.time_id_width)
        self.schedule = config.schedule
        self.picture_size = config.picture_size
        self.model_sampling = decoder_sampling(config, model_type)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        refuse_options(kwargs, DECODER)
        refuse_noise(self.model_sampling, DECODER, flow=False)
        self._check_conditioning(kwargs.get("cross_attn"), kwargs.get("pooled_output"))
        refuse_concat(kwargs["cross_attn"].shape[1], kwargs.get(PLACES), DECODER)
        return super().extra_conds(**kwargs)

    def apply_model(self, *args: Any, transformer_options: Any = None, **kwargs: Any) -> Tensor:
        refuse_patches(transformer_options or {}, DECODER, OTHERS_BLOCKS)
        return super().apply_model(*args, transformer_options=transformer_options or {}, **kwargs)

    def encode_adm(self, **kwargs: Any) -> Tensor:
        """The pooled features and the six time ids, (B, C + 6 * width of one id)."""
        pooled = kwargs["pooled_output"]
        height, width = (
            kwargs.get("height", ORIGINAL_SIZE[0]),
            kwargs.get("width", ORIGINAL_SIZE[1]),
        )
        ids = (
            height,
            width,
            kwargs.get("crop_h", 0),
            kwargs.get("crop_w", 0),
            kwargs.get("target_height", height),
            kwargs.get("target_width", width),
        )
        embedded = self.embedder(torch.tensor(ids, dtype=torch.float32)).flatten()
        return torch.cat([pooled, embedded.to(pooled).expand(len(pooled), -1)], dim=1)

    def _check_conditioning(self, tokens: Tensor | None, pooled: Tensor | None) -> None:
        width = self.model_config.unet_config["context_dim"]
        if tokens is None or tokens.shape[-1] != width or pooled is None:
            came = "none" if tokens is None else f"of width {tokens.shape[-1]}"
            raise ValueError(
                f"the decoder's conditioning is {came}"
                f"{'' if pooled is not None else ' without pooled features'}, expected CLIP "
                f"features of width {width} with their mean. Visual tokens belong to the DiT: "
                "sample CLIP features with it and connect them through CLIP Features to "
                "Conditioning."
            )
        if pooled.shape[-1] != width:
            raise ValueError(
                f"the decoder's pooled features have width {pooled.shape[-1]}, expected {width}. "
                "Another model's conditioning was mixed in; connect CLIP Features to Conditioning."
            )


class _EmptyStart:
    """Without a picture diffusers begins at noise * sqrt(sigma^2 + 1), whatever sigma is."""

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False
    ) -> Tensor:
        empty = not torch.any(latent_image)
        host: Any = super()
        return host.noise_scaling(sigma, noise, latent_image, max_denoise or empty)


def decoder_sampling(
    config: DecoderConfig, model_type: ModelType
) -> comfy.model_sampling.ModelSamplingDiscrete:
    """The host's sampling object on the checkpoint's own noise levels."""
    prediction = {
        ModelType.EPS: comfy.model_sampling.EPS,
        ModelType.V_PREDICTION: comfy.model_sampling.V_PREDICTION,
    }[model_type]
    start = (_EmptyStart,) if config.schedule.timestep_spacing == "leading" else ()
    bases = (*start, comfy.model_sampling.ModelSamplingDiscrete, prediction)
    kind: Any = type("DecoderSampling", bases, {})
    sampling = kind(config)
    sampling.set_sigmas(config.schedule.train_sigmas)
    return sampling


def _prefer_torch_attention(patcher: ModelPatcher) -> None:
    """Host: without a graphics card it takes a slower attention if no flag chose one (0.3.75)."""
    if attention.optimized_attention is attention.attention_sub_quad and not (
        args.use_quad_cross_attention
    ):
        options = patcher.model_options["transformer_options"]
        options["optimized_attention_override"] = _torch_attention


def _torch_attention(_chosen: Callable[..., Tensor], *given: Any, **options: Any) -> Tensor:
    """Torch's attention; of a picture too large for that, so many queries at a time."""
    q, k, v, heads, *rest = given
    dim = 2 if options.get("skip_reshape") else 1
    rows = max(1, SCORES_AT_ONCE // k.shape[dim])
    if q.shape[dim] <= rows or options.get("mask") is not None or rest:
        return attention.attention_pytorch(*given, **options)
    parts = []
    for queries in q.split(rows, dim):
        check_interrupted()
        parts.append(attention.attention_pytorch(queries, k, v, heads, **options))
    return torch.cat(parts, 2 if options.get("skip_output_reshape") else 1)


def latent_format(vae: VaeConfig) -> comfy.latent_formats.LatentFormat:
    """SDXL's own, with its previews, where the latents are SDXL's; else a plain one."""
    if (vae.latent_channels, vae.scaling_factor) == (4, SDXL_SCALE):
        return comfy.latent_formats.SDXL()
    plain = comfy.latent_formats.LatentFormat()
    plain.latent_channels = vae.latent_channels
    plain.scale_factor = vae.scaling_factor
    return plain


def with_norm_groups(operations: Any, groups: int) -> Any:
    """The host's operations, whose GroupNorm has so many groups whatever it is asked for."""

    class GroupNorm(operations.GroupNorm):
        def __init__(self, num_groups: int, num_channels: int, **options: Any) -> None:
            super().__init__(groups, num_channels, **options)

    class Operations(operations):
        pass

    Operations.GroupNorm = GroupNorm
    return Operations


def _assign_weights(
    unet: UNetModel, stage: Stage, unet_config: Mapping[str, Any], placement: Placement
) -> None:
    """Give every parameter its weight, renamed from diffusers. Raises ValueError if one lacks."""
    plain = DecoderUNet(**unet_config, device="meta", operations=TorchOperations)
    ours = shapes_of(plain)
    names = {
        theirs: name
        for theirs, name in comfy.utils.unet_to_diffusers(unet_config).items()
        if name in ours and not theirs.startswith("class_embedding.")  # shares add_embedding's
    }
    expected = {theirs: ours[name] for theirs, name in names.items()}
    assign_weights(unet, stage, placement.kept, expected, names.__getitem__, placement.quantized)
