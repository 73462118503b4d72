"""Stage 1: the VAE of the decoder, eight pixels a latent, four channels."""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from small_world.world import Scene, object_center

from .common import WIDE, Schedule, StepRng, chance
from .scenes import render_batch, sample_scenes

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [16, 16, 48, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 1,
    "mid_block_add_attention": True,
    "sample_size": 128,
    "scaling_factor": 1.0,
    "force_upcast": False,
}
SCHEDULE = Schedule(steps=800, lr=1.5e-3, batch=16, warmup=50, flat=0.45, save_every=50)
KL_WEIGHT = 3e-5
CROP = 64
WHOLE_FROM = 500  # first step on whole pictures, which take the tint of the crops away
FROZEN_FROM = 500  # from here on the encoder rests, so that the UNet can begin on its latents
if WIDE:  # things have details that four latents lose
    CONFIG["latent_channels"] = 12
    SCHEDULE = Schedule(steps=3000, lr=1.5e-3, batch=16, warmup=50, flat=0.6, save_every=50)
    WHOLE_FROM, FROZEN_FROM = 1500, 2000
OBJECT_WEIGHT = 3.0  # more of the loss, on and around the objects, which are few of the pixels
LATENT_NOISE = 0.25  # up to this is then added, in units of their std: the UNet is not exact


