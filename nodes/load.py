"""Load BLIP3-U: a checkpoint's stages, each under the host's memory management."""

from comfy_api.v0_0_2 import io

from .checks import CheckedNode
from .host.checkpoint import WEIGHT_DTYPES, load_checkpoint
from .host.paths import checkpoint_fingerprint, checkpoint_names
from .types import BLIP3U_LLM


class LoadModel(CheckedNode):
    growing_lists = frozenset({"checkpoint"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_LoadModel",
            display_name="Load BLIP3-U",
            category="BLIP3-U/loaders",
            description=(
                "Opens a checkpoint from models/blip3u. Weights stay on disk until a node uses "
                "them; a part that is missing stops only the node that needs it."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip=(
                        "A folder under models/blip3u, as published; <org>/<name> and a hub's "
                        "cache are found too. blip3u-tiny is built in: a small world to try every "
                        "workflow."
                    ),
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="auto",
                    tooltip=(
                        "How weights are kept. auto: as the host prefers. fp8_e4m3fn: half the "
                        "memory of bf16, slightly different pictures."
                    ),
                ),
            ],
            outputs=[
                BLIP3U_LLM.Output(
                    "llm", display_name="llm", tooltip="Writes visual tokens and answers."
                ),
                io.Model.Output(
                    "model", display_name="model", tooltip="Draws CLIP features from visual tokens."
                ),
                io.Model.Output(
                    "decoder", display_name="decoder", tooltip="Draws latents from CLIP features."
                ),
                io.Vae.Output("vae", display_name="vae", tooltip="Turns latents into pictures."),
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint) -> bool:
        return True  # newer hosts would only say that it is not in the list; execute says why

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, **_) -> tuple:
        """A folder that was mended is opened anew."""
        return checkpoint_fingerprint(checkpoint)

    @classmethod
    def execute(cls, checkpoint: str, weight_dtype: str) -> io.NodeOutput:
        return io.NodeOutput(*load_checkpoint(checkpoint, weight_dtype))


NODES = (LoadModel,)
