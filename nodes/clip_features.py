"""CLIP features: sampled from visual tokens, prepared for stock samplers, shown as colours."""

from comfy_api.v0_0_2 import io

from ..blip3u_core.features.flow import GUIDANCE_SCALE, NUM_STEPS, linear_sigmas
from ..blip3u_core.features.grid import preview_features
from ..blip3u_core.seeds import LARGEST_SEED
from .checks import CheckedNode
from .host.feature_sampling import empty_features, sample_features
from .host.item_sampling import SAMPLERS

CATEGORY = "BLIP3-U/features"
MAX_BATCH = 4096
MAX_STEPS = 10_000

STEPS_TOOLTIP = "Steps from noise to features. 30 is the published setting; 15 is close to it."
DENOISE_TOOLTIP = (
    "1 starts from pure noise. Below 1 only the end of the way is walked: init features stay "
    "recognisable."
)


def _steps() -> io.Int.Input:
    return io.Int.Input("steps", default=NUM_STEPS, min=1, max=MAX_STEPS, tooltip=STEPS_TOOLTIP)


def _denoise() -> io.Float.Input:
    return io.Float.Input(
        "denoise", default=1.0, min=0.01, max=1.0, step=0.01, tooltip=DENOISE_TOOLTIP
    )


def _batch_size() -> io.Int.Input:
    return io.Int.Input(
        "batch_size",
        default=1,
        min=1,
        max=MAX_BATCH,
        tooltip="How many pictures. 1 also means: as many as the inputs describe.",
    )


class ClipFeatureSampler(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_ClipFeatureSampler",
            display_name="CLIP Feature Sampler",
            category=CATEGORY,
            description=(
                "Draws CLIP features from visual tokens. Picture i of a batch is the picture of a "
                "single run with seed + i. For one picture the same as KSampler with euler and "
                "simple; the features go to the Decoder."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Output `model` of Load BLIP3-U."),
                io.Conditioning.Input("positive", tooltip="Visual tokens of what to draw."),
                io.Conditioning.Input(
                    "negative", tooltip="Zeros, as Visual Tokens gives them, or what to avoid."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=True,
                    tooltip="Of the first picture; the next ones take seed + 1, seed + 2 ...",
                ),
                _steps(),
                io.Float.Input(
                    "cfg",
                    default=GUIDANCE_SCALE,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip=(
                        "Guidance scale: how much the description counts. 1 follows it alone in "
                        "half the time, 3 is the published setting."
                    ),
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=SAMPLERS,
                    default="euler",
                    tooltip=(
                        "euler is the published one. Samplers that draw fresh noise take the "
                        "pictures of a batch one by one, so that each keeps its seed."
                    ),
                ),
                _batch_size(),
                _denoise(),
                io.Latent.Input(
                    "init_features",
                    optional=True,
                    tooltip="CLIP features to start from, with denoise below 1.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "features", display_name="features", tooltip="CLIP features (B, C, g, g)."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        batch_size: int,
        denoise: float,
        init_features=None,
    ) -> io.NodeOutput:
        features = sample_features(
            model,
            positive,
            negative,
            seed,
            steps,
            cfg,
            sampler_name,
            batch_size,
            denoise,
            init_features,
        )
        return io.NodeOutput(features)


class EmptyFeatures(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_EmptyFeatures",
            display_name="Empty CLIP Features",
            category=CATEGORY,
            description="An empty LATENT of the right size for KSampler and other stock samplers.",
            inputs=[
                io.Model.Input("model", tooltip="Output `model` of Load BLIP3-U."),
                _batch_size(),
            ],
            outputs=[
                io.Latent.Output(
                    "features",
                    display_name="features",
                    tooltip="Zeros (B, C, g, g), where a stock sampler begins.",
                )
            ],
        )

    @classmethod
    def execute(cls, model, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput({"samples": empty_features(model, batch_size)})


class FeatureSigmas(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_FeatureSigmas",
            display_name="CLIP Feature Sigmas",
            category=CATEGORY,
            description=(
                "The published schedule, exact for any number of steps, for SamplerCustomAdvanced."
            ),
            inputs=[_steps(), _denoise()],
            outputs=[
                io.Sigmas.Output(
                    "sigmas",
                    display_name="sigmas",
                    tooltip="The schedule, from 1 down to 0, for SamplerCustomAdvanced.",
                )
            ],
        )

    @classmethod
    def execute(cls, steps: int, denoise: float) -> io.NodeOutput:
        return io.NodeOutput(linear_sigmas(steps, denoise))


class PreviewFeatures(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_PreviewFeatures",
            display_name="Preview CLIP Features",
            category=CATEGORY,
            description=(
                "Colours each place of the grid by the first three principal components: places "
                "of one colour hold the same content."
            ),
            inputs=[io.Latent.Input("features", tooltip="CLIP features.")],
            outputs=[
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="The grid as a small picture in colours.",
                )
            ],
        )

    @classmethod
    def execute(cls, features) -> io.NodeOutput:
        return io.NodeOutput(preview_features(features["samples"]))


NODES = (ClipFeatureSampler, EmptyFeatures, FeatureSigmas, PreviewFeatures)
