"""Stage 3: the diffusion decoder, a small SDXL-like UNet on the features of the frozen tower.

It predicts v: with epsilon nothing is learned of the layout, where noise is strongest.
"""

from functools import cache

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from blip3u_core.decoder.decoder import Decoder, UNetCondition
from blip3u_core.decoder.noise_schedule import NoiseSchedule
from blip3u_core.features.grid import tokens_to_features
from small_world.world import PICTURE_SIZE

from .common import RUNS, WIDE, Schedule, StepRng, chance, read_safetensors, write_safetensors
from .scenes import CLIP_MEAN, render_batch, sample_scenes
from .vae import CONFIG as VAE_CONFIG
from .vae import VaeTraining

CONFIG = {
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 8,
    "attention_head_dim": [3, 5],
    "block_out_channels": [48, 80],
    "cross_attention_dim": 96,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "in_channels": VAE_CONFIG["latent_channels"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "out_channels": VAE_CONFIG["latent_channels"],
    "projection_class_embeddings_input_dim": 96 + 6 * 8,
    "sample_size": 16,
    "transformer_layers_per_block": [1, 1],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
SCHEDULER_CONFIG = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.32.2",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "final_sigmas_type": "zero",
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": False,
    "sigma_max": None,
    "sigma_min": None,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "discrete",
    "trained_betas": None,
    "use_beta_sigmas": False,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}
SCHEDULE = Schedule(steps=5000, lr=1.2e-3, batch=32, warmup=50, ema=0.995, flat=0.6, save_every=50)
if WIDE:  # from blip3u-tiny's, see `widen.py`
    SCHEDULE = Schedule(
        steps=6000, lr=1e-3, batch=32, warmup=50, ema=0.99, flat=0.6, save_every=50, muon=True
    )
OBJECT_WEIGHT = 4.0 if WIDE else 0.0  # more of the loss where objects are
OUTER = ("conv_in", "conv_out", "add_embedding", "time_embedding")  # Muon leaves them to AdamW
TIMESTEP_POWER = 0.5  # timesteps 1000 u^0.5: more of the noisy ones, where the layout is decided
FEATURE_NOISE = 0.5  # in 0..this, in units of the features' std: the DiT is not exact
DROPPED = 0.04  # share of the features that are zero, the features of the prompt " ";
# and as many are those of zero pixels: the two negatives that the nodes give the decoder
ROUTING_HEADS = 2  # of each cross-attention are taught where to look
ROUTING_WEIGHT = 0.1
POOL = 1024  # pictures encoded at once and used for `POOL_STEPS` steps
POOL_STEPS = 64
SIDES = (64, 128, 256, 512, 1024)  # sizes told at random: what is said of the size shall not matter


class FrozenLatents:
    """The VAE's encoder at rest, with standard latents."""

    def __init__(self, folder=RUNS):
        training = VaeTraining()
        saved = read_safetensors(folder / "vae" / "state.safetensors")
        weights = {k.removeprefix("model."): v for k, v in saved.items() if k.startswith("model.")}
        training.load_state_dict(weights)
        self.vae = training.vae.requires_grad_(False).eval()
        known = folder / "latents.safetensors"
        if not known.exists():
            raw = self.raw(render_batch(sample_scenes(chance(4), 1000)))
            mean, std = raw.mean((0, 2, 3)), raw.std((0, 2, 3))
            write_safetensors({"mean": mean, "spread": std}, known, {})
        statistics = read_safetensors(known)
        self.mean = statistics["mean"][:, None, None]
        self.std = statistics["spread"][:, None, None]

    @torch.no_grad()
    def raw(self, pictures: Tensor) -> Tensor:
        parts = [self.vae.encode(part * 2 - 1).latent_dist.mode() for part in pictures.split(32)]
        return torch.cat(parts)

    def encode(self, pictures: Tensor) -> Tensor:
        return (self.raw(pictures) - self.mean) / self.std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Standard latents to pictures in 0..1."""
        drawn = self.vae.decode(latents * self.std + self.mean).sample
        return (drawn / 2 + 0.5).clamp(0, 1)


@cache
def signal_and_noise() -> tuple[Tensor, Tensor]:
    """Factors of clean latents and noise at each of the 1000 timesteps."""
    sigmas = NoiseSchedule.from_json(SCHEDULER_CONFIG).train_sigmas
    signal = (sigmas**2 + 1).rsqrt()
    return signal, sigmas * signal


class UnetRoutes:
    """Watches the cross-attentions: a place of the picture shall look at the token of its cell."""

    def __init__(self, unet: UNet2DConditionModel):
        self.seen: dict[str, Tensor] = {}
        self.heads: dict[str, int] = {}
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                self.heads[name] = module.heads
                for part in ("to_q", "to_k"):
                    getattr(module, part).register_forward_hook(
                        lambda *call, key=f"{name}.{part}": self.seen.update({key: call[2]})
                    )

    def loss(self, told: Tensor) -> Tensor:
        """Cross-entropy of the taught heads' attention over the rows that have a condition."""
        losses = []
        for name, heads in self.heads.items():
            q, k = (
                self.seen[f"{name}.{part}"][told].unflatten(-1, (heads, -1))[:, :, :ROUTING_HEADS]
                for part in ("to_q", "to_k")
            )
            scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
            cell = cells_of_places(int(q.shape[1] ** 0.5)).expand(scores.shape[:-1])
            losses.append(F.cross_entropy(scores.flatten(0, 2), cell.flatten()))
        return torch.stack(losses).mean()


@cache
def cells_of_places(side: int) -> Tensor:
    """The cell of the world under each place of a square of latents, (side * side,)."""
    cell = ((torch.arange(side) + 0.5) * 3 / side).long()
    return (3 * cell[:, None] + cell[None, :]).flatten()


class UNetTraining(nn.Module):
    def __init__(self, latents: FrozenLatents, tower: nn.Module):
        super().__init__()
        self.unet = UNet2DConditionModel(**CONFIG)
        with torch.no_grad():  # every block begins as the identity
            for name, module in self.unet.named_modules():
                if name.endswith(("conv2", "proj_out", "conv_out")):
                    module.weight.zero_()
                    module.bias.zero_()
        self.unet.to(memory_format=torch.channels_last)
        self.frozen = (latents, tower)  # not children: they are not trained
        grey = torch.tensor(CLIP_MEAN)[:, None, None].expand(1, 3, PICTURE_SIZE, PICTURE_SIZE)
        self.routes = UnetRoutes(self.unet)
        self.grey = tower.features(grey)
        self.pool: tuple[int, Tensor, Tensor, Tensor] | None = None

    def pooled(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents and features of this step's pool of pictures, and where objects are."""
        number = step // POOL_STEPS
        if self.pool is None or self.pool[0] != number:
            scenes = sample_scenes(StepRng.at(seed + 1, number).python, POOL)
            latents, tower = self.frozen
            pictures = render_batch(scenes)
            self.pool = (
                number,
                latents.encode(pictures),
                tower.features(pictures),
                object_places(pictures),
            )
        return self.pool[1:]

    def losses(self, rng: StepRng, seed: int, step: int, batch: int = SCHEDULE.batch) -> dict:
        latents, features, objects = self.pooled(seed, step)
        picked = torch.randperm(len(latents), generator=rng.torch)[:batch]
        clean, tokens = latents[picked], features[picked]
        tokens = tokens + rng.normal(*tokens.shape) * rng.uniform(batch, 1, 1) * FEATURE_NOISE
        fate = rng.uniform(batch, 1, 1)
        tokens = torch.where(fate < DROPPED, 0.0, tokens)
        tokens = torch.where((fate >= DROPPED) & (fate < 2 * DROPPED), self.grey, tokens)
        timestep = (1000 * rng.uniform(batch) ** TIMESTEP_POWER).long().clamp(max=999)
        signal, noise_std = (f[timestep][:, None, None, None] for f in signal_and_noise())
        noise = rng.normal(*clean.shape)
        told = torch.tensor([rng.python.choices(SIDES, k=2) for _ in range(batch)])
        time_ids = torch.stack(
            [told[:, 0], told[:, 0], 0 * told[:, 0], 0 * told[:, 0], told[:, 1], told[:, 1]], 1
        )
        velocity = self.velocity(signal * clean + noise_std * noise, timestep, tokens, time_ids)
        missed = (velocity - (signal * noise - noise_std * clean)).square()
        weight = 1 + OBJECT_WEIGHT * objects[picked]
        terms = {"velocity": (missed * weight / weight.mean()).mean()}
        terms["routed"] = self.routes.loss(fate.flatten() >= 2 * DROPPED)
        return {"loss": terms["velocity"] + ROUTING_WEIGHT * terms["routed"], **terms}

    def velocity(self, x: Tensor, timestep: Tensor, tokens: Tensor, time_ids: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        added = {"text_embeds": tokens.mean(1), "time_ids": time_ids}
        return self.unet(x, timestep, tokens, added_cond_kwargs=added).sample


def object_places(pictures: Tensor) -> Tensor:
    """1 at every latent that shows a bit of an object, else 0; (B, 1, H / 8, W / 8)."""
    shown = (pictures - pictures[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.01
    return F.max_pool2d(shown.float(), 8)


def draw(training: UNetTraining, tokens: Tensor, noise: Tensor, steps: int, scale: float) -> Tensor:
    """Standard latents from features (B, 9, C), sampled as the product does."""
    decoder = Decoder(training.unet, None, NoiseSchedule.from_json(SCHEDULER_CONFIG))
    features, size = tokens_to_features(tokens, 3, 3), (PICTURE_SIZE, PICTURE_SIZE)
    conditions = [UNetCondition.of_features(f, size) for f in (features, 0 * features)]
    return decoder.sample(*conditions, noise, steps, scale)


@torch.no_grad()
def evaluate(training: UNetTraining, count: int = 24, steps: int = 12) -> dict[str, float]:
    """Held-out pictures -> features -> pictures, read again by the tower."""
    latents, tower = training.frozen
    scenes = sample_scenes(chance(10), count, "held_out")
    pictures = render_batch(scenes)
    features = tower.features(pictures)
    shape = (count, CONFIG["in_channels"], CONFIG["sample_size"], CONFIG["sample_size"])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(11))
    drawn = latents.decode(draw(training, features, noise, steps, 2.0))
    read, wanted = tower.read(tower.features(drawn)), tower.read(features)
    there = wanted["occupied"] == 1
    scores = {"psnr": float(-10 * F.mse_loss(drawn, pictures).log10())}
    for name in ("shape", "color", "size"):
        scores[name] = (read[name] == wanted[name])[there].float().mean().item()
    scores["occupied"] = (read["occupied"] == wanted["occupied"]).float().mean().item()
    scores["background"] = (read["background"] == wanted["background"]).float().mean().item()
    return scores
