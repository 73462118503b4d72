"""Load BLIP3-U LoRA: for the feature DiT or the decoder, by any trainer's names."""

from comfy_api.v0_0_2 import io, ui

from .checks import CheckedNode
from .host.lora import lora_files, lora_path, with_lora


class LoadLora(CheckedNode):
    growing_lists = frozenset({"lora_name"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_LoadLora",
            display_name="Load BLIP3-U LoRA",
            category="BLIP3-U/loaders",
            description="Adds a LoRA to the DiT or to the decoder, whichever trainer wrote it "
            "(PEFT, diffusers, kohya, LyCORIS, OneTrainer), and says how much of it applied.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model or the decoder of Load BLIP3-U, as trained on."
                ),
                io.Combo.Input(
                    "lora_name",
                    options=lora_files(),
                    tooltip="A safetensors file in models/loras.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.01,
                    tooltip="How strongly; 0 is without it, below 0 the opposite.",
                ),
            ],
            outputs=[io.Model.Output("model_out", display_name="model", tooltip="With the LoRA.")],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name, **_) -> tuple:
        file = lora_path(lora_name).stat()
        return lora_name, file.st_mtime_ns, file.st_size

    @classmethod
    def execute(cls, model, lora_name, strength) -> io.NodeOutput:
        patched, said = with_lora(model, lora_name, strength)
        return io.NodeOutput(patched, ui=ui.PreviewText(said))


NODES = (LoadLora,)