class VaeTraining(nn.Module):
    def __init__(self, config: dict = CONFIG):
        super().__init__()
        self.vae = AutoencoderKL(**config)
        self.to(memory_format=torch.channels_last)

    def begin(self) -> None:
        """Start as the plainest of autoencoders: each latent is the mean colour of its 8x8 pixels.

        From a random start the latents first collapse to one or two of the three colour axes and
        stay there for a thousand steps.
        """
        with torch.no_grad():
            for name, module in self.vae.named_modules():  # every block begins as the identity
                if name.endswith(("conv2", "to_out.0")):
                    module.weight.zero_()
                    module.bias.zero_()
                elif name.endswith("conv_shortcut") or name.endswith("upsamplers.0.conv"):
                    pass_through(module, PAIRED + 2)
                elif name.endswith("downsamplers.0.conv"):
                    pass_through(module, PAIRED + 2, corner=True)
            begin_ends(self.vae)

    def losses(self, rng: StepRng, batch: int = SCHEDULE.batch, step: int = 0) -> dict:
        whole = step >= WHOLE_FROM
        scenes = sample_scenes(rng.python, batch // 3 if whole else batch)
        pictures = render_batch(scenes)
        pictures = torch.cat([pictures, pixel_weights(pictures)], 1)
        pictures = pictures if whole else random_crops(pictures, scenes, rng.python)
        x, weight = pictures[:, :3] * 2 - 1, pictures[:, 3:]
        x = x.contiguous(memory_format=torch.channels_last)
        frozen = step >= FROZEN_FROM
        with torch.set_grad_enabled(not frozen):
            posterior = self.vae.encode(x).latent_dist
        noise = rng.normal(*posterior.mean.shape)
        std = LATENT_NOISE * posterior.mean.std((0, 2, 3), keepdim=True)
        std = std * rng.uniform(len(x), 1, 1, 1)
        latents = posterior.mean + noise * (std if frozen else posterior.std)
        drawn = self.vae.decode(latents).sample
        off = (drawn - x) * weight
        terms = {"l1": off.abs().mean(), "mse": (off * (drawn - x)).mean()}
        terms["kl"] = posterior.kl().mean() / x[0].numel()
        # KL a picture element, on the scale of the mean errors above
        terms["loss"] = terms["l1"] + terms["mse"] + KL_WEIGHT * posterior.kl().mean() / 256
        return terms


PAIRED = 8  # channels that carry the four latents, each with both signs


def pass_through(conv: nn.Conv2d, count: int, corner: bool = False) -> None:
    """Let the first `count` channels through; `corner`: as the mean of two by two pixels."""
    rows = torch.arange(count)
    conv.weight[:count].zero_()
    conv.bias[:count].zero_()
    if corner:
        conv.weight[rows, rows, :2, :2] = 0.25
    else:
        conv.weight[rows, rows, conv.weight.shape[2] // 2, conv.weight.shape[3] // 2] = 1


def pair_in(conv: nn.Conv2d, count: int) -> None:
    """Write `count` inputs with both signs, and two constants, which steady the norms."""
    middle = conv.weight.shape[-1] // 2
    conv.weight[: PAIRED + 2].zero_()
    conv.bias[: PAIRED + 2].zero_()
    for i in range(count):
        conv.weight[i, i, middle, middle] = 1
        conv.weight[PAIRED // 2 + i, i, middle, middle] = -1
    conv.bias[PAIRED], conv.bias[PAIRED + 1] = 3, -3


def pair_out(conv: nn.Conv2d, count: int, factor: float) -> None:
    """Read `count` outputs back through the activation: silu(x) - silu(-x) = x."""
    middle = conv.weight.shape[-1] // 2
    conv.weight[:count].zero_()
    conv.bias.zero_()
    for i in range(count):
        conv.weight[i, i, middle, middle] = factor
        conv.weight[i, PAIRED // 2 + i, middle, middle] = -factor


def begin_ends(vae: AutoencoderKL) -> None:
    """Where pictures and latents enter and leave; the fourth latent starts at random."""
    count = vae.config.latent_channels
    pair_in(vae.encoder.conv_in, 3)
    pair_out(vae.encoder.conv_out, 3, 1.5)
    vae.encoder.conv_out.weight[3:count].mul_(10)
    vae.quant_conv.weight.zero_()
    vae.quant_conv.bias.zero_()
    vae.quant_conv.weight[range(count), range(count)] = 1
    vae.quant_conv.bias[count:] = -5  # a small first variance: more noise would blur everything
    vae.post_quant_conv.weight.zero_()
    vae.post_quant_conv.bias.zero_()
    vae.post_quant_conv.weight[range(count), range(count)] = 1
    pair_in(vae.decoder.conv_in, min(count, PAIRED // 2))  # more latents: at random
    pair_out(vae.decoder.conv_out, 3, 0.7)


def pixel_weights(pictures: Tensor) -> Tensor:
    """How much each pixel counts, (B, 1, H, W); the corner shows the background."""
    foreground = (pictures - pictures[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.01
    return 1 + OBJECT_WEIGHT * F.max_pool2d(foreground.float(), 5, 1, 2)


def random_crops(pictures: Tensor, scenes: Sequence[Scene], rng: random.Random) -> Tensor:
    """One window of 64 pixels from every picture, an object near its middle more often than not."""
    limit = pictures.shape[-1] - CROP
    crops = []
    for picture, scene in zip(pictures, scenes, strict=True):
        x, y = rng.randint(0, limit), rng.randint(0, limit)
        if rng.random() < 0.7:
            center = object_center(rng.choice(scene.objects))
            x, y = (min(max(int(c) - CROP // 2 + rng.randint(-20, 20), 0), limit) for c in center)
        crops.append(picture[:, y : y + CROP, x : x + CROP])
    return torch.stack(crops)


@torch.no_grad()
def evaluate(training: VaeTraining, count: int = 32) -> dict[str, float]:
    """Peak signal to noise of the reconstructed means of held-out pictures."""
    x = render_batch(sample_scenes(chance(7), count, "held_out"))
    drawn = training.vae.decode(training.vae.encode(x * 2 - 1).latent_dist.mode()).sample
    mse = F.mse_loss(drawn.clamp(-1, 1) / 2 + 0.5, x)
    return {"psnr": float(-10 * mse.log10())}


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Put the latents' mean and standard deviation a channel into the 1x1 convolutions around them.

    The format knows one scaling factor; after this it is 1 and every channel is standard.
    """
    count = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    post.bias.add_(post.weight[:, :, 0, 0] @ mean)
    post.weight.mul_(std[None, :, None, None])
    quant.weight[:count].div_(std[:, None, None, None])
    quant.bias[:count].sub_(mean).div_(std)
    quant.bias[count:].sub_(2 * std.log())
