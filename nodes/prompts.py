"""Prompts from Lines: several prompts on the canvas, each its own run of what follows."""

from comfy_api.v0_0_2 import io

from .checks import CheckedNode


class PromptLines(CheckedNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="BLIP3U_PromptLines",
            display_name="Prompts from Lines",
            category="BLIP3-U/language",
            description="Every line is a prompt: what follows runs once for each, in order.",
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a red circle\na blue star at night",
                    tooltip="One prompt a line; empty lines do not count.",
                )
            ],
            outputs=[
                io.String.Output(
                    "prompts",
                    display_name="prompts",
                    is_output_list=True,
                    tooltip="A list of prompts, for Visual Tokens, VQA, Reason or any text input.",
                )
            ],
        )

    @classmethod
    def execute(cls, text) -> io.NodeOutput:
        prompts = [line.strip() for line in text.splitlines() if line.strip()]
        if not prompts:
            raise ValueError(
                "Prompts from Lines: text is empty, expected one prompt a line. Write at least one."
            )
        return io.NodeOutput(prompts)


NODES = (PromptLines,)
