"""CLIP features become pictures: the decoder's own steps, conditioning, and all in one node."""

from comfy_api.v0_0_2 import io

from ..blip3u_core.decoder.sizes import RATIOS
from ..blip3u_core.seeds import LARGEST_SEED
from .checks import CheckedNode
from .host.canvas import Canvas
from .host.decoder import decoder_of
from .host.drawing import (
    OWN_SCHEDULE,
    SCHEDULERS,
    Drawing,
    PictureSizes,
    condition_pair,
    draw_pictures,
    sides_of_ratio,
)
from .host.features import negative_features
from .host.item_sampling import SAMPLERS
from .inputs import llm_input

CATEGORY = "BLIP3-U/decoder"
MAX_SIZE = 16384
FREE_SIZE = "width and height"


def decoder_input() -> io.Input:
    return io.Model.Input(
        "decoder", tooltip="The diffusion decoder: the decoder output of Load BLIP3-U."
    )


def steps_input() -> io.Input:
    return io.Int.Input(
        "steps",
        default=50,
        min=1,
        max=1000,
        tooltip="Euler steps of the decoder. 50 is the reference's number; 20 to 30 look almost "
        "the same.",
    )


def denoise_input(tooltip: str) -> io.Input:
    return io.Float.Input(
        "denoise", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001, tooltip=tooltip
    )


def sampling_inputs(sampler: str = "sampler_name", scheduler: str = "scheduler") -> list[io.Input]:
    """How the decoder's flow is solved, under these names; the defaults are the reference's."""
    return [
        io.Combo.Input(
            sampler,
            options=SAMPLERS,
            default="euler",
            optional=True,
            tooltip="euler is the reference's. With karras and 14 steps it lies "
            "nearer to the exact solution than the reference's 50 steps.",
        ),
        io.Combo.Input(
            scheduler,
            options=SCHEDULERS,
            default=OWN_SCHEDULE,
            optional=True,
            tooltip="Noise levels of the steps. checkpoint: its own, as in the reference; "
            "karras needs a quarter of the steps.",
        ),
    ]


def ratio_input() -> io.Input:
    return io.Combo.Input(
        "aspect_ratio",
        options=[FREE_SIZE, *RATIOS],
        default=FREE_SIZE,
        optional=True,
        tooltip="Width to height, at the number of pixels that the checkpoint was "
        "trained on; width and height then stay 0.",
    )


def features_input() -> io.Input:
    return io.Latent.Input(
        "features",
        tooltip="CLIP features of the pictures to draw, from the CLIP Feature Sampler or Image to "
        "CLIP Features. Every item of a batch becomes a picture.",
    )


def negative_features_input() -> io.Input:
    return io.Latent.Input(
        "negative_features",
        optional=True,
        tooltip="What guidance leads away from: Negative CLIP Features for a prompt, the second "
        "output of Image to CLIP Features for a picture. Zeros if nothing is connected.",
    )


def size_input(name: str, default: int, tooltip: str, min: int = 0, step: int = 8) -> io.Input:
    return io.Int.Input(name, default=default, min=min, max=MAX_SIZE, step=step, tooltip=tooltip)


class DecoderSigmas(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_DecoderSigmas",
            display_name="Decoder Sigmas",
            category=CATEGORY,
            description="The decoder's own noise levels, exactly as the checkpoint's scheduler has "
            "them, for SamplerCustomAdvanced and the like.",
            inputs=[
                decoder_input(),
                steps_input(),
                denoise_input(
                    "1 draws anew. Below 1 only the last part of the way is gone, from the latent "
                    "that the sampler is given."
                ),
            ],
            outputs=[
                io.Sigmas.Output(
                    "sigmas",
                    display_name="sigmas",
                    tooltip="The decoder's own schedule, for SamplerCustomAdvanced.",
                )
            ],
        )

    @classmethod
    def execute(cls, decoder, steps, denoise) -> io.NodeOutput:
        return io.NodeOutput(decoder_of(decoder).schedule.sigmas(steps, denoise))


