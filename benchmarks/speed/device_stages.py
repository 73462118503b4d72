"""Every stage with random weights on a device, to be timed: no checkpoint, no host."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from blip3u_core.decoder.vae import Vae, VaeConfig
from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.nextdit import NextDiT
from blip3u_core.language.choose import SamplingParams, TokenChooser
from blip3u_core.language.config import TextConfig, VisionConfig
from blip3u_core.language.steps import ROOM, PlainSteps, RecordedSteps
from blip3u_core.language.text_model import KeyValueCache, TextModel
from blip3u_core.language.vision_model import VisionModel
from blip3u_core.weights.checkpoint import open_checkpoint

from .models import RANDOM_TINY
from .stages import (
    ANSWER_TOKENS,
    DECODER_STEPS,
    DIT_STEPS,
    DTYPE,
    PICTURE_GRID,
    PROMPT_TOKENS,
    ModelWork,
    manifest,
)
from .ways import Built, Run

LLM = ("llm", "model.")  # its part and prefix
PICTURE_TOKENS = PICTURE_GRID[0] * PICTURE_GRID[1] // 4


@dataclass(frozen=True)
class Sizes:
    """The configurations of one checkpoint's networks."""

    text: TextConfig
    vision: VisionConfig
    dit: NextDiTConfig
    unet: Mapping[str, Any]  # diffusers' own
    vae: VaeConfig

    @property
    def latent(self) -> tuple[int, int, int]:
        """(L, h, w) of a picture's latent."""
        side = self.unet["sample_size"]
        return self.unet["in_channels"], side, side


def published(name: str) -> Sizes:
    """Of "8b" or "4b", from the manifests of the golden set."""
    model = ModelWork(name)
    return Sizes(
        model.text_config,
        VisionConfig.from_dict(model.manifest["config"]),
        NextDiTConfig.from_shapes(model.shapes("model.dit.model."), model.manifest["config"]),
        manifest("decoder_unet")["config"],
        VaeConfig.from_json(manifest("decoder_vae")["config"]),
    )


def small() -> Sizes:
    """Of the golden set's checkpoint."""
    checkpoint = open_checkpoint(RANDOM_TINY)
    config = json.loads((RANDOM_TINY / "config.json").read_text("utf-8"))
    return Sizes(
        TextConfig.from_dict(config),
        VisionConfig.from_dict(config),
        NextDiTConfig.from_shapes(checkpoint.dit.shapes(), checkpoint.config),
        checkpoint.unet.config,
        VaeConfig.from_json(checkpoint.vae.config),
    )


