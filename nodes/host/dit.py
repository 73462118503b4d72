"""The feature DiT as a stock MODEL: every sampler, guider and patch of the host works on it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import comfy.latent_formats
import comfy.model_sampling
import comfy.supported_models_base
import torch
from comfy.model_base import BaseModel, ModelType
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ...blip3u_core.features.config import NextDiTConfig
from ...blip3u_core.features.flow import NUM_STEPS, timesteps_of
from ...blip3u_core.features.nextdit import (
    Modulation,
    NextDiT,
    check_visual_tokens,
    one_token_if_identical,
)
from ...blip3u_core.weights.assign import assign_weights, shapes_of
from ...blip3u_core.weights.checkpoint import Checkpoint
from .conditions import PreparedCond, PreparedTokens, Rows, repeated
from .layers import build_in
from .memory import report_fit, report_samplings
from .parts import present
from .patchers import patcher_for
from .placement import place_stage
from .refused import (
    refuse_concat,
    refuse_control,
    refuse_noise,
    refuse_options,
    refuse_patches,
)

# Divisible by every usual number of steps, so that the host's `simple` picks the exact sigmas.
TABLE_SIZE = 50_400
SMALLEST_SIGMA = 1e-3  # as of the host's own flow models; `karras` and others end there
LARGEST_GRID = 4  # times the checkpoint's own
PREVIEW_ITERATIONS = 8
DIT = "the feature DiT"  # in messages


def load_dit(
    checkpoint: Checkpoint, weight_dtype: torch.dtype | None, disable_dynamic: bool = False
) -> ModelPatcher:
    """The DiT under the host's memory management; weights stay memory-mapped until used.

    Args: weight_dtype: how weights are kept; None leaves it to host and checkpoint.
    Raises: FileNotFoundError or ValueError if the DiT is missing or does not fit.
    """
    stage = checkpoint.dit
    network = NextDiTConfig.from_shapes(stage.shapes(), checkpoint.config)
    config = FeatureModelConfig(network)
    placement = place_stage(stage, weight_dtype, config.supported_inference_dtypes)
    build_in(config, placement)
    model = ClipFeatureDiT(config)
    expected = shapes_of(NextDiT(network, device="meta"))
    assign_weights(
        model.diffusion_model, stage, placement.kept, expected, quantized=placement.quantized
    )
    patcher = patcher_for(model, placement, disable_dynamic=disable_dynamic)
    host: Any = patcher  # newer ones rebuild it from this
    host.cached_patcher_init = (load_dit, (checkpoint, weight_dtype))
    report_fit("DiT", patcher, placement, stage)
    report_samplings("DiT", patcher)
    return patcher


def feature_model(patcher: ModelPatcher) -> ClipFeatureDiT:
    """The feature DiT inside a MODEL. Raises ValueError if another model is wired in."""
    if not isinstance(present(patcher).model, ClipFeatureDiT):
        raise ValueError(
            f"the model input is a {type(patcher.model).__name__}, expected the feature DiT of a "
            "BLIP3-U checkpoint. Connect the output `model` of Load BLIP3-U (not its decoder)."
        )
    return patcher.model


def feature_shape(patcher: ModelPatcher) -> tuple[int, int, int]:
    """(C, g, g) of the features that this MODEL samples. Raises ValueError for another model."""
    config = feature_model(patcher).network_config
    return config.in_channels, config.input_size, config.input_size


class FeatureModelConfig(comfy.supported_models_base.BASE):
    """The host's configuration object, filled from the checkpoint's own numbers."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - the host's own form
    sampling_settings: dict[str, Any] = {"shift": 1.0, "multiplier": 1000}  # noqa: RUF012
    # As published first. Not fp16 by itself: gates and norms were trained in bf16's range.
    supported_inference_dtypes = (torch.bfloat16, torch.float32)

    def __init__(self, network: NextDiTConfig) -> None:
        super().__init__({"config": network})
        self.network = network
        self.memory_usage_factor = memory_usage_factor(network)


def memory_usage_factor(config: NextDiTConfig) -> float:
    """In the host's unit, 0.01 MiB a place of the latent and byte of the dtype.

    Numbers that live at once for a place: keys and values of all layers of the condition, one
    layer's activations, its FFN; and the place's share of the modulations of a whole schedule,
    which are there twice while they are put together.
    """
    kept = 2 * config.num_layers * config.dim
    modulations = 2 * NUM_STEPS * config.num_layers * 4 * config.dim
    numbers = kept + 12 * config.dim + 3 * config.ffn_dim + modulations / config.input_size**2
    return numbers / (0.01 * 1024**2)


class FeatureSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """Rectified flow on a finer table than the host's, computed in float64."""

    sigmas: Tensor

    def set_parameters(
        self, shift: float = 1.0, timesteps: int = TABLE_SIZE, multiplier: int = 1000
    ) -> None:
        self.shift = shift
        self.multiplier = multiplier
        sigmas = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
        shifted = comfy.model_sampling.time_snr_shift(shift, sigmas)
        self.register_buffer("sigmas", shifted.float())

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas.new_tensor(SMALLEST_SIGMA)


