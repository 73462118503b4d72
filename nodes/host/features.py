"""The negative of the decoder: CLIP features of an empty prompt, by the host's own sampling."""

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

from ...blip3u_core.decoder.decoder import NEGATIVE_PROMPT
from ...blip3u_core.language.context import read_context
from .dit import feature_model
from .feature_sampling import sample_features
from .llm import HostedLanguageModel


def negative_features(
    llm: HostedLanguageModel, model: ModelPatcher, seed: int, steps: int, guidance_scale: float
) -> dict[str, Any]:
    """A LATENT (1, C, g, g) of the bare empty prompt, without any template.

    Raises: ValueError if `model` is not the DiT of a checkpoint.
    """
    feature_model(model)  # before the LLM works for nothing
    tokens = llm.visual_tokens([read_context(llm.network(), NEGATIVE_PROMPT, for_drawing=True)])
    positive, null = [[tokens, {}]], [[torch.zeros_like(tokens), {}]]
    return sample_features(
        model, positive, null, seed, steps, guidance_scale, "euler", 1, 1.0, None
    )
