"""What every stage holds at most beside its weights, against the room that the host is asked for.

At the published sizes, in bfloat16: our networks run on torch's meta device, where every tensor
that is alive is counted; the host's own accounting says how much room it keeps free for the stage.
More than that, and a card runs out of memory; much less, and weights are sent away for nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace

from .in_host import call_in_host, load_pack, pack_module
from .measure import Row
from .stages import (
    ANSWER_TOKENS,
    DTYPE,
    PICTURE_GRID,
    PICTURE_SIDE,
    PROMPT_TOKENS,
    Drawing,
    Painting,
)

GOAL = 1.0
LONG_DIALOGUE = 4000  # tokens
BATCH = 8


@dataclass(frozen=True)
class Stage:
    """One use of a stage: its weights, its activations at most, and the room asked for, bytes."""

    name: str
    weights: float
    activations: float
    room: float


def rows(minimal: bool) -> Iterator[Row]:
    for values in call_in_host("memory", "measure_in_host", minimal):
        stage = Stage(*values)
        yield Row(
            f"{stage.name}: held beside the weights / room asked for",
            stage.activations / stage.room,
            GOAL,
            f"{megabytes(stage.activations)} / {megabytes(stage.room)}; "
            f"weights {stage.weights / 1e9:.2f} GB",
        )


def megabytes(number: float) -> str:
    return f"{number / 1e6:.0f} MB"


def measure_in_host(minimal: bool) -> list[tuple]:
    """Inside the host: the stages of the published sizes; the shorter ones if `minimal`."""
    load_pack()
    # Its formulas for GPUs: the attention does not keep its scores.
    import_module("comfy.model_management").pytorch_attention_flash_attention = lambda: True
    drawing, painting = Drawing("8b"), Painting()
    stages = [read(drawing, 1, PROMPT_TOKENS), sample(drawing, 1)]
    if not minimal:
        stages += [look(drawing, 1), look(drawing, BATCH), read(drawing, 1, LONG_DIALOGUE)]
        stages += [sample(drawing, BATCH)]
        stages += [decode_step(painting, batch) for batch in (1, 4)]
        stages += [to_pixels(painting)]
    return [tuple(vars(stage).values()) for stage in stages]


# ---------------------------------------------------------------- language model


@dataclass(frozen=True)
class Length:
    """As much of a context as the room for it depends on."""

    length: int
    pictures: tuple = ()

    def __len__(self) -> int:
        return self.length


def reading_room(drawing: Drawing, contexts: list[Length], new_tokens: int) -> float:
    from blip3u_core.language.config import VisionConfig

    llm = SimpleNamespace(
        config=drawing.text_config,
        image_config=SimpleNamespace(vision=VisionConfig.from_dict(drawing.manifest["config"])),
        num_queries=drawing.dit_grid**2,
        dtype=DTYPE,
    )
    return pack_module("nodes.host.memory").reading_bytes(llm, contexts, new_tokens)


def read(drawing: Drawing, batch: int, tokens: int) -> Stage:
    """Visual tokens of a context so long; the cache of a dialogue counts."""
    work = drawing.read(tokens + drawing.dit_grid**2, logits=True, batch=batch)
    room = reading_room(drawing, [Length(tokens)] * batch, 0)
    weights = 2 * drawing.llm_parameters
    return Stage(f"8B visual tokens, {tokens} tokens", weights, work.peak_bytes, room)


def look(drawing: Drawing, batch: int) -> Stage:
    """Answers about pictures of 448 x 448, one each."""
    patches = PICTURE_GRID[0] * PICTURE_GRID[1]
    length = PROMPT_TOKENS + patches // 4
    config = drawing.text_config
    written = 2 * config.num_layers * config.num_kv_heads * config.head_dim * DTYPE.itemsize
    prefill = drawing.read(length, logits=True, batch=batch).peak_bytes
    peak = max(drawing.encode_images().peak_bytes, prefill + batch * ANSWER_TOKENS * written)
    picture = SimpleNamespace(num_patches=patches)
    room = reading_room(drawing, [Length(length, (picture,))] * batch, ANSWER_TOKENS)
    name = f"8B VQA, {batch} picture{'s' * (batch > 1)}, {ANSWER_TOKENS} tokens each"
    return Stage(name, 2 * drawing.llm_parameters, peak, room)


# ---------------------------------------------------------------- DiT and decoder


def room_for(shape: tuple[int, ...], factor: float) -> float:
    """What the host reckons for a step on a latent of this shape."""
    base = import_module("comfy.model_base").BaseModel
    model = SimpleNamespace(
        memory_usage_factor=factor,
        memory_usage_factor_conds=(),
        memory_usage_shape_process={},
        manual_cast_dtype=None,
        get_dtype=lambda: DTYPE,
        get_dtype_inference=lambda: DTYPE,  # Host: asked instead of get_dtype from 0.20 on
    )
    return base.memory_required(model, shape)


def sample(drawing: Drawing, batch: int) -> Stage:
    """With guidance: twice as many rows as pictures."""
    config, side = drawing.dit.config, drawing.dit_grid
    factor = pack_module("nodes.host.dit").memory_usage_factor(config)
    room = room_for((2 * batch, config.in_channels, side, side), factor)
    work = drawing.dit_ours(batch=batch)
    name = f"DiT, 30 steps with guidance, batch {batch}"
    return Stage(name, 2 * drawing.dit_parameters, work.peak_bytes, room)


def decode_step(painting: Painting, batch: int) -> Stage:
    factor = import_module("comfy.supported_models").SDXL.memory_usage_factor
    side = PICTURE_SIDE // 8
    room = room_for((2 * batch, 4, side, side), factor)
    work = painting.unet_step(2 * batch)
    name = f"decoder, {PICTURE_SIDE} x {PICTURE_SIDE} with guidance, batch {batch}"
    return Stage(name, 2 * painting.unet_parameters, work.peak_bytes, room)


def to_pixels(painting: Painting) -> Stage:
    """The VAE has SDXL's own size, so that the host's own estimate holds for it."""
    room = pack_module("nodes.host.vae").DECODE_NUMBERS * PICTURE_SIDE**2 * DTYPE.itemsize
    name = f"VAE, {PICTURE_SIDE} x {PICTURE_SIDE}"
    return Stage(name, 2 * painting.vae_parameters, painting.decode().peak_bytes, room)
