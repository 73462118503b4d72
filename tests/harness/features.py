"""Graphs that sample CLIP features on the golden set's random model."""

from typing import Any

import torch
from safetensors.torch import save_file

from .comfy import ORACLE, RANDOM_TINY, Host
from .graph import Graph, output

GOLDEN = str(ORACLE / "goldens" / "sampling.safetensors")
SAME = {"atol": 2e-5, "rtol": 0}  # two ways through one host: only the order of sums differs


def load(graph: Graph, weight_dtype: str = "fp32", checkpoint: str = RANDOM_TINY) -> list:
    node = graph.add("BLIP3U_LoadModel", checkpoint=checkpoint, weight_dtype=weight_dtype)
    return output(node, 1)


def tokens(graph: Graph, file: str = GOLDEN, key: str = "cond") -> dict[str, list]:
    positive = graph.add("TestConditioning", file=file, key=key, pooled_key="")
    return {
        "positive": positive,
        "negative": graph.add("ConditioningZeroOut", conditioning=positive),
    }


def feature_sampler(graph: Graph, model: list, conditioning: dict, **changes: Any) -> list:
    inputs = {
        "seed": 7,
        "steps": 10,
        "cfg": 3.0,
        "sampler_name": "euler",
        "batch_size": 1,
        "denoise": 1.0,
    }
    return graph.add(
        "BLIP3U_ClipFeatureSampler", model=model, **conditioning, **{**inputs, **changes}
    )


def k_sampler(graph: Graph, model: list, conditioning: dict, latent: list, **changes: Any) -> list:
    inputs = {
        "seed": 7,
        "steps": 10,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    }
    return graph.add(
        "KSampler", model=model, **conditioning, latent_image=latent, **{**inputs, **changes}
    )


def custom_sampler(
    graph: Graph, model: list, conditioning: dict, noise: list, steps: int, cfg: float, latent: list
) -> list:
    return graph.add(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=graph.add("CFGGuider", model=model, cfg=cfg, **conditioning),
        sampler=graph.add("KSamplerSelect", sampler_name="euler"),
        sigmas=graph.add("BLIP3U_FeatureSigmas", steps=steps, denoise=1.0),
        latent_image=latent,
    )


def write_lora(host: Host) -> None:
    """loras/dit.safetensors, of the random model's DiT."""
    up, down = torch.randn(2, 48, 2, generator=torch.Generator().manual_seed(0))
    name = "diffusion_model.layers.0.attn2.to_q"
    folder = host.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    lora = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down.T.contiguous()}
    save_file(lora, folder / "dit.safetensors")
