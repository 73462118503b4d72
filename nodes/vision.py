"""Pictures become CLIP features: the EVA-CLIP tower."""

from comfy_api.v0_0_2 import io

from .checks import CheckedNode
from .host.checkpoint import WEIGHT_DTYPES
from .host.paths import find_vision_tower, vision_tower_fingerprint, vision_tower_names
from .host.vision import EvaClipVision, load_vision_tower

CATEGORY = "BLIP3-U/vision"


class LoadVisionTower(CheckedNode):
    growing_lists = frozenset({"vision_tower"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_LoadVisionTower",
            display_name="Load EVA-CLIP",
            category=CATEGORY,
            description="Loads the vision tower whose features BLIP3-U draws: from "
            "models/clip_vision, or from inside a checkpoint.",
            inputs=[
                io.Combo.Input(
                    "vision_tower",
                    options=vision_tower_names(),
                    tooltip="A folder or converted file in models/clip_vision, or a checkpoint "
                    "with its tower inside. It must be the tower that the checkpoint was trained "
                    "on.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="auto",
                    tooltip="How weights are kept. auto: what the host finds best. fp8 halves the "
                    "memory of bf16 and costs some precision.",
                ),
            ],
            outputs=[
                io.ClipVision.Output(
                    "clip_vision",
                    display_name="clip_vision",
                    tooltip="EVA-CLIP, for Image to CLIP Features and for stock CLIP Vision nodes.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, vision_tower) -> bool:
        return True  # newer hosts would only say that it is not in the list; execute says why

    @classmethod
    def fingerprint_inputs(cls, vision_tower, **_) -> tuple:
        """A tower that was mended is opened anew."""
        return vision_tower_fingerprint(vision_tower)

    @classmethod
    def execute(cls, vision_tower, weight_dtype) -> io.NodeOutput:
        place = find_vision_tower(vision_tower)
        return io.NodeOutput(load_vision_tower(place, WEIGHT_DTYPES[weight_dtype]))


class EncodeImage(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_EncodeImage",
            display_name="Image to CLIP Features",
            category=CATEGORY,
            description="The CLIP features of pictures, as the DiT draws them: decode them again, "
            "mix them, edit them, compare them.",
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="From Load EVA-CLIP."),
                io.Image.Input(
                    "image",
                    tooltip="A picture or a batch. The whole picture is resized to the tower's "
                    "square; crop it before if its shape must stay.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "features",
                    display_name="features",
                    tooltip="CLIP features (B, C, g, g) of the pictures.",
                ),
                io.Latent.Output(
                    "negative_features",
                    display_name="negative_features",
                    tooltip="Features of an empty picture: the reference's negative when a "
                    "picture is drawn again.",
                ),
            ],
        )

    @classmethod
    def execute(cls, clip_vision, image) -> io.NodeOutput:
        if not isinstance(clip_vision, EvaClipVision):
            raise ValueError(
                f"clip_vision is a {type(clip_vision).__name__}, expected the EVA-CLIP tower of "
                "BLIP3-U. Connect Load EVA-CLIP."
            )
        features, negative = clip_vision.clip_features(image)
        return io.NodeOutput({"samples": features}, {"samples": negative})


NODES = (LoadVisionTower, EncodeImage)