def noise(device: torch.device, *shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
    return torch.randn(*shape, device=device, dtype=dtype)


def filled(network: nn.Module) -> Any:
    """The network with weights that keep the size of what passes."""
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.fill_(1.0)
    return network.eval()


def read_images(sizes: Sizes, device: torch.device) -> Built:
    tower = filled(VisionModel(sizes.vision, DTYPE, device))
    patches = noise(device, PICTURE_GRID[0] * PICTURE_GRID[1], sizes.vision.patch_values)
    return Built(lambda: tower(patches, [PICTURE_GRID]), tower, steady=False)


def read_prompt(sizes: Sizes, device: torch.device) -> Built:
    """A caption with its latent queries, for visual tokens."""
    model, length = filled(TextModel(sizes.text, DTYPE, device)), PROMPT_TOKENS
    length += sizes.dit.input_size**2
    embeds = noise(device, 1, length, sizes.text.hidden_size)
    positions = torch.arange(length, device=device).expand(3, 1, -1)
    return Built(lambda: model(embeds, positions), model, *LLM)


def write_token(sizes: Sizes, device: torch.device) -> Built:
    """A token of an answer about a picture, half-way through, with its scores."""
    config, known = sizes.text, PROMPT_TOKENS + PICTURE_TOKENS + ANSWER_TOKENS // 2
    model, cache = filled(TextModel(config, DTYPE, device)), KeyValueCache(config.num_layers)
    room = (1, config.num_kv_heads, known + 1, config.head_dim)
    cache.keys = [noise(device, *room) for _ in range(config.num_layers)]
    cache.values = [noise(device, *room) for _ in range(config.num_layers)]
    cache.length = known
    embeds = noise(device, 1, 1, config.hidden_size)
    positions = torch.full((3, 1, 1), known, device=device)

    def write() -> Tensor:
        cache.length = known
        hidden = model(embeds, positions, None, cache)
        return model.embed_tokens.project(hidden[:, -1]).float().argmax(-1)

    step = recorded_step(model, cache.prefix(known), device)
    return Built(write, model, *LLM, few_rows=True, step=step)


def recorded_step(model: Any, cache: KeyValueCache, device: torch.device) -> Run:
    """What `RecordedSteps` has recorded: a greedy token, over room for `ROOM` more; as often."""
    llm: Any = SimpleNamespace(
        config=model.config,
        device=device,
        model=model,
        repetition_penalty=1.0,
        embed=model.embed_tokens,
        logits=lambda hidden: model.embed_tokens.project(hidden).float(),
    )
    context: Any = SimpleNamespace(ids=(0,))
    chooser = TokenChooser(llm, [context], SamplingParams(), stride=ROOM)
    position = torch.full((1,), cache.length, device=device)
    reader: Any = SimpleNamespace(llm=llm, cache=cache, valid=None, next=position)
    steps: list[Run] = []

    def keep(step: Run) -> Run:
        step()
        steps.append(step)
        return step

    tokens = torch.zeros(1, dtype=torch.long, device=device)
    RecordedSteps(PlainSteps(reader, chooser, tokens), keep).write(1, ROOM)
    return steps[0]


def step_features(sizes: Sizes, device: torch.device) -> Built:
    """A guided step of the DiT; what depends on the prompt alone is prepared."""
    config, dit = sizes.dit, filled(NextDiT(sizes.dit, DTYPE, device))
    grid = config.input_size
    tokens = noise(device, 1, grid**2, config.condition_dim)
    conditions = dit.prepare(tokens[:, :1]), dit.prepare(tokens)
    pooled = torch.cat([condition.pooled for condition in conditions])
    timesteps = torch.full((1, 1), 500.0, device=device)
    step = next(iter(dit.modulate(timesteps, pooled).steps()))
    x = noise(device, 2, config.in_channels, grid, grid)
    return Built(lambda: dit.velocity(x, step, conditions), dit, "dit")


def step_decoder(sizes: Sizes, device: torch.device) -> Built:
    """A guided step of the decoder's UNet."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        empty = UNet2DConditionModel.from_config(dict(sizes.unet))
    unet = filled(nn.Module.to(empty, DTYPE).to_empty(device=device))
    width = sizes.unet["cross_attention_dim"]
    x, timestep = noise(device, 2, *sizes.latent), torch.full((2,), 500.0, device=device)
    tokens = noise(device, 2, sizes.dit.input_size**2, width)
    added = {"text_embeds": noise(device, 2, width), "time_ids": noise(device, 2, 6)}
    return Built(lambda: unet(x, timestep, tokens, added_cond_kwargs=added), unet, "unet")


def decode_latent(sizes: Sizes, device: torch.device) -> Built:
    vae = filled(Vae(sizes.vae, device="meta").to(DTYPE).to_empty(device=device))
    latent = noise(device, 1, *sizes.latent)
    return Built(lambda: vae.decode(latent), vae)


Build = Callable[[Sizes, torch.device], Built]

# (name, how to build it, how often it runs in a picture or an answer)
STAGES: tuple[tuple[str, Build, int], ...] = (
    ("vision encoder, 448 x 448", read_images, 1),
    ("LLM: visual tokens", read_prompt, 1),
    ("LLM: a token of an answer", write_token, ANSWER_TOKENS),
    ("DiT: a guided step", step_features, DIT_STEPS),
    ("decoder UNet: a guided step", step_decoder, DECODER_STEPS),
    ("VAE: latent to picture", decode_latent, 1),
)
