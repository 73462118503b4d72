"""What stock nodes ask of a network that has no use for it: an error, not a silent nothing."""

from collections.abc import Mapping
from typing import Any

from comfy.model_sampling import CONST

# Options of a conditioning that only other networks read, and the stock nodes that set each.
OTHERS_OPTIONS = {
    "unclip_conditioning": "unCLIPConditioning",
    "gligen": "GLIGENTextBoxApply",
    "guidance": "FluxGuidance",
    "reference_latents": "ReferenceLatent",
    "reference_latents_method": "FluxKontextMultiReferenceLatentMethod",
    "stable_cascade_prior": "StableCascade_StageB_Conditioning",
    "seconds_total": "ConditioningStableAudio",
    "frame_rate": "LTXVConditioning",
    "keyframe_idxs": "LTXVAddGuide",
    "time_dim_concat": "WanPhantomSubjectToVideo",
    "vace_frames": "WanVaceToVideo",
    "camera_conditions": "WanCameraImageToVideo",
    "pose_video_latent": "WanAnimateToVideo",
    "audio_embed": "WanSoundImageToVideo",
    "clip_vision_output": "WanImageToVideo and the like",
}
OTHERS_SETTINGS = {"rope_options": "ScaleROPE", "chroma_radiance_options": "ChromaRadianceOptions"}


def refuse_options(conditioning: Mapping[str, Any], network: str) -> None:
    """Raises: ValueError if a conditioning carries what this network would not read."""
    _refuse_carried(conditioning, OTHERS_OPTIONS, "conditioning", network)


def refuse_control(conditioning: Mapping[str, Any], network: str) -> None:
    """Raises: ValueError if a conditioning carries a ControlNet."""
    _refuse_carried(conditioning, {"control": "Apply ControlNet"}, "conditioning", network)


def _refuse_carried(
    carried: Mapping[str, Any], others: Mapping[str, str], carrier: str, network: str
) -> None:
    for option, node in others.items():
        if carried.get(option) is not None:
            raise ValueError(
                f"the {carrier} carries {option}, which {network} does not read; expected one "
                f"without. Take the node that adds it ({node}) out of the graph."
            )


def refuse_concat(count: int, most: int | None, network: str) -> None:
    """Raises: ValueError if a conditioning holds more tokens than one prompt or grid has."""
    if most is not None and count > most:
        raise ValueError(
            f"the conditioning holds {count} tokens, expected at most {most} for {network}: one "
            "set, as Visual Tokens and CLIP Features to Conditioning make it. Nothing sensible is "
            "drawn from a second set behind it: take ConditioningConcat out of the graph. To draw "
            "what two prompts say, use ConditioningCombine, or write one prompt."
        )


def refuse_noise(sampling: Any, network: str, flow: bool) -> None:
    """Raises: ValueError if a node laid the noise of another kind of model on this one.

    Args: flow: whether this network was trained on flow, in place of diffusion.
    """
    if isinstance(sampling, CONST) != flow:
        bases = ", ".join(kind.__name__ for kind in type(sampling).__bases__)
        ours, allowed = (
            ("flow", "ModelSamplingSD3, ModelSamplingAuraFlow and ModelSamplingFlux")
            if flow
            else ("diffusion", "ModelSamplingDiscrete and ModelSamplingContinuousEDM")
        )
        raise ValueError(
            f"a node set the sampling to {bases}, expected that of {ours}, on which {network} was "
            f"trained. Take that Model Sampling node out of the graph; {allowed} are of its kind."
        )


def refuse_patches(
    options: Mapping[str, Any], network: str, kinds: frozenset[str] | None = None
) -> None:
    """Raises: ValueError if a patch is for inner blocks that this network does not have.

    Args: kinds: the kinds of replaced blocks that are refused; None refuses every patch.
    """
    _refuse_carried(options, OTHERS_SETTINGS, "model", network)
    replaced = options.get("patches_replace") or {}
    named = [kind for kind, blocks in replaced.items() if blocks and (not kinds or kind in kinds)]
    if kinds is None:
        named += [kind for kind, patches in (options.get("patches") or {}).items() if patches]
    if named:
        raise ValueError(
            f"a node patches {', '.join(named)}, inner blocks that {network} does not have; it "
            "would do nothing. Take that node out of the graph (skip-layer guidance, PAG, FreeU, "
            "HyperTile and the like); guidance that works on predictions is fine."
        )
