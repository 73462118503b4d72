"""Graphs around the decoder: the loader's parts, golden features, the stock chain."""

from typing import Any

import torch
from safetensors.torch import load_file

from .comfy import ORACLE, RANDOM_TINY
from .graph import Graph, Link, output

CHAIN = str(ORACLE / "goldens" / "chain.safetensors")
SIZE = {"width": 32, "height": 32}
ORIGIN = {"crop_top": 0, "crop_left": 0, "original_width": 1024, "original_height": 1024}


def made_tensors() -> dict[str, torch.Tensor]:
    """Features of the golden chains as grids, pictures and a mask."""
    chain = load_file(CHAIN)
    values = {"image": torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))}
    for case in ("c10", "c10_second", "c50"):
        tokens = chain[f"{case}.prompt_embeds"]
        grids = tokens.transpose(1, 2).unflatten(2, (8, 8))
        values[f"{case}.features"] = grids[:1].contiguous()
        values[f"{case}.negative"] = grids[1:].contiguous()
    values["features.b3"] = torch.cat([values["c10.features"] * s for s in (1.0, 0.5, 0.8)])
    values["mask"] = torch.zeros(1, 32, 32)
    values["mask"][..., 16:] = 1
    return values


class Parts:
    """The outputs of the loader, and the golden features."""

    def __init__(self, graph: Graph, made: str, case: str = "c10", dtype: str = "auto"):
        load = graph.add("BLIP3U_LoadModel", checkpoint=RANDOM_TINY, weight_dtype=dtype)
        self.graph, self.made = graph, made
        self.llm, self.model, self.decoder, self.vae = (output(load, i) for i in range(4))
        self.features = graph.add("TestLatent", file=made, key=f"{case}.features")
        self.negative = graph.add("TestLatent", file=made, key=f"{case}.negative")

    def conditioning(self, **changes: Any) -> dict[str, Link]:
        inputs = {"features": self.features, "negative_features": self.negative}
        node = self.graph.add("BLIP3U_FeatureConditioning", **(inputs | SIZE | ORIGIN | changes))
        return {"positive": node, "negative": output(node, 1)}

    def empty(self, batch: int = 1) -> Link:
        # The host divides by 8, this VAE only by 2.
        return self.graph.add("EmptyLatentImage", width=128, height=128, batch_size=batch)

    def chain(self, noise: Link, steps: int, model: Link | None = None, **more: Any) -> Link:
        """The stock chain to a latent."""
        graph, model = self.graph, model or self.decoder
        inputs = {
            "noise": noise,
            "guider": graph.add("CFGGuider", model=model, cfg=3.0, **self.conditioning()),
            "sampler": graph.add("KSamplerSelect", sampler_name="euler"),
            "sigmas": graph.add(
                "BLIP3U_DecoderSigmas",
                decoder=self.decoder,
                steps=steps,
                denoise=more.pop("denoise", 1.0),
            ),
            "latent_image": more.pop("latent_image", None) or self.empty(),
        }
        return graph.add("SamplerCustomAdvanced", **inputs)

    def k_sampler(self, model: Link | None = None, latent: Link | None = None, **changes: Any):
        inputs = {
            "seed": 3,
            "steps": 4,
            "cfg": 3.0,
            "sampler_name": "euler",
            "scheduler": "ddim_uniform",
            "denoise": 1.0,
        }
        return self.graph.add(
            "KSampler",
            model=model or self.decoder,
            latent_image=latent or self.empty(),
            **self.conditioning(),
            **{**inputs, **changes},
        )

    def pictures(self, latent: Link) -> Link:
        return self.graph.add("VAEDecode", samples=latent, vae=self.vae)

    def source(self) -> Link:
        return self.graph.add("TestImage", file=self.made, key="image")

    def mask(self) -> Link:
        return self.graph.add("TestMask", file=self.made, key="mask")

    def decode(self, **changes: Any) -> Link:
        inputs = {
            "decoder": self.decoder,
            "vae": self.vae,
            "features": self.features,
            "negative_features": self.negative,
            "seed": 3,
            "steps": 4,
            "cfg": 3.0,
            "width": 0,
            "height": 0,
            "denoise": 1.0,
        }
        inputs = {**inputs, **changes}
        kept = {name: value for name, value in inputs.items() if value is not None}
        return self.graph.add("BLIP3U_Decode", **kept)