class FeatureFormat(comfy.latent_formats.LatentFormat):
    """CLIP features as a LATENT: no scale, and a preview from the network's own last layer.

    What the network writes varies most along the first left singular vectors of its last
    projection; three of them become red, green and blue. The mean of a velocity is that of minus
    the features, which is the projection's bias.
    """

    def __init__(self, network: NextDiT) -> None:
        self.latent_channels = network.config.in_channels
        self._last_layer = network.norm_out.linear_2

    @cached_property
    def _preview(self) -> tuple[Tensor, Tensor]:
        last = self._last_layer
        weight, bias = (p.detach().float().cpu() for p in (last.weight, last.bias))
        vectors = torch.eye(weight.shape[0], 3)
        for _ in range(PREVIEW_ITERATIONS):
            vectors = torch.linalg.qr(weight @ (weight.T @ vectors)).Q
        spread = 2 * (weight.T @ vectors).norm(dim=0).clamp(min=1e-12)
        return vectors / spread, bias @ vectors / spread

    @property
    def latent_rgb_factors(self) -> list[list[float]]:  # type: ignore[override]
        return self._preview[0].tolist()

    @property
    def latent_rgb_factors_bias(self) -> list[float]:  # type: ignore[override]
        return self._preview[1].tolist()


class HostedNextDiT(NextDiT):
    """The network as the host calls it: with what a sampling has prepared, or with plain tokens.

    `conditions` are Conditions when `modulation` comes with them, else Rows.
    `feature_timesteps` are whole numbers, 1000 sigma, whatever sampling object lies on the model.
    """

    @property
    def in_channels(self) -> int:
        """C, as stock nodes ask a network for it."""
        return self.config.in_channels

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = MappingProxyType({}),
        conditions: tuple[Any, ...] | None = None,
        modulation: Modulation | None = None,
        feature_timesteps: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        timesteps = timesteps if feature_timesteps is None else feature_timesteps
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, dict(transformer_options))
        if wrappers:  # Host: EasyCache adds to its input in place, here the sampler's own (0.3.75)
            x = x.clone()
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, conditions, modulation, transformer_options)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None,
        conditions: tuple[Any, ...] | None,
        modulation: Modulation | None,
        transformer_options: Mapping[str, Any],
    ) -> Tensor:
        # Parity: the reference's sampler cuts the timestep to a whole number.
        if conditions is None:
            assert context is not None  # `extra_conds` gives one of the two
            return super().forward(x, timesteps.trunc(), context)
        if modulation is None:  # some nodes call the network itself, past `apply_model`
            conditions = repeated(conditions)
            pooled = torch.cat([condition.pooled for condition in conditions])
            modulation = self.modulate(timesteps.trunc(), pooled)
        return self.velocity(x, modulation, conditions)


class ClipFeatureDiT(BaseModel):
    """What the host samples. Tokens are prepared once a sampling, modulations once a schedule."""

    diffusion_model: Any  # HostedNextDiT; the host's own type says UNetModel

    def __init__(self, config: FeatureModelConfig) -> None:
        network: Any = HostedNextDiT  # the host's own type says UNetModel
        super().__init__(config, ModelType.FLOW, torch.device("meta"), network)
        self.network_config = config.network
        self.model_sampling = FeatureSampling(config)
        self.latent_format = FeatureFormat(self.diffusion_model)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        refuse_options(kwargs, DIT)
        refuse_control(kwargs, DIT)
        refuse_noise(self.model_sampling, DIT, flow=True)
        tokens = self._checked_tokens(kwargs.get("cross_attn"), kwargs["noise"])
        # Weight hooks change the weights from step to step, training needs every step's graph.
        if kwargs.get("hooks") is not None or torch.is_grad_enabled():
            return super().extra_conds(**kwargs)
        dtype = self.manual_cast_dtype or self.get_dtype()
        context = one_token_if_identical(tokens.to(kwargs["device"], dtype))
        prepared = PreparedTokens(self.diffusion_model.prepare(context))
        return {"conditions": PreparedCond((Rows(prepared, len(context)),))}

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        *args: Any,
        transformer_options: dict[str, Any] = {},  # noqa: B006 - the host's own form
        conditions: tuple[Rows, ...] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        refuse_patches(transformer_options, DIT)
        kwargs["transformer_options"] = transformer_options
        kwargs["feature_timesteps"] = timesteps_of(t)
        if conditions is not None:
            kwargs["modulation"] = self._modulation(t, conditions, transformer_options)
            kwargs["conditions"] = repeated(conditions)
        return super().apply_model(x, t, *args, **kwargs)

    def _modulation(
        self, sigma: Tensor, conditions: tuple[Rows, ...], options: Mapping[str, Any]
    ) -> Modulation:
        """The step's modulations, looked up where the sampler keeps to its schedule."""

        def schedule() -> list[int]:
            sigmas = options.get("sample_sigmas")
            return [] if sigmas is None else self._timesteps(sigmas[:-1])

        timesteps, parts, start = self._timesteps(sigma), [], 0
        for tokens, batch in conditions:
            own = timesteps[start : start + batch]
            parts.append(tokens.modulation(self.diffusion_model, own, schedule))
            start += batch
        return Modulation(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _timesteps(self, sigmas: Tensor) -> list[int]:
        return timesteps_of(sigmas).tolist()

    def _checked_tokens(self, tokens: Tensor | None, noise: Tensor) -> Tensor:
        config = self.network_config
        if tokens is None:
            raise ValueError(
                "the conditioning holds no tokens, expected visual tokens. Take positive and "
                "negative from the node Visual Tokens."
            )
        check_visual_tokens(tokens, config)
        side, channels = config.input_size, config.in_channels
        refuse_concat(tokens.shape[1], side**2, DIT)  # a query for each place of the grid
        expected = f"expected CLIP features (B, {channels}, {side}, {side})"
        advice = "Make the latent with Empty CLIP Features, or take it from a CLIP Feature Sampler."
        if noise.ndim != 4 or noise.shape[1] != channels:
            raise ValueError(f"the latent is {tuple(noise.shape)}, {expected}. {advice}")
        if max(noise.shape[2:]) > LARGEST_GRID * side:
            raise ValueError(
                f"the latent is a grid of {noise.shape[2]} x {noise.shape[3]}, {expected}: its "
                f"size is not that of a picture. {advice}"
            )
        return tokens
