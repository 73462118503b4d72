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
from .measure import Measurement
from .stages import (
    ANSWER_TOKENS,
    DTYPE,
    PICTURE_GRID,
    PICTURE_SIDE,
    PROMPT_TOKENS,
    DecoderWork,
    ModelWork,
)

GOAL = 1.0
LONG_DIALOGUE = 4000  # tokens
BATCH = 8


@dataclass(frozen=True)
class StageMemory:
    """One use of a stage: its weights, its activations at most, and the room asked for, bytes."""

    name: str
    weights: float
    activations: float
    room: float


def rows(minimal: bool) -> Iterator[Measurement]:
    for values in call_in_host("memory", "measure_in_host", minimal):
        stage = StageMemory(*values)
        yield Measurement(
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
    model, decoder = ModelWork("8b"), DecoderWork()
    stages = [read(model, 1, PROMPT_TOKENS), sample(model, 1)]
    if not minimal:
        stages += [answer_pictures(model, batch) for batch in (1, BATCH)]
        stages += [read(model, 1, LONG_DIALOGUE), sample(model, BATCH)]
        stages += [decode_step(decoder, batch) for batch in (1, 4)]
        stages += [to_pixels(decoder)]
    return [tuple(vars(stage).values()) for stage in stages]


# ---------------------------------------------------------------- language model


@dataclass(frozen=True)
class Length:
    """As much of a context as the room for it depends on."""

    length: int
    pictures: tuple = ()

    def __len__(self) -> int:
        return self.length


def reading_room(model: ModelWork, contexts: list[Length], new_tokens: int) -> float:
    from blip3u_core.language.config import VisionConfig

    llm = SimpleNamespace(
        config=model.text_config,
        image_config=SimpleNamespace(vision=VisionConfig.from_dict(model.manifest["config"])),
        num_queries=model.dit_grid**2,
        dtype=DTYPE,
    )
    return pack_module("nodes.host.memory").reading_bytes(llm, contexts, new_tokens)


def read(model: ModelWork, batch: int, tokens: int) -> StageMemory:
    """Visual tokens of a context so long; the cache of a dialogue counts."""
    work = model.read(tokens + model.dit_grid**2, logits=True, batch=batch)
    room = reading_room(model, [Length(tokens)] * batch, 0)
    weights = 2 * model.llm_parameters
    return StageMemory(f"8B visual tokens, {tokens} tokens", weights, work.peak_bytes, room)


def answer_pictures(model: ModelWork, batch: int) -> StageMemory:
    """Answers about pictures of 448 x 448, one each."""
    patches = PICTURE_GRID[0] * PICTURE_GRID[1]
    length = PROMPT_TOKENS + patches // 4
    config = model.text_config
    written = 2 * config.num_layers * config.num_kv_heads * config.head_dim * DTYPE.itemsize
    prefill = model.read(length, logits=True, batch=batch).peak_bytes
    peak = max(model.encode_images().peak_bytes, prefill + batch * ANSWER_TOKENS * written)
    picture = SimpleNamespace(num_patches=patches)
    room = reading_room(model, [Length(length, (picture,))] * batch, ANSWER_TOKENS)
    name = f"8B VQA, {batch} picture{'s' * (batch > 1)}, {ANSWER_TOKENS} tokens each"
    return StageMemory(name, 2 * model.llm_parameters, peak, room)


# ---------------------------------------------------------------- DiT and decoder


def room_for(shape: tuple[int, ...], factor: float) -> float:
    """What the host estimates for a step on a latent of this shape."""
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


def sample(model: ModelWork, batch: int) -> StageMemory:
    """With guidance: twice as many rows as pictures."""
    config, side = model.dit.config, model.dit_grid
    factor = pack_module("nodes.host.dit").memory_usage_factor(config)
    room = room_for((2 * batch, config.in_channels, side, side), factor)
    work = model.dit_ours(batch=batch)
    name = f"DiT, 30 steps with guidance, batch {batch}"
    return StageMemory(name, 2 * model.dit_parameters, work.peak_bytes, room)


def decode_step(decoder: DecoderWork, batch: int) -> StageMemory:
    factor = import_module("comfy.supported_models").SDXL.memory_usage_factor
    side = PICTURE_SIDE // 8
    room = room_for((2 * batch, 4, side, side), factor)
    work = decoder.unet_step(2 * batch)
    name = f"decoder, {PICTURE_SIDE} x {PICTURE_SIDE} with guidance, batch {batch}"
    return StageMemory(name, 2 * decoder.unet_parameters, work.peak_bytes, room)


def to_pixels(decoder: DecoderWork) -> StageMemory:
    """The VAE has SDXL's own size, so that the host's own estimate holds for it."""
    room = pack_module("nodes.host.vae").DECODE_NUMBERS * PICTURE_SIDE**2 * DTYPE.itemsize
    name = f"VAE, {PICTURE_SIDE} x {PICTURE_SIDE}"
    return StageMemory(name, 2 * decoder.vae_parameters, decoder.decode().peak_bytes, room)