class NegativeFeatures(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_NegativeFeatures",
            display_name="Negative CLIP Features",
            category=CATEGORY,
            description="Features of an empty prompt: what the decoder's guidance leads away from. "
            "They depend on no prompt, so one set serves all pictures of a checkpoint; keep the "
            "seed fixed and they are made once.",
            inputs=[
                llm_input(),
                io.Model.Input("model", tooltip="The DiT: the model output of Load BLIP3-U."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    tooltip="Noise of these features. Leave it fixed: another one hardly changes a "
                    "picture, but costs a sampling.",
                ),
                io.Int.Input(
                    "steps", default=30, min=1, max=1000, tooltip="Flow steps of the DiT."
                ),
                io.Float.Input(
                    "cfg",
                    default=3.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance of the DiT; 3 as for the prompt.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "negative_features",
                    display_name="negative_features",
                    tooltip="Features of an empty prompt, which the Decoder guides away from.",
                ),
            ],
        )

    @classmethod
    def execute(cls, llm, model, seed, steps, cfg) -> io.NodeOutput:
        return io.NodeOutput(negative_features(llm, model, seed, steps, cfg))


class FeatureConditioning(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_FeatureConditioning",
            display_name="CLIP Features to Conditioning",
            category=CATEGORY,
            description="CLIP features as conditioning of the decoder for any sampler: their "
            "tokens, their mean, and the sizes that SDXL wants to know.",
            inputs=[
                features_input(),
                negative_features_input(),
                size_input("width", 1024, "Width of the picture to draw, in pixels.", min=8),
                size_input("height", 1024, "Height of the picture to draw, in pixels.", min=8),
                size_input("crop_top", 0, "Rows cut off above; 0 in the reference.", step=1),
                size_input("crop_left", 0, "Columns cut off at the left; 0 always.", step=1),
                size_input("original_width", 1024, "Width before a crop; 1024 always.", min=8),
                size_input("original_height", 1024, "Height before a crop; 1024 always.", min=8),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="The features as the decoder's condition, for stock samplers.",
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="What to guide away from: the negative features, or zeros.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        features,
        width,
        height,
        crop_top,
        crop_left,
        original_width,
        original_height,
        negative_features=None,
    ) -> io.NodeOutput:
        sizes = PictureSizes(
            (height, width), (original_height, original_width), (crop_top, crop_left)
        )
        return io.NodeOutput(
            *condition_pair(features["samples"], _samples(negative_features), sizes)
        )


class Decode(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_Decode",
            display_name="Decoder",
            category=CATEGORY,
            description="Draws the pictures of CLIP features: the same as CLIP Features to "
            "Conditioning, SamplerCustomAdvanced with Decoder Sigmas, and VAE Decode.",
            inputs=[
                decoder_input(),
                io.Vae.Input("vae", tooltip="The vae output of Load BLIP3-U."),
                features_input(),
                negative_features_input(),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=True,
                    tooltip="Picture i of a batch is the picture of a single run with seed + i.",
                ),
                steps_input(),
                io.Float.Input(
                    "cfg",
                    default=3.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance: how strongly the features are followed. 1 is twice as fast "
                    "and softer, 3 as in the reference, above 6 colours burn.",
                ),
                size_input("width", 0, "Pixels; 0 is the checkpoint's own (1024 for the 8B)."),
                size_input("height", 0, "Pixels; 0 is the checkpoint's own (1024 for the 8B)."),
                io.Image.Input(
                    "source_image",
                    optional=True,
                    tooltip="Begin from this picture (with denoise below 1), or keep it outside "
                    "of the mask. Its own size is used where width and height are 0.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White is redrawn, black stays as in source_image.",
                ),
                denoise_input(
                    "With a source_image: 1 forgets it (outside of the mask it stays), 0.4 to 0.7 "
                    "keep its layout, 0 gives it back."
                ),
                *sampling_inputs(),
                ratio_input(),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    display_name="images",
                    tooltip="Pictures (B, H, W, 3), one for each set of features.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        decoder,
        vae,
        features,
        seed,
        steps,
        cfg,
        width,
        height,
        denoise,
        sampler_name="euler",
        scheduler=OWN_SCHEDULE,
        aspect_ratio=FREE_SIZE,
        negative_features=None,
        source_image=None,
        mask=None,
    ) -> io.NodeOutput:
        if aspect_ratio != FREE_SIZE:
            width, height = sides_of_ratio(decoder, aspect_ratio, width, height)
        images = draw_pictures(
            decoder,
            vae,
            features["samples"],
            _samples(negative_features),
            Drawing(seed, steps, cfg, denoise, sampler_name, scheduler),
            Canvas(width, height, source_image, mask),
        )
        return io.NodeOutput(images)


def _samples(latent):
    return None if latent is None else latent["samples"]


NODES = (DecoderSigmas, NegativeFeatures, FeatureConditioning, Decode)
