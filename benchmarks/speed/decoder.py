"""The decoder as the host's MODEL against the plain loop of diffusers, on the same weights.

SDXL's structure at one quarter of its width, guidance, 256 x 256 pixels, float32: the host
computes in nothing else on a CPU. Few steps, so that what a sampling costs once counts more than
in real use. The VAE is left out: both ways would use the same one.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .in_host import call_in_host, load_pack, pack_module
from .measure import ROUNDS, Measurement, Times, alternate, threads
from .models import stage_in_memory

GOAL = 1.00
STEPS = 4
SCALE = 3.0
UNET = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [80, 160, 320],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "norm_num_groups": 16,
    "cross_attention_dim": 448,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 64,
    "projection_class_embeddings_input_dim": 448 + 6 * 64,
}
MINIMAL = UNET | {
    "sample_size": 8,
    "block_out_channels": [16, 16, 32],
    "transformer_layers_per_block": 1,
    "attention_head_dim": 2,
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.13025,
    "norm_num_groups": 32,
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def rows(minimal: bool) -> Iterator[Measurement]:
    result = call_in_host("decoder", "measure_in_host", minimal)
    times = Times({name: tuple(values) for name, values in result["seconds"].items()})
    for name in ("SamplerCustom", "KSampler"):
        yield Measurement(
            f"decoder MODEL, {name}, {STEPS} steps: against the diffusers loop",
            times.ratio(name, "diffusers"),
            GOAL,
            f"{times.describe(name, 'diffusers')}; results differ by "
            f"{result['difference'][name]:.0e}",
        )


def measure_in_host(minimal: bool) -> dict[str, Any]:
    """Inside the host: seconds of all rounds, and how far the results lie apart."""
    load_pack()
    import comfy.sample
    import comfy.samplers
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    config = MINIMAL if minimal else UNET
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(config).requires_grad_(False).eval()
    patcher = hosted_unet(config, unet.state_dict())
    drawing, side = pack_module("nodes.host.drawing"), config["sample_size"]
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, config["cross_attention_dim"], 8, 8, generator=generator)
    noise = torch.randn(1, 4, side, side, generator=generator)
    sizes = drawing.PictureSizes((8 * side, 8 * side))
    positive, null = drawing.condition_pair(features, None, sizes)
    scheduler = EulerDiscreteScheduler.from_config(SCHEDULER)
    sigmas = patcher.model.schedule.sigmas(STEPS)
    empty = torch.zeros_like(noise)

    def by_diffusers() -> Tensor:
        return diffusers_loop(unet, scheduler, features, noise)

    def by_sampler() -> Tensor:
        euler = comfy.samplers.sampler_object("euler")
        given = (patcher, noise, SCALE, euler, sigmas, positive, null, empty)
        return comfy.sample.sample_custom(*given, disable_pbar=True, seed=1)

    def by_ksampler() -> Tensor:
        given = (patcher, noise, STEPS, SCALE, "euler", "ddim_uniform", positive, null, empty)
        return comfy.sample.sample(*given, disable_pbar=True, seed=1)

    functions = {"diffusers": by_diffusers, "SamplerCustom": by_sampler, "KSampler": by_ksampler}
    with threads(1), torch.inference_mode():
        expected = by_diffusers() / VAE["scaling_factor"]
        difference = {
            name: float((functions[name]() - expected).abs().max() / expected.abs().max())
            for name in ("SamplerCustom", "KSampler")
        }
        times = alternate(functions, 2 if minimal else ROUNDS)
    return {"seconds": times.seconds, "difference": difference}


def diffusers_loop(unet: Any, scheduler: Any, features: Tensor, noise: Tensor) -> Tensor:
    """As a diffusers pipeline writes it: both branches in one call, the features first."""
    tokens = features.flatten(2).transpose(1, 2)
    both = torch.cat([tokens, torch.zeros_like(tokens)])
    size = 8 * noise.shape[-1]
    ids = torch.tensor([[1024, 1024, 0, 0, size, size]] * 2)
    added = {"text_embeds": both.mean(1), "time_ids": ids}
    scheduler.set_timesteps(STEPS)
    x = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        twice = scheduler.scale_model_input(torch.cat([x, x]), time)
        predicted = unet(twice, time, both, added_cond_kwargs=added).sample
        conditional, null = predicted.chunk(2)
        x = scheduler.step(null + SCALE * (conditional - null), time, x).prev_sample
    return x


def hosted_unet(config: dict[str, Any], weights: dict[str, Tensor]) -> Any:
    """A UNet as the host's MODEL, without a file."""
    stage = stage_in_memory("unet", config, weights)
    checkpoint = SimpleNamespace(
        unet=stage, vae=SimpleNamespace(config=VAE), scheduler_config=SCHEDULER
    )
    return pack_module("nodes.host.decoder").load_decoder(checkpoint, torch.float32)
