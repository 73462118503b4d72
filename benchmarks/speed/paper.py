"""`python -m benchmarks.speed.paper`: what the published sizes would take on real cards, estimated.

Per operation, time = max(FLOPs / compute, bytes / bandwidth, 2 us); per stage, the sum of those
or, without CUDA graphs, launches * 6 us if that is longer: then the GPU waits for Python.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .answers import FEW_ROWS_REACHED, FewRowsAnswer, few_rows_matrices
from .answers import goal_lines as answer_goal_lines
from .cost import (
    BANDWIDTH_REACHED,
    COMPUTE_REACHED,
    GB,
    GPUS,
    LAUNCH_SECONDS,
    RESERVED,
    SHORTEST_KERNEL,
    Gpu,
    StageCost,
    duration,
)
from .counting import Work
from .sizes import KINDS, Shapes, gigabytes, published_shapes, small_numbers
from .stages import (
    ANSWER_TOKENS,
    DECODER_STEPS,
    DIT_STEPS,
    PICTURE_SIDE,
    PROMPT_TOKENS,
    DecoderWork,
    ModelWork,
)

PICTURE_GOALS = (0.6, 7.0, 13.0)  # seconds of the 8B, by card


@cache
def works(size: str) -> dict[str, Work]:
    """What the stages of "8b" or "4b" do, by a short name."""
    model, decoder = ModelWork(size), DecoderWork()
    return {
        "tokens": model.visual_tokens(),
        "answer": model.answer(),
        "plain": model.dit_plain(),
        "dit": model.dit_ours(),
        "unet": decoder.unet_step() * DECODER_STEPS,
        "outer 3": decoder.outer_step(3),
        "outer 4": decoder.outer_step(4),
        "vae": decoder.decode(),
    }


@dataclass(frozen=True)
class Form:
    """How the matrices of layers are kept. `moved`: bytes a number and pass, beside bf16's two."""

    name: str
    moved: float = 0.0


BF16 = Form("bf16")
# On use the host casts a copy in bf16: read 1, write 2, read 2.
FP8_STORAGE = Form("fp8 storage", 3.0)
INT8 = Form("int8", -1.0)  # multiplied as they are
# Cards before Blackwell make a copy in bf16 on use: read 0.56, write 2, read 2.
NVFP4 = Form("nvfp4", 2.56)
FORMS = (BF16, FP8_STORAGE, INT8, NVFP4)


def weight_bytes(stage: str, shapes: Shapes, form: Form) -> tuple[float, float]:
    """Of a stage's weights, and what every pass moves beside what it would in bf16."""
    small = small_numbers(stage, shapes)
    kept = gigabytes(stage, shapes, form.name if form.name in KINDS else "bf16") * GB
    return kept - (small if form is FP8_STORAGE else 0), form.moved * small


def stages(size: str, form: Form = BF16) -> dict[str, StageCost]:
    """All stages of "8b" or "4b", by a short name."""
    work = works(size)
    costs = {
        stage: weight_bytes(stage, shapes, form) for stage, shapes in published_shapes(size).items()
    }
    llm, dit, unet = costs["llm"], costs["dit"], costs["unet"]
    vae = 2 * DecoderWork().vae_parameters
    made = {
        "tokens": ("LLM: visual tokens", 1, *llm),
        "answer": (f"LLM: VQA, {ANSWER_TOKENS} answer tokens", ANSWER_TOKENS, *llm),
        "plain": (f"DiT, {DIT_STEPS} steps, straightforward", DIT_STEPS, *dit),
        "dit": (f"DiT, {DIT_STEPS} steps", DIT_STEPS, *dit),
        "unet": (f"decoder UNet, {DECODER_STEPS} steps", DECODER_STEPS, *unet),
        "vae": ("VAE, 1024 x 1024", 1, vae, 0.0),
    }
    return {
        key: StageCost(name, work[key], bytes_, passes, cast_bytes)
        for key, (name, passes, bytes_, cast_bytes) in made.items()
    }


def work_table(found: dict[str, StageCost]) -> Iterator[str]:
    yield "| stage | TFLOP | GB moved | launches | weights GB | activations GB |"
    yield "|---|--:|--:|--:|--:|--:|"
    for stage in found.values():
        work = stage.work
        yield (
            f"| {stage.name} | {work.flops / 1e12:.2f} | {work.num_bytes / GB:.0f} | "
            f"{work.launches} | {stage.weight_bytes / GB:.2f} | {work.peak_bytes / GB:.2f} |"
        )


