"""The negative of the decoder: CLIP features of an empty prompt, by the host's own sampling."""

import comfy.model_management as memory
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...blip3u_core.context import read_context
from ...blip3u_core.decoder import NEGATIVE_PROMPT
from ...blip3u_core.flow import item_noise, linear_sigmas
from ...blip3u_core.nextdit import NextDiT
from .llm import HostedLanguageModel


def negative_features(
    llm: HostedLanguageModel, model: ModelPatcher, seed: int, steps: int, guidance_scale: float
) -> Tensor:
    """Features (1, C, g, g) of the bare empty prompt, without any template.

    Raises: ValueError if `model` is not the DiT of a checkpoint.
    """
    dit = getattr(model.model, "diffusion_model", None)
    if not isinstance(dit, NextDiT):
        raise ValueError(
            f"the model input is a {type(model.model).__name__}, expected the DiT. Connect the "
            "second output of Load BLIP3-U (not its decoder)."
        )
    tokens = llm.visual_tokens([read_context(llm.model, NEGATIVE_PROMPT, for_drawing=True)])
    config = dit.config
    shape = (config.in_channels, config.input_size, config.input_size)
    return comfy.sample.sample_custom(
        model,
        item_noise(seed, 1, shape),
        guidance_scale,
        comfy.samplers.sampler_object("euler"),
        linear_sigmas(steps),
        [[tokens, {}]],
        [[torch.zeros_like(tokens), {}]],
        torch.zeros(1, *shape, device=memory.intermediate_device()),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
