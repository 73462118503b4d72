"""The decoder's parts on random weights: against diffusers' own, and by properties."""

import pytest
import torch
from torch.testing import assert_close

from blip3u_core.decoder.decoder import KeepPlaces, UNetCondition, integrate_guided_diffusion
from blip3u_core.decoder.noise_schedule import NoiseSchedule
from blip3u_core.decoder.sizes import size_of_ratio
from blip3u_core.decoder.vae import Vae, VaeConfig

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
VAE = {
    "block_out_channels": [8, 12, 16],
    "layers_per_block": 1,
    "latent_channels": 8,
    "scaling_factor": 0.5,
    "norm_num_groups": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear"])
def test_schedule_equals_diffusers(spacing, beta_schedule, prediction_type):
    import diffusers

    config = SCHEDULER | {
        "timestep_spacing": spacing,
        "beta_schedule": beta_schedule,
        "prediction_type": prediction_type,
    }
    theirs = diffusers.EulerDiscreteScheduler.from_config(config)
    ours = NoiseSchedule.from_json(config)
    for steps in (1, 7, 30, 50):
        theirs.set_timesteps(steps)
        assert_close(ours.sigmas(steps), theirs.sigmas, atol=0, rtol=2e-7)
        assert_close(ours.timesteps(steps), theirs.timesteps.float(), atol=0, rtol=0)
        start = ours.start_scale(float(ours.sigmas(steps)[0]))
        assert start == pytest.approx(float(theirs.init_noise_sigma), rel=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_sampling_equals_the_diffusers_loop(prediction_type):
    import diffusers

    from blip3u_core.decoder.decoder import Decoder

    config = SCHEDULER | {"prediction_type": prediction_type}
    torch.manual_seed(0)
    unet = tiny_unet(diffusers)
    decoder = Decoder(unet, Vae(VaeConfig.from_json(VAE)), NoiseSchedule.from_json(config))
    positive, null = (
        UNetCondition.of_features(noise(1, 24, 2, 2, seed=s), (64, 64)) for s in (1, 2)
    )
    ours = decoder.sample(positive, null, noise(1, 8, 16, 16), steps=5, guidance_scale=2.0)

    scheduler = diffusers.EulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(5)
    both = positive + null
    added = {"text_embeds": both.pooled, "time_ids": both.time_ids}
    x = noise(1, 8, 16, 16) * scheduler.init_noise_sigma
    with torch.no_grad():
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(torch.cat([x, x]), time)
            out = unet(scaled, time, both.tokens, added_cond_kwargs=added).sample
            conditional, unconditional = out.chunk(2)
            guided = unconditional + 2.0 * (conditional - unconditional)
            x = scheduler.step(guided, time, x).prev_sample
    assert_close(ours, x, atol=2e-5, rtol=0)


def tiny_unet(diffusers):
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(16, 24),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        cross_attention_dim=24,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=72,
    )
    return unet.requires_grad_(False).eval()


@pytest.mark.parametrize("mid_attention", [True, False])
@pytest.mark.parametrize("quant_conv", [True, False])
def test_vae_equals_diffusers(mid_attention, quant_conv):
    import diffusers

    config = VAE | {
        "mid_block_add_attention": mid_attention,
        "use_quant_conv": quant_conv,
        "use_post_quant_conv": quant_conv,
    }
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(**config).eval()
    ours = Vae(VaeConfig.from_json(config))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    picture, latent = noise(2, 3, 24, 32), noise(2, 8, 5, 7)
    with torch.no_grad():
        assert_close(
            ours.encode(picture), theirs.encode(picture).latent_dist.mode(), atol=1e-5, rtol=0
        )
        assert_close(ours.decode(latent), theirs.decode(latent).sample, atol=1e-5, rtol=0)
    assert ours.config.factor == 4


def test_a_known_clean_latent_is_reached_exactly():
    clean = noise(2, 4, 3, 3, seed=1)
    sigmas = NoiseSchedule.from_json(SCHEDULER).sigmas(9)
    out = integrate_guided_diffusion(
        lambda x, _: (clean, torch.zeros_like(x)), clean, clean + 5, sigmas, 1.0
    )
    assert_close(out, clean, atol=1e-5, rtol=0)


def test_kept_places_come_back_and_the_rest_is_drawn():
    source, drawn, start = (noise(1, 4, 4, 4, seed=s) for s in (1, 2, 3))
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    sigmas = NoiseSchedule.from_json(SCHEDULER).sigmas(6)
    out = integrate_guided_diffusion(
        lambda _x, _step: (drawn, drawn),
        start,
        source + sigmas[0] * start,
        sigmas,
        3.0,
        KeepPlaces(source, mask),
    )
    assert_close(out[..., :2], source[..., :2], atol=1e-5, rtol=0)
    assert_close(out[..., 2:], drawn[..., 2:], atol=1e-5, rtol=0)


def test_denoise_begins_later():
    schedule = NoiseSchedule.from_json(SCHEDULER)
    assert torch.equal(schedule.sigmas(5, denoise=0.5), schedule.sigmas(10)[-6:])
    assert len(schedule.sigmas(5, denoise=0.0)) == 0


@pytest.mark.parametrize(("steps", "denoise"), [(0, 1.0), (1001, 1.0), (600, 0.5)])
def test_steps_out_of_range_are_refused(steps, denoise):
    with pytest.raises(ValueError, match=r"decoder steps .* expected 1 to 1000"):
        NoiseSchedule.from_json(SCHEDULER).sigmas(steps, denoise)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prediction_type": "sample"}, "prediction_type 'sample'"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas True"),
        ({"beta_schedule": "cosine"}, "beta_schedule 'cosine'"),
    ],
)
def test_an_unknown_scheduler_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        NoiseSchedule.from_json(SCHEDULER | change)


def test_a_scheduler_config_without_betas_is_refused():
    with pytest.raises(ValueError, match=r"lacks .*beta_start"):
        NoiseSchedule.from_json({"num_train_timesteps": 1000})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"act_fn": "gelu"}, "act_fn 'gelu'"),
        ({"shift_factor": 0.1}, "shift_factor 0.1"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"]}, "AttnDownEncoderBlock2D"),
    ],
)
def test_a_vae_of_another_kind_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        VaeConfig.from_json(VAE | change)


def test_time_ids_are_in_the_order_of_sdxl():
    condition = UNetCondition.of_features(torch.ones(2, 4, 2, 2), (96, 128), (200, 300), (5, 7))
    assert condition.time_ids.tolist() == [[200, 300, 5, 7, 96, 128]] * 2
    assert condition.tokens.shape == (2, 4, 4)
    assert condition.pooled.shape == (2, 4)


@pytest.mark.parametrize(
    ("ratio", "large", "small"),
    [
        ("1:1", (1024, 1024), (128, 128)),
        ("4:3", (896, 1152), (112, 144)),
        ("3:4", (1152, 896), (144, 112)),
        ("16:9", (768, 1344), (96, 168)),
        ("9:16", (1344, 768), (168, 96)),
    ],
)
def test_a_ratio_keeps_the_trained_number_of_pixels(ratio: str, large: tuple, small: tuple) -> None:
    assert size_of_ratio(ratio, 1024) == large
    assert size_of_ratio(ratio, 128) == small
    assert abs(large[0] * large[1] / 1024**2 - 1) < 0.02


def test_an_unknown_ratio_is_told() -> None:
    with pytest.raises(ValueError, match="aspect_ratio is '2:1'"):
        size_of_ratio("2:1", 1024)
