"""Stock nodes on the decoder, and wires that lead to the wrong place."""

import pytest
import torch
from safetensors.torch import save_file

from harness.comfy import Host
from harness.decoding import Parts
from harness.graph import Graph, Link, output, tensors

STOCK_PATCHES = {
    "DifferentialDiffusion": {},
    "PerturbedAttentionGuidance": {"scale": 2.0},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "RescaleCFG": {"multiplier": 0.7},
    "EasyCache": {
        "reuse_threshold": 0.2,
        "start_percent": 0.15,
        "end_percent": 0.95,
        "verbose": False,
    },
    "HyperTile": {"tile_size": 256, "swap_size": 2, "max_depth": 0, "scale_depth": False},
    "TomePatchModel": {"ratio": 0.3},
    "SelfAttentionGuidance": {"scale": 0.5, "blur_sigma": 2.0},
}


@pytest.mark.parametrize("patch", STOCK_PATCHES)
def test_stock_model_patches(host: Host, made: str, patch: str) -> None:
    parts = Parts(Graph(), made)
    graph = parts.graph
    model = graph.add(patch, model=parts.decoder, **STOCK_PATCHES[patch])
    encoded = graph.add("VAEEncode", pixels=parts.source(), vae=parts.vae)
    masked = graph.add("SetLatentNoiseMask", samples=encoded, mask=parts.mask())
    drawn, inpainted = tensors(
        host,
        graph,
        parts.k_sampler(model, steps=6),
        parts.k_sampler(model, masked, denoise=0.7),
    )
    assert drawn.isfinite().all()
    assert inpainted.isfinite().all()


def test_stock_latent_nodes(host: Host, made: str) -> None:
    """Blend two drawings, enlarge, a second pass, tiles; two sets of features mixed."""
    parts = Parts(Graph(), made)
    graph = parts.graph
    first, second = parts.k_sampler(), parts.k_sampler(seed=4)
    blended = graph.add("LatentBlend", samples1=first, samples2=second, blend_factor=0.5)
    larger = graph.add(
        "LatentUpscale",
        samples=blended,
        upscale_method="bilinear",
        width=192,
        height=192,
        crop="disabled",
    )
    again = parts.k_sampler(latent=larger, denoise=0.5)
    sizes = {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
    tiled = graph.add("VAEDecodeTiled", samples=again, vae=parts.vae, **sizes)
    inpaint = graph.add(
        "InpaintModelConditioning",
        pixels=parts.source(),
        vae=parts.vae,
        mask=parts.mask(),
        noise_mask=True,
        **parts.conditioning(),
    )
    painted = graph.add(
        "KSampler",
        model=parts.decoder,
        positive=inpaint,
        negative=output(inpaint, 1),
        latent_image=output(inpaint, 2),
        seed=1,
        steps=3,
        cfg=3.0,
        sampler_name="dpmpp_2m",
        scheduler="karras",
        denoise=1.0,
    )
    mixed = graph.add(
        "LatentBlend", samples1=parts.features, samples2=parts.negative, blend_factor=0.5
    )
    pictures, inpainted, variation = tensors(
        host, graph, tiled, painted, parts.decode(features=mixed)
    )
    assert pictures.shape == (1, 48, 48, 3)
    assert inpainted.isfinite().all()
    assert variation.shape == (1, 32, 32, 3)


def test_lora_by_the_usual_names(host: Host, made: str) -> None:
    up, down = torch.randn(2, 32, 2, generator=torch.Generator().manual_seed(0))
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    folder = host.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    lora = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down.T.contiguous()}
    save_file(lora, folder / "decoder.safetensors")
    parts = Parts(Graph(), made)
    weights = {"lora_name": "decoder.safetensors", "strength_model": 1.0}
    model = parts.graph.add("LoraLoaderModelOnly", model=parts.decoder, **weights)
    plain, patched = tensors(host, parts.graph, parts.k_sampler(), parts.k_sampler(model))
    assert not torch.allclose(plain, patched, atol=1e-3)


def visual_tokens_into_the_decoder(parts: Parts) -> Link:
    tokens = parts.graph.add(
        "BLIP3U_VisualTokens", llm=parts.llm, prompt="a cat", template="caption"
    )
    return parts.graph.add(
        "KSampler",
        model=parts.decoder,
        positive=tokens,
        negative=output(tokens, 1),
        latent_image=parts.empty(),
        seed=0,
        steps=2,
        cfg=3.0,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )


def the_dits_sigmas(parts: Parts) -> Link:
    return parts.graph.add("BLIP3U_DecoderSigmas", decoder=parts.model, steps=2, denoise=1.0)


def too_many_steps(parts: Parts) -> Link:
    return parts.decode(steps=800, denoise=0.5, source_image=parts.source())


def three_features_for_two_sources(parts: Parts) -> Link:
    three = parts.graph.add("TestLatent", file=parts.made, key="features.b3")
    return parts.decode(features=three, source_image=parts.source(), denoise=0.5)


WRONG = {
    "Visual tokens belong to the DiT": visual_tokens_into_the_decoder,
    "CLIP features are no picture yet": lambda parts: parts.pictures(parts.features),
    "expected the decoder": lambda parts: parts.decode(decoder=parts.model),
    "a ClipFeatureDiT, expected the decoder": the_dits_sigmas,
    "expected CLIP features of width 48": lambda parts: parts.decode(
        features=parts.empty(), negative_features=None
    ),
    "expected the same grid and channels": lambda parts: parts.decode(
        negative_features=parts.empty()
    ),
    "Connect source_image": lambda parts: parts.decode(mask=parts.mask()),
    "multiples of 2": lambda parts: parts.decode(width=33),
    "smaller than min": lambda parts: parts.decode(steps=0),
    "expected 1 to 1000 steps": too_many_steps,
    "expected one number for all, or 1": three_features_for_two_sources,
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_wiring_is_told(host: Host, made: str, text: str) -> None:
    parts = Parts(Graph(), made)
    parts.graph.add("TestSave", value=WRONG[text](parts), name="bad")
    assert text in host.failure(parts.graph)
    parts = Parts(Graph(), made)
    assert tensors(host, parts.graph, parts.decode())[0].isfinite().all()