def time_table(found: dict[str, StageCost]) -> Iterator[str]:
    yield "| stage | " + " | ".join(f"{card.name} | bound by" for card in GPUS) + " |"
    yield "|---|" + "--:|---|" * len(GPUS)
    for stage in found.values():
        cells = [f"{duration(stage.seconds(card))} | {stage.limit(card)}" for card in GPUS]
        yield f"| {stage.name} | " + " | ".join(cells) + " |"


def graph_table(found: dict[str, StageCost]) -> Iterator[str]:
    yield "| stage | " + " | ".join(f"{card.name}: eager | graphs" for card in GPUS) + " |"
    yield "|---|" + "--:|--:|" * len(GPUS)
    for stage in found.values():
        cells = [duration(stage.seconds(card, graphs)) for card in GPUS for graphs in (False, True)]
        yield f"| {stage.name} | " + " | ".join(cells) + " |"


Known = dict[tuple[str, Form], dict[str, StageCost]]


@dataclass(frozen=True)
class Choice:
    """One way to run a text-to-image graph."""

    name: str
    size: str = "8b"
    form: Form = BF16
    plain_dit: bool = False
    graphs: bool = False
    dit_steps: float = 1.0  # of 30
    decoder_steps: float = 1.0  # of 50, counting a step without guidance as half of one
    outer_steps: int = 0  # of Deep Cache, beside the full ones
    depth: int = 3

    def parts(self, known: Known) -> dict[str, StageCost]:
        found = known[self.size, self.form]
        parts = {
            "tokens": found["tokens"],
            "dit": found["plain" if self.plain_dit else "dit"],
            "unet": found["unet"],
            "vae": found["vae"],
        }
        if self.outer_steps:
            work = works(self.size)[f"outer {self.depth}"] * self.outer_steps
            # Its few weights beside the whole UNet's are neglected, and so is their cast.
            parts["outer"] = StageCost("decoder, outer blocks", work, 0.0, self.outer_steps)
        return parts

    def seconds(self, parts: dict[str, StageCost], card: Gpu, new_prompt: bool) -> float:
        """One picture; weights that leave for others are brought back over the link."""
        shares = {"dit": self.dit_steps, "unet": self.decoder_steps}
        used = [name for name in parts if new_prompt or name != "tokens"]
        total = sum(shares.get(name, 1.0) * parts[name].seconds(card, self.graphs) for name in used)
        weights = sum(parts[name].weight_bytes for name in used)
        room = card.memory - RESERVED
        moved = 0.0 if weights + parts["vae"].work.peak_bytes <= room else weights
        streamed = sum(parts[name].streamed_bytes(card) for name in used)
        return total + max(0.0, moved - streamed) / card.link


CHOICES = (
    Choice("bf16"),
    Choice("bf16, straightforward DiT", plain_dit=True),
    Choice("bf16, CUDA graphs", graphs=True),
    Choice("fp8 storage", form=FP8_STORAGE),
    Choice("bf16, 20 DiT steps", dit_steps=20 / 30),
    Choice("bf16, 25 decoder steps", decoder_steps=0.5),
    Choice("bf16, guidance in the first half of the decoder", decoder_steps=0.75),
    Choice("bf16, decoder fast: 14 steps", decoder_steps=0.28),
    Choice("bf16, decoder fast, CUDA graphs", graphs=True, decoder_steps=0.28),
    Choice("bf16, decoder fast, Deep Cache", decoder_steps=7 / 50, outer_steps=7),
    Choice("int8, decoder fast, Deep Cache", form=INT8, decoder_steps=7 / 50, outer_steps=7),
    Choice("nvfp4, decoder fast, Deep Cache", form=NVFP4, decoder_steps=7 / 50, outer_steps=7),
    Choice("bf16, decoder lean, cached", decoder_steps=5 / 50, outer_steps=8, depth=4),
    Choice("int8, decoder lean, cached", form=INT8, decoder_steps=5 / 50, outer_steps=8, depth=4),
    Choice("4B, bf16", size="4b"),
    Choice("4B, fp8 storage", size="4b", form=FP8_STORAGE),
)


def choice_table(known: Known) -> Iterator[str]:
    names = " | ".join(f"{card.name}: new prompt | new seed" for card in GPUS)
    yield f"| text to image, 1024 x 1024 | largest stage GB | {names} |"
    yield "|---|--:|" + "--:|--:|" * len(GPUS)
    for choice in CHOICES:
        parts = choice.parts(known)
        largest = max(stage.memory for stage in parts.values()) / GB
        times = [
            duration(choice.seconds(parts, card, new)) for card in GPUS for new in (True, False)
        ]
        yield f"| {choice.name} | {largest:.1f} | " + " | ".join(times) + " |"


