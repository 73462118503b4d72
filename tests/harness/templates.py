"""How the shipped workflows lie on the canvas: titled columns, and chains packed into one node.

Ids are those of workflows/api. What is not a box is a node of its own; a box takes its nodes along.
A column stands right of the one before it, so that links between neighbours cross nothing; one that
leaps over a column needs the node there to begin lower (`top`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A chain as one node, with only the widgets that matter on its face."""

    title: str
    nodes: str  # ids, separated by spaces
    face: str = ""  # id.widget, separated by spaces


@dataclass(frozen=True)
class Column:
    title: str  # of the group around it
    items: str  # ids, or numbers of boxes as #0, #1, ..., from above
    top: int = 0


@dataclass(frozen=True)
class Template:
    columns: tuple[Column, ...]
    boxes: tuple[Box, ...] = ()


IN_CONTEXT = Box("Edit in context", "4 7 8 9", "7.prompt 8.seed")


def edit(title: str) -> Template:
    flow = Box(title, "11 15 16 17 18 19 21", "11.instruction 18.strength 18.seed")
    columns = Column("1 · Your picture", "1 14 5"), Column("2 · The edit, two ways", "#0 #1")
    return Template((*columns, Column("3 · Results", "10 20")), (IN_CONTEXT, flow))


TEMPLATES = {
    "text_to_image": Template(
        (
            Column("1 · Model", "1"),
            Column("2 · Your prompt", "#0"),
            Column("3 · Picture", "6"),
        ),
        (Box("Text to picture", "2 3 4 5", "2.prompt 3.seed 5.aspect_ratio 5.scheduler 5.steps"),),
    ),
    "visual_question_answering": Template(
        (
            Column("1 · Your picture", "1 5"),
            Column("2 · Your questions", "#0 #1"),
            Column("3 · Answers", "8 10"),
        ),
        (
            Box("Describe", "7", "7.question 7.max_new_tokens"),
            Box("Ask", "9", "9.question 9.max_new_tokens"),
        ),
    ),
    "photo_description": Template(
        (
            Column("1 · Your photo", "1 5"),
            Column("2 · Presets", "#0 #1 #2"),
            Column("3 · Texts", "8 10 12"),
        ),
        tuple(
            Box(title, node, f"{node}.question")
            for title, node in (("Short", "7"), ("Detailed", "9"), ("Tags", "11"))
        ),
    ),
    "prompt_enhancement": Template(
        (
            Column("1 · Your prompt", "1 2"),
            Column("2 · Enhance", "3", top=330),
            Column("3 · Draw both", "#0 4"),
            Column("4 · Results", "9 13"),
        ),
        (Box("Draw both prompts", "5 6 7 8 10 11 12", "7.seed 11.seed"),),
    ),
    "image_variation": Template(
        (
            Column("1 · Models", "1 2"),
            Column("2 · Two pictures", "6 9", top=320),
            Column("3 · Seen anew, and mixed", "#0"),
            Column("4 · Results", "15 18"),
        ),
        (Box("Vary and mix", "12 13 14 16 17", "16.blend_factor 14.seed 17.seed"),),
    ),
    "stock_nodes": Template(
        (
            Column("1 · Model", "1"),
            Column("2 · CLIP features", "#0", top=420),
            Column("3 · First pass", "#1", top=230),
            Column("4 · Second pass", "#2 14"),
            Column("5 · Result", "18"),
        ),
        (
            Box("Features by KSampler", "2 3 4", "2.prompt 4.seed 4.sampler_name 4.scheduler"),
            Box(
                "Decode by stock nodes",
                "5 6 7 8 9 10 11 12 13",
                "8.noise_seed 9.cfg 7.width 7.height",
            ),
            Box("Enlarge and refine", "15 16 17", "15.width 15.height 16.denoise"),
        ),
    ),
    "reasoning_generation": Template(
        (
            Column("1 · Model", "1"),
            Column("2 · Think", "2", top=330),
            Column("3 · Draw", "#0 4"),
            Column("4 · Results", "9 13"),
        ),
        (Box("Draw what was thought", "5 6 7 8 10 11 12", "7.seed 11.seed"),),
    ),
    "image_editing": edit("Edit by feature flow"),
    "style_change": edit("Change by feature flow"),
    "masked_editing": Template(
        (
            Column("1 · Your picture", "1 10 5"),
            Column("2 · The edit", "#0 #1"),
            Column("3 · Results", "20 18 25"),
        ),
        (
            Box(
                "Edit and keep the rest",
                "4 7 11 12 13 14 15 16 17 19",
                "7.instruction 14.strength 14.seed 16.threshold",
            ),
            Box("Edit under your mask", "21 22 23 24", "21.prompt 22.seed"),
        ),
    ),
    "multi_turn_dialogue": Template(
        (
            Column("1 · Model", "1"),
            Column("2 · Your conversation", "2"),
            Column("3 · Pictures", "3"),
        )
    ),
    "interleaved_story": Template(
        (
            Column("1 · Model", "1"),
            Column("2 · Your story", "2"),
            Column("3 · Told", "5 4"),
        )
    ),
    "batch_captioning": Template(
        (
            Column("1 · Model", "1 5"),
            Column("2 · Your folder", "7"),
            Column("3 · Written", "8 6"),
        )
    ),
    "chain_with_other_models": Template(
        (
            Column("1 · Model", "1"),
            Column("2 · First pass", "#0", top=300),
            Column("3 · Second pass", "#1 6"),
            Column("4 · Result", "12"),
        ),
        (
            Box("Text to picture", "2 3 4 5", "2.prompt 3.seed"),
            Box("Refine", "7 8 9 10 11", "7.scale_by 10.denoise 10.seed"),
        ),
    ),
}
