"""EVA-CLIP as the host's CLIP_VISION: our encoding, and the stock CLIPVisionEncode."""

from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management as memory
import torch
from comfy.clip_vision import Output
from torch import Tensor

from ...blip3u_core.features.eva_clip import EvaClip, EvaClipConfig, crop_pictures, stretch_pictures
from ...blip3u_core.weights.assign import assign_weights, shapes_of
from ...blip3u_core.weights.checkpoint import open_checkpoint, open_vision_tower
from ...blip3u_core.weights.stage import Stage
from .layers import layer_operations
from .memory import reported_peak
from .patchers import patcher_for
from .paths import VisionTowerPlace
from .placement import Placement, place_stage
from .progress import step_progress

BATCH = 8  # pictures in one pass, so that Cancel comes soon
COMPUTING = (torch.bfloat16, torch.float16, torch.float32)
ACTIVATIONS = 3  # the widest tensors alive at once: the MLP before and after GELU, and the rest


class EvaClipVision:
    """What the socket carries: a tower under the host's memory management."""

    def __init__(self, tower: EvaClip, placement: Placement) -> None:
        self.load_device = placement.device
        self.compute_dtype = placement.computing
        self.model = tower
        self.patcher = patcher_for(tower, placement)

    @property
    def config(self) -> EvaClipConfig:
        return self.model.config

    def clip_features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, H, W, 3) and the picture of zero pixels, as features (B and 1, C, g, g)."""
        pixels = stretch_pictures(image, self.config.image_size)
        both = torch.cat([pixels, self.model.null_pixels(pixels)])
        features = self._in_parts(both, self.model.clip_features)
        return features[:-1], features[-1:]

    def encode_image(self, image: Tensor, crop: bool = True) -> Output:
        """The stock node's call: patch features, and their mean as the embedding."""
        prepare = crop_pictures if crop else stretch_pictures
        patches = self._in_parts(prepare(image, self.config.image_size), self.model)
        output = Output()
        output["last_hidden_state"] = patches  # (B, N, C)
        output["penultimate_hidden_states"] = patches
        output["image_embeds"] = patches.mean(dim=1)
        output["mm_projected"] = None
        return output

    def _in_parts(self, pixels: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        tokens = min(len(pixels), BATCH) * (self.config.num_patches**2 + 1)
        size = tokens * self.config.mlp_width * memory.dtype_size(self.compute_dtype)
        memory.load_models_gpu([self.patcher], memory_required=ACTIVATIONS * size)
        parts = pixels.split(BATCH)
        on_step = step_progress()
        done = []
        with reported_peak("EVA-CLIP", self.patcher):
            for index, part in enumerate(parts):
                moved = part.to(self.load_device, self.compute_dtype)
                done.append(run(moved).to(memory.intermediate_device(), torch.float32))
                on_step(index + 1, len(parts))
        return torch.cat(done)


def load_vision_tower(place: VisionTowerPlace, weight_dtype: torch.dtype | None) -> EvaClipVision:
    """The tower of a folder, a file or a checkpoint; weights stay memory-mapped until used.

    Args: weight_dtype: how weights are kept; None leaves it to the host.
    Raises: FileNotFoundError or ValueError if there is none or it does not fit.
    """
    stage, config = _find(place)
    placement = place_stage(stage, weight_dtype, COMPUTING)
    sizes = EvaClipConfig.from_weights(config, stage.shapes())
    tower = EvaClip(sizes, device="meta", operations=layer_operations(placement))
    expected = shapes_of(EvaClip(sizes, device="meta"))
    assign_weights(tower, stage, placement.kept, expected, quantized=placement.quantized)
    return EvaClipVision(tower, placement)


def _find(place: VisionTowerPlace) -> tuple[Stage, Mapping[str, Any]]:
    """The tower's weights, and its JSON joined with what a checkpoint says of pooling."""
    if not place.inside_checkpoint:
        stage = open_vision_tower(place.path)
        return stage, stage.config
    checkpoint = open_checkpoint(place.path)
    stage = checkpoint.vision_tower
    if stage is None:
        raise FileNotFoundError(
            f"the checkpoint {checkpoint.name} has no EVA-CLIP tower inside. Put the published "
            "eva_clip_vision_tower into models/clip_vision and choose it there."
        )
    return stage, stage.joined_with(checkpoint.config)
