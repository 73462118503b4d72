"""Deep Cache: fewer of a UNet's blocks in most steps, and no cross-attention in the late ones."""

from comfy_api.v0_0_2 import io

from .checks import CheckedNode
from .host.deep_cache import DeepCacheSettings, with_deep_cache


def _percent(name: str, default: float, tooltip: str, optional: bool = False) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        round=0.001,
        optional=optional,
        tooltip=tooltip,
    )


class DeepCache(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_DeepCache",
            display_name="Deep Cache",
            category="BLIP3-U/decoder",
            description="Reuses a UNet's inner features in several steps (DeepCache), on our "
            "decoder or any SD or SDXL model: faster, for a little of the fine detail.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The decoder of Load BLIP3-U, or another SD or SDXL model."
                ),
                io.Int.Input(
                    "interval",
                    default=2,
                    min=1,
                    max=100,
                    tooltip="Every so many evaluations one is full, and the inner features of it "
                    "serve the others. 1 reuses none.",
                ),
                io.Int.Input(
                    "depth",
                    default=3,
                    min=1,
                    max=100,
                    tooltip="Blocks at either end of the UNet that work in every evaluation. More "
                    "keep more detail and save less; 3 are the highest resolution of SDXL.",
                ),
                _percent(
                    "start_percent",
                    0.0,
                    "Nothing is reused before this part of the noise schedule.",
                ),
                _percent(
                    "end_percent", 1.0, "Nothing is reused after this part of the noise schedule."
                ),
                _percent(
                    "cross_attention_end_percent",
                    1.0,
                    "After this part of the noise schedule cross-attention is no longer computed: "
                    "what it gave last serves (T-GATE). 1 computes it always.",
                    optional=True,
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model_out", display_name="model", tooltip="The model with the reuse."
                )
            ],
        )

    @classmethod
    def execute(
        cls, model, interval, depth, start_percent, end_percent, cross_attention_end_percent=1.0
    ) -> io.NodeOutput:
        settings = DeepCacheSettings(
            interval, depth, start_percent, end_percent, cross_attention_end_percent
        )
        return io.NodeOutput(with_deep_cache(model, settings))


NODES = (DeepCache,)
