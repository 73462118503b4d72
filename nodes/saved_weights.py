"""Load Saved BLIP3-U Weights: the way back for merged and patched models."""

from comfy_api.v0_0_2 import io

from .checks import CheckedNode
from .host.saved_weights import saved_files, saved_path, with_saved_weights


class LoadSavedWeights(CheckedNode):
    growing_lists = frozenset({"file"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_LoadSavedWeights",
            display_name="Load Saved BLIP3-U Weights",
            category="BLIP3-U/loaders",
            description="Puts weights that Save Model or Save Checkpoint wrote, of a merge say, "
            "back into the DiT or the decoder.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model or the decoder of Load BLIP3-U, of the checkpoint that the "
                    "saved one came from.",
                ),
                io.Combo.Input(
                    "file",
                    options=saved_files(),
                    tooltip="A safetensors file in diffusion_models or checkpoints, of the models "
                    "or the output folder.",
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="model", tooltip="With those weights.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file, **_) -> tuple:
        known = saved_path(file).stat()
        return file, known.st_mtime_ns, known.st_size

    @classmethod
    def execute(cls, model, file) -> io.NodeOutput:
        return io.NodeOutput(with_saved_weights(model, file))


NODES = (LoadSavedWeights,)
