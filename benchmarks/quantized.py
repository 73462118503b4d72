"""`python -m benchmarks.quantized`: what 8 and 4 bits save at the published sizes, and cost.

Gigabytes are counted from the shapes of the published checkpoints. Answers are blip3u-tiny's,
greedy, to questions about held-out pictures; logits are those of the next token after each of the
same prompts. Kinds that need the package comfy-kitchen are left out where it is missing.
"""

import argparse
import math
import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from blip3u_core.chat.dialogue import chat_context
from blip3u_core.convert import convert
from blip3u_core.language.context import Context
from blip3u_core.language.prefill import prefill
from blip3u_core.language.prompt import QUESTION_REQUEST
from blip3u_core.pipeline import Pipeline
from blip3u_core.weights.precision import fits_8_bits
from small_world.questions import QUESTIONS, ask
from small_world.world import render, sample_scene

from .meaning.model import MeaningModel, request_chat
from .speed.stages import ModelWork, manifest

TINY = Path(__file__).resolve().parents[1] / "models" / "blip3u-tiny"
BYTES = {"bf16": 2.0, "fp8_scaled": 1.0, "int8": 1.0, "nvfp4": 0.5 + 1 / 16}  # of a matrix' number
PARTS = {"llm": "LLM", "dit": "DiT", "unet": "decoder UNet"}


def gigabytes(stage: str, shapes: dict[str, tuple[int, ...]], kind: str) -> float:
    """Of a stage's weights, with its matrices in `kind` and the rest in bfloat16."""
    return (
        sum(
            math.prod(shape) * (BYTES[kind] if fits_8_bits(stage, name, len(shape)) else 2)
            for name, shape in shapes.items()
        )
        / 1e9
    )


def published_shapes(size: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes by stage, as in our files."""
    model = ModelWork(size)
    everything = model.shapes("")
    unet = manifest("decoder_unet")["keys"]
    tied = model.manifest["config"]["tie_word_embeddings"]
    return {
        "llm": {
            name: shape
            for name, shape in everything.items()
            if not name.startswith("model.dit.") and not (tied and name.startswith("lm_head"))
        },
        "dit": model.shapes("model.dit.model."),
        "unet": {name: tuple(shape) for name, (shape, _) in unet.items()},
    }


def memory_table() -> list[str]:
    lines = ["| weights GB | " + " | ".join(BYTES) + " |", "|---|" + "--:|" * len(BYTES)]
    for size in ("8b", "4b"):
        shapes = published_shapes(size)
        for stage, name in PARTS.items():
            if stage != "llm" and size == "4b":
                continue  # as the 8B's
            cells = [f"{gigabytes(stage, shapes[stage], kind):.2f}" for kind in BYTES]
            lines.append(f"| {size.upper()} {name} | " + " | ".join(cells) + " |")
    return lines


class Asked:
    """What one checkpoint answers, and the log probabilities of its first words."""

    def __init__(self, checkpoint: Path, count: int) -> None:
        rngs = [random.Random(f"quantized {i}") for i in range(count)]
        scenes = [sample_scene(rng, "held_out") for rng in rngs]
        names = list(QUESTIONS)
        kinds = [names[i % len(names)] for i in range(count)]
        questions = [ask(*each) for each in zip(rngs, scenes, kinds, strict=True)]
        chats = [
            request_chat(QUESTION_REQUEST, question.text, [render(scene)])
            for question, scene in zip(questions, scenes, strict=True)
        ]
        self.model = MeaningModel(Pipeline.from_checkpoint(checkpoint))
        self.answers = self.model.reply(chats)
        pairs = zip(self.answers, questions, strict=True)
        self.right = sum(answer == question.answer for answer, question in pairs)
        self.scores = next_token_scores(
            self.model, [chat_context(self.model.pipeline.llm, chat) for chat in chats]
        )


@torch.no_grad()
def next_token_scores(model: MeaningModel, contexts: Sequence[Context]) -> Tensor:
    """Log probabilities (B, V) of what follows each context."""
    llm = model.pipeline.llm
    hidden = [prefill(llm, [context]).hidden[:, -1] for context in contexts]
    return llm.logits(torch.cat(hidden)).log_softmax(-1)


def answer_table(count: int) -> list[str]:
    """As trained, then every kind that can be written here."""
    plain = Asked(TINY, count)
    lines = [
        "| kind | answers as before | right answers | KL of the next token, nats |",
        "|---|--:|--:|--:|",
        f"| as trained | {count} of {count} | {plain.right} of {count} | 0 |",
    ]
    for kind in BYTES:
        if kind == "bf16" or (kind == "nvfp4" and find_spec("comfy_kitchen") is None):
            continue
        with TemporaryDirectory() as folder:
            convert(TINY, Path(folder) / kind, kind)
            small = Asked(Path(folder) / kind, count)
        same = sum(a == b for a, b in zip(small.answers, plain.answers, strict=True))
        apart = (plain.scores.exp() * (plain.scores - small.scores)).sum(-1).mean()
        lines.append(
            f"| {kind} | {same} of {count} | {small.right} of {count} | {float(apart):.4f} |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.quantized", description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("\n".join(memory_table()), flush=True)
    print()
    print("\n".join(answer_table(options.questions)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
