"""The work of every stage at the published sizes, counted on the meta device: no weights needed.

The sizes come from the manifests of the golden set (key -> shape of the real checkpoints).
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blip3u_core.decoder.vae import Vae, VaeConfig
from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.nextdit import NextDiT
from blip3u_core.language.config import TextConfig, VisionConfig
from blip3u_core.language.text_model import KeyValueCache, TextModel
from blip3u_core.language.vision_model import VisionModel

from .counting import Work, count

MANIFESTS = Path(__file__).parents[2] / "tests" / "golden" / "oracle" / "manifests"
DTYPE = torch.bfloat16

PROMPT_TOKENS = 40  # a caption with its template, `[IMG]` included
PICTURE_GRID = (32, 32)  # patches of a 448 x 448 picture: 256 tokens
ANSWER_TOKENS = 64
DIT_STEPS = 30
DECODER_STEPS = 50
PICTURE_SIDE = 1024


def manifest(name: str) -> dict[str, Any]:
    return json.loads((MANIFESTS / f"manifest_{name}.json").read_text(encoding="utf-8"))


def meta(*shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


@dataclass(frozen=True)
class ModelWork:
    """LLM and DiT of one published size, "8b" or "4b"."""

    name: str

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return manifest(self.name)

    def shapes(self, prefix: str) -> dict[str, tuple[int, ...]]:
        keys = self.manifest["keys"].items()
        return {k[len(prefix) :]: tuple(v[0]) for k, v in keys if k.startswith(prefix)}

    def parameters(self, *prefixes: str) -> int:
        """Numbers under these prefixes; a tied output layer counts once."""
        keys = self.manifest["keys"]
        tied = self.manifest["config"]["tie_word_embeddings"]
        return sum(
            math.prod(shape)
            for key, (shape, _) in keys.items()
            if key.startswith(prefixes) and not (tied and key.startswith("lm_head"))
        )

    @property
    def llm_parameters(self) -> int:
        return self.parameters("") - self.dit_parameters

    @property
    def dit_parameters(self) -> int:
        return self.parameters("model.dit.")

    @cached_property
    def text_config(self) -> TextConfig:
        return TextConfig.from_dict(self.manifest["config"])

    @cached_property
    def text_model(self) -> TextModel:
        return TextModel(self.text_config, DTYPE, "meta")

    @cached_property
    def vision_model(self) -> VisionModel:
        return VisionModel(VisionConfig.from_dict(self.manifest["config"]), DTYPE, "meta")

    @cached_property
    def dit(self) -> NextDiT:
        config = NextDiTConfig.from_shapes(self.shapes("model.dit.model."), self.manifest["config"])
        return NextDiT(config, DTYPE, "meta")

    def read(self, length: int, known: int = 0, logits: bool = False, batch: int = 1) -> Work:
        """Read `length` tokens behind `known` ones; with scores of the next token or without."""
        config, model = self.text_config, self.text_model
        cache = KeyValueCache(config.num_layers) if known or logits else None
        if known:
            new = meta(batch, config.num_kv_heads, known + 1, config.head_dim)
            cache.keys, cache.values = [new] * config.num_layers, [new] * config.num_layers
            cache.length = known
        embeds = meta(batch, length, config.hidden_size)
        positions = torch.empty(3, batch, length, dtype=torch.long, device="meta")

        def run() -> None:
            hidden = model(embeds, positions, None, cache)
            if logits:
                model.embed_tokens.project(hidden[:, -1]).float()

        return count(run)

    def encode_images(self, grid: tuple[int, int] = PICTURE_GRID) -> Work:
        """The vision tower on one picture of so many patches."""
        tower, patches = self.vision_model, math.prod(grid)
        values = VisionConfig.from_dict(self.manifest["config"]).patch_values
        return count(lambda: tower(meta(patches, values), [grid]))

    def visual_tokens(self) -> Work:
        """What a picture's prompt costs: no output layer, no cache."""
        queries = self.dit_grid**2
        return self.read(PROMPT_TOKENS + queries)

    def answer_token(self, grid: tuple[int, int] = PICTURE_GRID, batch: int = 1) -> Work:
        """One token of an answer about a picture, half-way through the answer."""
        known = PROMPT_TOKENS + math.prod(grid) // 4 + ANSWER_TOKENS // 2
        return self.read(1, known, logits=True, batch=batch)

    def answer(self, grid: tuple[int, int] = PICTURE_GRID, batch: int = 1) -> Work:
        """Encode a picture, read the question, write the answer; for each of a batch."""
        prefill = self.read(PROMPT_TOKENS + math.prod(grid) // 4, logits=True, batch=batch)
        tokens = self.answer_token(grid, batch) * (ANSWER_TOKENS - 1)
        return self.encode_images(grid) * batch + prefill + tokens

    @property
    def dit_grid(self) -> int:
        return self.dit.config.input_size

    def dit_plain(self, steps: int = DIT_STEPS, batch: int = 1) -> Work:
        """The straightforward sampling: the whole network on both branches at every step."""
        config, dit = self.dit.config, self.dit
        x = meta(2 * batch, config.in_channels, self.dit_grid, self.dit_grid)
        context = meta(2 * batch, self.dit_grid**2, config.condition_dim)
        timesteps = meta(2 * batch, dtype=torch.float32)
        return count(lambda: dit(x, timesteps, context)) * steps

    def dit_ours(self, steps: int = DIT_STEPS, batch: int = 1) -> Work:
        """Ours: condition and modulation once, the null branch as a single token."""
        config, dit = self.dit.config, self.dit
        x = meta(2 * batch, config.in_channels, self.dit_grid, self.dit_grid)
        tokens = meta(batch, self.dit_grid**2, config.condition_dim)
        timesteps = meta(steps, 1, dtype=torch.float32)
        held: dict[str, Any] = {}

        def prepare() -> None:
            null = dit.prepare(tokens[:1, :1]).expand(batch)
            held["conditions"] = null, dit.prepare(tokens)
            pooled = torch.cat([condition.pooled for condition in held["conditions"]])
            held["step"] = next(iter(dit.modulate(timesteps, pooled).steps()))

        def step() -> None:
            dit.velocity(x, held["step"], held["conditions"])

        return count(prepare) + count(step) * steps


class DecoderWork:
    """The diffusion decoder and its VAE; the same for 8B and 4B."""

    @cached_property
    def unet(self) -> torch.nn.Module:
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            return UNet2DConditionModel.from_config(manifest("decoder_unet")["config"]).to(DTYPE)

    @property
    def unet_parameters(self) -> int:
        return manifest("decoder_unet")["total_parameters"]

    @property
    def vae_parameters(self) -> int:
        return manifest("decoder_vae")["total_parameters"]

    def unet_step(self, batch: int = 2, side: int = PICTURE_SIDE) -> Work:
        """One step; batch 2 is one picture with guidance."""
        unet = self.unet  # made before anything counts
        return count(lambda: evaluate(unet, batch, side))

    def outer_step(self, depth: int, batch: int = 2, side: int = PICTURE_SIDE) -> Work:
        """One step of Deep Cache on kept features: `depth` blocks at either end, 3 or 4."""
        calls: list[tuple[Any, ...]] = []

        def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append((module, args, kwargs))

        hooks = [
            module.register_forward_pre_hook(note, with_kwargs=True)
            for module in self._outer_blocks(depth)
        ]
        with torch.no_grad():
            evaluate(self.unet, batch, side)
        for hook in hooks:
            hook.remove()
        work = Work()
        for module, args, kwargs in calls:
            work += count(partial(module, *args, **kwargs))
        joined = [args[0] for module, args, _ in calls if module in self._joining(depth)]
        return work + count(lambda: [x.clone() for x in joined])  # as much as torch.cat moves

    def _joining(self, depth: int) -> list[torch.nn.Module]:
        """Those of the last blocks that a skip connection enters."""
        _, *inner, last = self.unet.up_blocks
        return [*last.resnets, *(inner[-1].resnets[-1:] if depth == 4 else ())]

    def _outer_blocks(self, depth: int) -> list[torch.nn.Module]:
        if depth not in (3, 4):
            raise ValueError(f"depth is {depth}, expected 3 or 4: the blocks of others are missing")
        unet, first, inner = self.unet, self.unet.down_blocks[0], self.unet.up_blocks[-2]
        fourth = [*first.downsamplers, inner.attentions[-1], *inner.upsamplers]
        ends = [unet.time_embedding, unet.add_embedding, unet.conv_in, *first.resnets]
        ends += [unet.conv_norm_out, unet.conv_act, unet.conv_out, *self._joining(depth)]
        return ends + (fourth if depth == 4 else [])

    def decode(self, side: int = PICTURE_SIDE) -> Work:
        """VAE latent to picture."""
        vae = Vae(VaeConfig.from_json(manifest("decoder_vae")["config"]), device="meta").to(DTYPE)
        latent = meta(1, 4, side // 8, side // 8)
        return count(lambda: vae.decode(latent))


def evaluate(unet: Any, batch: int, side: int) -> Any:
    """Once the decoder's UNet, on so many rows of pictures with this side."""
    width = unet.config.cross_attention_dim
    tokens, t = meta(batch, 64, width), meta(batch, dtype=torch.float32)
    added = {"text_embeds": meta(batch, width), "time_ids": meta(batch, 6)}
    x = meta(batch, unet.config.in_channels, side // 8, side // 8)
    return unet(x, t, tokens, added_cond_kwargs=added)
