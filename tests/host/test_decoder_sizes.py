"""Decoders of other sizes than SDXL's: the host's UNet against diffusers, on random weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from blip3u_core.decoder.decoder import Decoder, UNetCondition
from blip3u_core.features.flow import item_noise
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE, Host
from harness.graph import Graph, output, tensors

TINY = "blip3u-tiny (built-in)"
SMALL_UNET = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": [16, 24],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": [2, 3],
    "norm_num_groups": 8,
    "cross_attention_dim": 48,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 96,
}
UNETS = {
    "a width that is no multiple": {},
    "as many heads at every level": {"attention_head_dim": 4},
    "convolutions around attention": {"use_linear_projection": False},
    "a middle without attention": {"mid_block_type": "UNetMidBlock2D"},
    "no middle": {"mid_block_type": None},
    "two layers a level": {"layers_per_block": 2},
    "depths differ": {
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "transformer_layers_per_block": [2, 1],
    },
    "attention on one way only": {
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
}
SMALL_VAE = {
    "block_out_channels": [8, 12, 16],
    "layers_per_block": 1,
    "latent_channels": 8,
    "scaling_factor": 0.5,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}


def write_checkpoint(host: Host, name: str, unet_config: dict, prediction_type: str) -> None:
    """The golden checkpoint with another, random decoder."""
    import diffusers

    folder = host.base / "models" / "blip3u" / name
    shutil.copytree(ORACLE / "checkpoint", folder)
    decoder = folder / "diffusion-decoder"
    torch.manual_seed(0)
    parts = {
        "unet": (unet_config, diffusers.UNet2DConditionModel.from_config(unet_config)),
        "vae": (SMALL_VAE, diffusers.AutoencoderKL(**SMALL_VAE)),
    }
    for part, (config, model) in parts.items():
        shutil.rmtree(decoder / part)
        (decoder / part).mkdir()
        (decoder / part / "config.json").write_text(json.dumps(config))
        weights = {key: weight.contiguous() for key, weight in model.state_dict().items()}
        save_file(weights, decoder / part / "diffusion_pytorch_model.safetensors")
    scheduler = decoder / "scheduler" / "scheduler_config.json"
    settings = json.loads(scheduler.read_text()) | {"prediction_type": prediction_type}
    scheduler.write_text(json.dumps(settings))


@pytest.mark.parametrize("kind", UNETS)
def test_the_host_draws_what_diffusers_draws(host: Host, made: str, kind: str) -> None:
    name = kind.replace(" ", "-")
    prediction = "v_prediction" if len(kind) % 2 else "epsilon"
    write_checkpoint(host, name, SMALL_UNET | UNETS[kind], prediction)
    graph = Graph()
    load = graph.add("BLIP3U_LoadModel", checkpoint=name, weight_dtype="auto")
    features = graph.add("TestLatent", file=made, key="c10.features")
    drawn = graph.add(
        "BLIP3U_Decode",
        decoder=output(load, 2),
        vae=output(load, 3),
        features=features,
        seed=7,
        steps=5,
        cfg=2.0,
        width=0,
        height=0,
        denoise=1.0,
    )
    found, grid = tensors(host, graph, drawn, features)

    checkpoint = open_checkpoint(host.base / "models" / "blip3u" / name)
    decoder = Decoder.from_checkpoint(checkpoint, "cpu", torch.float32)
    assert decoder.picture_size == (32, 32)
    pair = [UNetCondition.of_features(f, (32, 32)) for f in (grid, torch.zeros_like(grid))]
    noise = item_noise(7, 1, decoder.latent_shape((32, 32)))
    latents = decoder.sample(*pair, noise, steps=5, guidance_scale=2.0)
    assert_close(found, decoder.to_pictures(latents), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("resnet_time_scale_shift", "scale_shift"),
        ("layers_per_block", [1, 2]),
        ("attention_head_dim", [2, 4]),
        ("addition_embed_type", None),
    ],
)
def test_a_unet_of_another_kind_is_refused(host: Host, setting: str, value: object) -> None:
    name = f"other-{setting}"
    write_checkpoint(host, name, SMALL_UNET, "epsilon")
    config = host.base / "models/blip3u" / name / "diffusion-decoder/unet/config.json"
    both = {"down_block_types": ["CrossAttnDownBlock2D"] * 2}
    config.write_text(json.dumps(SMALL_UNET | both | {setting: value}))
    graph = Graph()
    load = graph.add("BLIP3U_LoadModel", checkpoint=name, weight_dtype="auto")
    sigmas = graph.add("BLIP3U_DecoderSigmas", decoder=output(load, 2), steps=2, denoise=1.0)
    graph.add("TestSave", value=sigmas, name="bad")
    assert setting in host.failure(graph)


def test_an_aspect_ratio_sets_both_sides(host: Host) -> None:
    graph = Graph()
    load = graph.add("BLIP3U_LoadModel", checkpoint=TINY, weight_dtype="fp32")
    models = {"decoder": output(load, 2), "vae": output(load, 3)}
    tokens = graph.add("BLIP3U_VisualTokens", llm=load, prompt="a red circle", template="caption")
    features = graph.add(
        "BLIP3U_ClipFeatureSampler",
        model=output(load, 1),
        positive=tokens,
        negative=output(tokens, 1),
        seed=0,
        steps=1,
        cfg=1.0,
        sampler_name="euler",
        batch_size=1,
        denoise=1.0,
    )
    drawing = {"seed": 0, "steps": 1, "cfg": 1.0, "width": 0, "height": 0, "denoise": 1.0}
    wide = graph.add("BLIP3U_Decode", **models, features=features, **drawing, aspect_ratio="16:9")
    (picture,) = tensors(host, graph, wide)
    assert tuple(picture.shape) == (1, 96, 168, 3)
    graph[wide[0]]["inputs"]["width"] = 128
    assert "expected one or the other" in host.failure(graph)
