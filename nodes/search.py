"""Words by which people look for our nodes; the canvas' search knows names and ids already."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from comfy_api.v0_0_2 import io

ALIASES: dict[str, tuple[str, ...]] = {
    "BLIP3U_LoadModel": ("BLIP3-o", "checkpoint loader", "multimodal model"),
    "BLIP3U_LoadLora": ("LoraLoader", "LyCORIS", "LoKr", "adapter"),
    "BLIP3U_LoadSavedWeights": ("load merged model", "UNETLoader", "ModelSave"),
    "BLIP3U_LoadVisionTower": ("vision encoder", "EVA-CLIP", "clip vision loader"),
    "BLIP3U_PromptLines": ("batch prompts", "prompt list", "split text", "multiline"),
    "BLIP3U_VisualTokens": ("prompt", "text encode", "text to image", "instruction edit"),
    "BLIP3U_ClipFeatureSampler": ("KSampler", "flow matching", "text to image"),
    "BLIP3U_EmptyFeatures": ("empty latent",),
    "BLIP3U_FeatureSigmas": ("scheduler", "flow schedule"),
    "BLIP3U_DecoderSigmas": ("scheduler", "noise schedule"),
    "BLIP3U_NegativeFeatures": ("negative prompt", "unconditional"),
    "BLIP3U_FeatureConditioning": ("SDXL conditioning", "unCLIP conditioning"),
    "BLIP3U_Decode": ("image to image", "inpaint", "draw picture", "unCLIP"),
    "BLIP3U_DeepCache": ("DeepCache", "speed up", "feature cache", "fast UNet"),
    "BLIP3U_VQA": ("ask about image", "caption image", "describe image", "LLM", "VLM"),
    "BLIP3U_CaptionFolder": ("batch caption", "dataset captions", "image to text"),
    "BLIP3U_Reason": ("think", "chain of thought", "prompt enhance"),
    "BLIP3U_EncodeImage": ("clip vision encode", "image variation", "embed image"),
    "BLIP3U_PreviewFeatures": ("preview latent", "PCA"),
    "BLIP3U_EditPlan": ("image edit", "rewrite prompt"),
    "BLIP3U_EditFeatures": ("image edit", "FlowEdit", "style change"),
    "BLIP3U_FeatureDifferenceMask": ("auto mask", "change mask"),
    "BLIP3U_ChatMessage": ("conversation", "system prompt"),
    "BLIP3U_ShowChat": ("conversation", "show text"),
    "BLIP3U_SaveChat": ("export conversation",),
    "BLIP3U_LoadChat": ("import conversation",),
    "BLIP3U_ShortenChat": ("trim conversation", "context length"),
    "BLIP3U_Interleave": ("story", "illustrated text"),
    "BLIP3U_Converse": ("chatbot", "assistant", "conversation"),
}


def with_aliases(define_schema: Callable[..., io.Schema]) -> Callable[..., io.Schema]:
    """Put its node's words into a schema, on hosts whose schema holds any (from 0.12 on)."""

    @wraps(define_schema)
    def define(cls: type[io.ComfyNode]) -> io.Schema:
        schema: Any = define_schema(cls)
        if hasattr(schema, "search_aliases"):
            schema.search_aliases = list(ALIASES[schema.node_id])
        return schema

    return define
