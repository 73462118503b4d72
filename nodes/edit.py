"""Edit features by description, and find where two pictures' features differ."""

from comfy_api.v0_0_2 import io

from ..blip3u_core.features.difference_mask import BLUR, THRESHOLD, difference_mask
from ..blip3u_core.features.edit import SOURCE_GUIDANCE, STRENGTH, TARGET_GUIDANCE
from ..blip3u_core.features.flow import NUM_STEPS
from ..blip3u_core.seeds import LARGEST_SEED
from .checks import CheckedNode
from .host.edit import edit_clip_features, one_batch
from .inputs import in_step

CATEGORY = "BLIP3-U/edit"
LARGEST_SIDE = 16384


def number(name: str, default: float, largest: float, step: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(
        name, default=default, min=0.0, max=largest, step=step, round=0.001, tooltip=tooltip
    )


def side(name: str, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=1024, min=1, max=LARGEST_SIDE, tooltip=tooltip)


class EditFeatures(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_EditFeatures",
            display_name="Edit CLIP Features",
            category=CATEGORY,
            description="Changes a picture's CLIP features by the difference of two descriptions "
            "(FlowEdit); what both descriptions share stays.",
            inputs=[*cls.sockets(), *cls.settings()],
            is_input_list=True,
            outputs=[
                io.Latent.Output(
                    "edited_features",
                    display_name="edited_features",
                    is_output_list=True,
                    tooltip="The features (B, C, g, g) after the edit, for the Decoder.",
                )
            ],
        )

    @classmethod
    def sockets(cls) -> list[io.Input]:
        return [
            io.Model.Input("model", tooltip="The DiT: the model output of Load BLIP3-U."),
            io.Latent.Input(
                "features", tooltip="Features of the picture to edit, from Image to CLIP Features."
            ),
            io.Conditioning.Input(
                "source",
                tooltip="Visual Tokens of what the picture shows: Edit Plan's source_caption.",
            ),
            io.Conditioning.Input(
                "target",
                tooltip="Visual Tokens of what it shall show: Edit Plan's target_caption. "
                "The same tokens as source ask for nothing, and the features stay.",
            ),
            io.Conditioning.Input("negative", tooltip="The negative output of Visual Tokens."),
        ]

    @classmethod
    def settings(cls) -> list[io.Input]:
        return [
            io.Int.Input(
                "seed",
                default=0,
                min=0,
                max=LARGEST_SEED,
                control_after_generate=True,
                tooltip="Item i of a batch is edited with seed + i, as if alone.",
            ),
            io.Int.Input(
                "steps",
                default=NUM_STEPS,
                min=1,
                max=1000,
                tooltip="Steps of the whole schedule; strength says how many of them run.",
            ),
            number(
                "cfg_source",
                SOURCE_GUIDANCE,
                100.0,
                0.1,
                "Guidance of the source description. Equal to cfg_target, what both share cancels.",
            ),
            number(
                "cfg_target",
                TARGET_GUIDANCE,
                100.0,
                0.1,
                "Guidance of the target description. Above cfg_source the rest changes too.",
            ),
            number(
                "strength",
                STRENGTH,
                1.0,
                0.05,
                "Share of the schedule that edits. 0 changes nothing, 0.7 a little, 0.9 what was "
                "asked; 1 takes the whole way.",
            ),
        ]

    @classmethod
    def runs_of(cls, lists: dict[str, list]) -> list[dict]:
        """As the host runs lists; but one batch meets as many descriptions in a single run."""
        runs = in_step(lists)
        latents = lists.get("features") or []
        if len(latents) == 1 and len(runs) == len(latents[0]["samples"]) > 1:
            joined = {name: one_batch(lists[name]) for name in ("source", "target", "negative")}
            return [{**runs[0], **joined}]
        return runs

    @classmethod
    def execute(
        cls,
        model,
        features,
        source,
        target,
        negative,
        seed,
        steps,
        cfg_source,
        cfg_target,
        strength,
    ) -> io.NodeOutput:
        scales = cfg_source, cfg_target
        edited = edit_clip_features(
            model, features, source, target, negative, seed, steps, scales, strength
        )
        return io.NodeOutput({"samples": edited})


class FeatureDifferenceMask(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_FeatureDifferenceMask",
            display_name="Feature Difference Mask",
            category=CATEGORY,
            description="Marks where two pictures' CLIP features differ, so that the decoder "
            "redraws only there.",
            inputs=[
                io.Latent.Input("features_a", tooltip="Features of the picture before the edit."),
                io.Latent.Input("features_b", tooltip="Features after the edit."),
                side(
                    "width",
                    "Width of the mask in pixels: that of the picture. "
                    "Samplers resize masks by themselves.",
                ),
                side("height", "Height of the mask in pixels: that of the picture."),
                number(
                    "threshold",
                    THRESHOLD,
                    4.0,
                    0.05,
                    "How far a token must move to count as changed, in lengths of a typical "
                    "token: 0 marks every difference, 1.4 is that of unrelated tokens.",
                ),
                number(
                    "blur",
                    BLUR,
                    4.0,
                    0.05,
                    "Width of the soft edge, in tokens: one is 1/8 of the picture's side with "
                    "the 8B, 1/3 with blip3u-tiny.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="1 where the features differ: there the Decoder shall redraw.",
                )
            ],
        )

    @classmethod
    def execute(cls, features_a, features_b, width, height, threshold, blur) -> io.NodeOutput:
        mask = difference_mask(
            features_a["samples"], features_b["samples"], width, height, threshold, blur
        )
        return io.NodeOutput(mask)


NODES = (EditFeatures, FeatureDifferenceMask)
