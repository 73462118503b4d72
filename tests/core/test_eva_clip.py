"""EVA-CLIP on random weights: dimensions from the weights, pictures of every shape, bad input."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from blip3u_core.features.eva_clip import EvaClip, EvaClipConfig, crop_pictures, stretch_pictures

CONFIG = EvaClipConfig(
    patch_size=8,
    num_patches=8,
    width=24,
    num_layers=2,
    num_heads=3,
    mlp_width=40,
    pooling=2,
    final_norm=True,
)


def random_tower(config: EvaClipConfig) -> EvaClip:
    generator = torch.Generator().manual_seed(0)
    tower = EvaClip(config)
    for weight in tower.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=generator)
    return tower.requires_grad_(False)


def shapes_of(tower: EvaClip) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in tower.state_dict().items()}


@pytest.mark.parametrize("final_norm", [False, True])
def test_dimensions_are_read_off_the_weights(final_norm):
    config = replace(CONFIG, final_norm=final_norm)
    json = {"vision_cfg": {"head_width": 8}, "gen_pooling": "early_pool2d_2"}
    assert EvaClipConfig.from_weights(json, shapes_of(random_tower(config))) == config


def test_pooling_is_the_mean_of_square_groups_row_by_row():
    tower = random_tower(CONFIG)
    patches = torch.arange(64.0).view(1, 64, 1).expand(1, 64, 24)
    features = tower.pool(patches)
    assert features.shape == (1, 24, 4, 4)
    assert features[0, 0, 0, 1] == (2 + 3 + 10 + 11) / 4


def test_a_picture_in_a_batch_equals_the_picture_alone():
    tower = random_tower(CONFIG)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    together = tower.clip_features(pixels)
    assert_close(together[1:2], tower.clip_features(pixels[1:2]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 5, 300, 3), (1, 64, 64, 4)])
@pytest.mark.parametrize("prepare", [crop_pictures, stretch_pictures])
def test_pictures_of_any_shape_fit(prepare, shape):
    assert prepare(torch.rand(shape), 64).shape == (shape[0], 3, 64, 64)


def test_crop_keeps_the_middle_and_squash_keeps_everything():
    picture = torch.zeros(1, 64, 192, 3)
    picture[:, :, 64:128] = 1
    assert crop_pictures(picture, 64).min() > 1
    assert stretch_pictures(picture, 64)[..., 0].max() < 0


def test_a_broken_picture_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        crop_pictures(torch.full((1, 8, 8, 3), float("nan")), 64)
    with pytest.raises(ValueError, match=r"expected \(B, H, W, 3\)"):
        crop_pictures(torch.rand(8, 8, 3), 64)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"gen_pooling": "early_pool2d_2"}, "head_width"),
        ({"vision_cfg": {"head_width": 5}, "gen_pooling": "early_pool2d_2"}, "head_width 5"),
        ({"vision_cfg": {"head_width": 8}, "gen_pooling": "late"}, "gen_pooling 'late'"),
        ({"vision_cfg": {"head_width": 8}, "gen_pooling": "early_pool2d_3"}, "3 x 3 pooling"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config, text):
    with pytest.raises(ValueError, match=text):
        EvaClipConfig.from_weights(config, shapes_of(random_tower(CONFIG)))


def test_weights_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"no EVA-CLIP tower.*conv_in"):
        EvaClipConfig.from_weights({}, {"conv_in.weight": (8, 3, 3, 3)})