def goal_lines(known: Known) -> Iterator[str]:
    """For each card the first choice that draws a picture of a new prompt in time."""
    for card, goal in zip(GPUS, PICTURE_GOALS, strict=True):
        times = {choice.name: choice.seconds(choice.parts(known), card, True) for choice in CHOICES}
        fits = [name for name, seconds in times.items() if seconds <= goal]
        least = min(times, key=lambda name: times[name])
        said = f"reached first by {fits[0]} ({duration(times[fits[0]])})" if fits else "MISSED"
        yield f"- {card.name}: goal {goal} s, {said}; least {duration(times[least])} by {least}"


def assumptions() -> Iterator[str]:
    """What the estimates rest on, to be printed beside them."""
    for card in GPUS:
        yield (
            f"- {card.name}: {card.flops / 1e12:.0f} TFLOP/s in dense bf16 with float32 sums and "
            f"{card.bandwidth / GB:.0f} GB/s by its data sheet, {card.link / GB:.0f} GB/s over PCIe"
        )
    yield (
        f"- {COMPUTE_REACHED:.0%} of those FLOP/s and {BANDWIDTH_REACHED:.0%} of the bandwidth are "
        f"reached in every operation, and none takes less than {SHORTEST_KERNEL * 1e6:.0f} us: "
        "taken for granted, not measured; `python -m benchmarks.gpu` measures them on your card"
    )
    yield (
        f"- eager PyTorch issues an operation every {LAUNCH_SECONDS * 1e6:.0f} us; nothing waits "
        "for the card in between; CUDA graphs take no time to issue"
    )
    yield f"- {RESERVED / GB:.1f} GB of a card are taken; what does not fit crosses PCIe every pass"
    yield (
        f"- one picture of {PICTURE_SIDE} x {PICTURE_SIDE}, guidance in every step: a prompt of "
        f"{PROMPT_TOKENS} tokens, {DIT_STEPS} DiT steps, {DECODER_STEPS} decoder steps unless "
        "said; each operation as PyTorch has it, none fused but attention and RMSNorm"
    )
    yield (
        "- int8 products take the time of bf16 ones, only their weights are fewer bytes; nvfp4 and "
        "fp8 are cast to bf16 on use, as on cards before Blackwell"
    )
    yield (
        "- but for an answer's tokens after the first: with Triton they read int8 and nvfp4 where "
        f"they lie (0.5625 bytes a number with its scales), at {FEW_ROWS_REACHED:.0%} of the "
        "bandwidth, which no card has shown yet"
    )
    yield "- loading from disk, text of the canvas, saving of the picture: nothing"


def answers(known: Known, size: str) -> dict[str, StageCost]:
    """Ways to answer about a picture, by what a user would call them."""
    shapes, found = published_shapes(size)["llm"], {}
    for form in FORMS:
        stage = known[size, form]["answer"]
        if form not in (INT8, NVFP4):
            found[form.name] = stage
            continue
        matrices = few_rows_matrices(shapes, form.name)
        found[form.name] = FewRowsAnswer(**vars(stage), matrices=matrices)
        found[f"{form.name}, without Triton"] = stage
    return found


def answer_table(known: Known) -> Iterator[str]:
    yield "| answer of 64 tokens | LLM GB | " + " | ".join(card.name for card in GPUS) + " |"
    yield "|---|--:|" + "--:|" * len(GPUS)
    for size in ("8b", "4b"):
        for way, stage in answers(known, size).items():
            times = " | ".join(duration(stage.seconds(card)) for card in GPUS)
            yield f"| {size.upper()}, {way} | {stage.memory / GB:.1f} | {times} |"


def main() -> None:
    print("### Assumptions: no card was at hand, all figures are reckoned\n")
    print("\n".join(assumptions()))
    known = {(size, form): stages(size, form) for size in ("8b", "4b") for form in FORMS}
    for size in ("8b", "4b"):
        print(f"\n### {size.upper()}: work, one picture, bf16\n")
        print("\n".join(work_table(known[size, BF16])))
        print(f"\n### {size.upper()}: expected time in bf16, eager\n")
        print("\n".join(time_table(known[size, BF16])))
    print("\n### What CUDA graphs buy, 4B (all of it in bf16)\n")
    print("\n".join(graph_table(known["4b", BF16])))
    print("\n### What each option buys\n")
    print("\n".join(choice_table(known)))
    print("\n### Goals of a picture of the 8B, new prompt\n")
    print("\n".join(goal_lines(known)))
    print("\n### Answers about a picture\n")
    print("\n".join(answer_table(known)))
    print("\n### Goals of an answer of the 8B\n")
    print("\n".join(answer_goal_lines(answers(known, "8b"))))


if __name__ == "__main__":
    main()
