"""`python -m benchmarks.quantized`: what 8 and 4 bits save at the published sizes, and cost.

Gigabytes are those that the converter would write, counted from the published checkpoints' shapes.
Answers are blip3u-tiny's, greedy, to questions about held-out pictures; its output layer stands
beside its token table, as the 8B's does, so that both are quantised. Logits are those of the next
token: after each of these prompts, and at every place of the golden set's prompts, whose random
weights forgive less than trained ones.

With `--host`, in a ComfyUI instead (`COMFYUI_PATH`, else `.host/ComfyUI`), by its own layouts and
kernels: what each stage's output loses, and answers that stay the same.
"""

import argparse
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blip3u_core.chat.dialogue import chat_context
from blip3u_core.convert import convert
from blip3u_core.language.context import Context, read_context
from blip3u_core.language.prefill import prefill
from blip3u_core.language.prompt import QUESTION_REQUEST
from blip3u_core.pipeline import Pipeline
from blip3u_core.weights.quantized import FORMATS
from small_world.questions import QUESTIONS, ask
from small_world.world import render, sample_scene

from .meaning.model import MeaningModel, request_chat
from .speed.models import RANDOM_TINY
from .speed.quantized_stages import table as host_table
from .speed.sizes import KINDS, gigabytes, published_shapes

TINY = Path(__file__).resolve().parents[1] / "models" / "blip3u-tiny"
PARTS = {"llm": "LLM", "dit": "DiT", "unet": "decoder UNet"}


def memory_table() -> list[str]:
    lines = ["| weights GB | " + " | ".join(KINDS) + " |", "|---|" + "--:|" * len(KINDS)]
    for size in ("8b", "4b"):
        shapes = published_shapes(size)
        for stage, name in PARTS.items():
            if stage != "llm" and size == "4b":
                continue  # as the 8B's
            cells = [f"{gigabytes(stage, shapes[stage], kind):.2f}" for kind in KINDS]
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


@torch.no_grad()
def golden_scores(checkpoint: Path) -> Tensor:
    """Log probabilities (places, V) of what follows every token of the golden set's prompts."""
    llm = Pipeline.from_checkpoint(checkpoint).llm
    cases = json.loads((RANDOM_TINY.parent / "goldens" / "cases.json").read_text("utf-8"))
    texts = [case["text"] for case in cases.values() if "text" in case]
    texts = [text for text in texts if "<|image_pad|>" not in text]
    contexts = [read_context(llm, text, [], for_drawing=False) for text in texts]
    hidden = [prefill(llm, [context]).hidden[0] for context in contexts]
    return llm.logits(torch.cat(hidden)).log_softmax(-1)


def divergence(exact: Tensor, found: Tensor) -> float:
    """Mean KL divergence, in nats, of log probabilities (..., V)."""
    return float((exact.exp() * (exact - found)).sum(-1).mean())


def with_own_head(source: Path, target: Path) -> Path:
    """A copy of a checkpoint whose token table is its output layer, with the two apart."""
    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, target / "model.safetensors")
    config = json.loads((target / "config.json").read_text("utf-8"))
    config["tie_word_embeddings"] = False
    (target / "config.json").write_text(json.dumps(config), "utf-8")
    return target


def answer_table(count: int) -> list[str]:
    """As trained, then every kind."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        tiny = with_own_head(TINY, folder / "tiny")
        plain, golden = Asked(tiny, count), golden_scores(RANDOM_TINY)
        lines = [
            "| kind | answers as before | right answers | KL, nats | KL, golden |",
            "|---|--:|--:|--:|--:|",
            f"| as trained | {count} of {count} | {plain.right} of {count} | 0 | 0 |",
        ]
        for kind in FORMATS:
            convert(tiny, folder / kind, kind)
            convert(RANDOM_TINY, folder / f"golden {kind}", kind)
            small = Asked(folder / kind, count)
            same = sum(a == b for a, b in zip(small.answers, plain.answers, strict=True))
            apart = divergence(plain.scores, small.scores)
            random_apart = divergence(golden, golden_scores(folder / f"golden {kind}"))
            lines.append(
                f"| `{kind}` | {same} of {count} | {small.right} of {count} | {apart:.4f} | "
                f"{random_apart:.4f} |"
            )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.quantized", description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--host", action="store_true", help="every stage, in a ComfyUI")
    options = parser.parse_args(arguments)
    if options.host:
        print("\n".join(host_table(options.questions)))
        return 0
    torch.set_num_threads(1)
    print("\n".join(memory_table()), flush=True)
    print()
    print("\n".join(answer_table(options.questions)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
