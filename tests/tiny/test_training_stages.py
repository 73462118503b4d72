"""One step of every training stage, and that a resumed run does what an unbroken one does."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blip3u_core.language.prompt import INSTRUCTION_REQUEST, QUESTION_REQUEST
from small_world.samples import assistant, dialogue_sample, user
from small_world.world import Object, Scene
from training import llm, llm_data, tower, unet, vae, vision_encoder
from training.average import average
from training.common import Run, Schedule, StepRng, read_safetensors, write_safetensors
from training.muon import Muon
from training.scenes import render_batch, sample_scenes

SHORT = Schedule(steps=4, lr=1e-3, batch=3, warmup=2, ema=0.9, log_every=1, save_every=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the trainers run: several threads add gradients in an order that varies."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what later stages take from earlier ones, at its random start."""
    folder = tmp_path_factory.mktemp("runs")
    write_safetensors(tower.TowerTraining().state_dict(), folder / "tower.safetensors", {})
    write_safetensors(vision_encoder.VisionEncoder().state_dict(), folder / "eyes.safetensors", {})
    return folder


class RestingVae:
    """Stands for the trained VAE: one latent is the mean colour of its pixels."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(pictures, 8)
        return torch.cat([small, small[:, :1]], 1)


def make_stages(folder: Path) -> dict[str, tuple[torch.nn.Module, Callable]]:
    features = vision_encoder.FeatureTower(folder)
    clip, seeing, auto = tower.TowerTraining(), vision_encoder.VisionEncoder(), vae.VaeTraining()
    decoder, language = unet.UNetTraining(RestingVae(), features), llm.LlmTraining(features)
    auto.begin()
    return {
        "tower": (clip, lambda rng: clip.losses(rng, 3)),
        "eyes": (seeing, lambda rng: seeing.losses(rng, 3)),
        "vae": (auto, lambda rng: auto.losses(rng, 3, 0)),
        "unet": (decoder, lambda rng: decoder.losses(rng, 0, 0, 3)),
        "llm": (language, lambda rng: language.losses(rng, 0, 6)),
    }


@pytest.mark.parametrize(
    ("name", "muon"),
    [("tower", False), ("eyes", False), ("vae", False), ("unet", False), ("llm", True)],
)
def test_a_step_moves_and_a_resumed_run_equals_an_unbroken_one(
    name: str, muon: bool, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(unet, "POOL", 4)
    schedule, outer = replace(SHORT, muon=muon), llm.OUTER
    module, losses = make_stages(runs)[name]
    start = {k: v.clone() for k, v in module.state_dict().items()}
    run = Run(name, module, schedule, tmp_path, outer)
    run.go(losses, seed=1, until=2)
    assert any(not torch.equal(start[k], v) for k, v in module.state_dict().items())
    run.go(losses, seed=1)
    unbroken = run.averaged_weights()

    module, losses = make_stages(runs)[name]
    module.load_state_dict(start)
    first = Run(name, module, schedule, tmp_path / "again", outer)
    first.go(losses, seed=1, until=2)
    module, losses = make_stages(runs)[name]
    second = Run(name, module, schedule, tmp_path / "again", outer)
    assert second.resume()
    assert second.step == 2
    second.go(losses, seed=1)
    for key, value in second.averaged_weights().items():
        torch.testing.assert_close(value, unbroken[key], rtol=0, atol=1e-6, msg=key)


def test_muon_steps_as_torchs_does_in_bfloat16():
    generator = torch.Generator().manual_seed(0)
    shapes = ((24, 40), (24, 40), (48, 16))
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    start = [param.detach().clone() for param in ours]
    theirs = [torch.nn.Parameter(param.clone()) for param in start]
    options = {"lr": 0.01, "weight_decay": 0.1}
    optimizers = (
        Muon(ours, **options),
        torch.optim.Muon(theirs, **options, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert (one - other).norm() / moved < 0.02  # bfloat16 has 8 bits


def test_answers_that_count_look_at_what_they_count():
    scene = Scene("day", (Object("star", "red", "big", 0, 1), Object("ring", "red", "small", 2, 2)))
    turns = [
        user(QUESTION_REQUEST, "how many red objects are there?", scene),
        assistant("two", counted=(1, 8)),
        user(QUESTION_REQUEST, "is there a blue star?"),
        assistant("no", counted=()),
    ]
    sequence = llm_data.encode(dialogue_sample("question", turns))
    (start,) = sequence.starts
    (first, two), (second, no) = sequence.counts
    assert two == (start - 1, start + 1, start + 8)
    assert no == (start - 1,)
    assert sequence.learned[first + 1]
    assert not sequence.learned[first]
    assert second > first
    batch = llm_data.collate([sequence])
    assert batch.counted.sum(1).tolist() == pytest.approx([1, 1])


def test_changed_cells_look_at_the_sign_and_others_at_themselves():
    before = Scene("day", (Object("star", "red", "big", 0, 0), Object("ring", "blue", "big", 1, 1)))
    after = before.with_objects((replace(before.objects[0], row=0, col=2), before.objects[1]))
    request = user(INSTRUCTION_REQUEST, "move the star to the top right", before)
    batch = llm_data.collate([llm_data.encode(dialogue_sample("edit", [request], after))])
    sign = int(batch.queries[0, 0]) - 1
    (pads,) = batch.pads.tolist()
    assert batch.touched[0].tolist() == [sign, pads[1], sign, *pads[3:]]


def test_empty_moments_warm_up_again():
    schedule = Schedule(steps=100, lr=1.0, batch=1, warmup=10, flat=0.5)
    assert schedule.lr_at(40) == 1.0
    assert schedule.lr_at(40, began=40) == pytest.approx(0.1)
    assert schedule.lr_at(50, began=40) == 1.0


def test_folded_features_are_standard_and_the_same_up_to_scale():
    torch.manual_seed(0)  # of the tower's random start
    pictures = render_batch(sample_scenes(StepRng.at(0, 0).python, 32))
    clip = tower.TowerTraining(replace(tower.TOWER, num_layers=2)).requires_grad_(False).tower
    before = clip.clip_features(tower.tower_pixels(pictures))
    tower.fold_statistics(clip, pictures)
    after = clip.clip_features(tower.tower_pixels(pictures))
    mean, std = before.mean((0, 2, 3), keepdim=True), before.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(after, (before - mean) / std, rtol=1e-3, atol=1e-3)


def test_folded_latents_are_standard_and_draw_the_same():
    torch.manual_seed(0)  # of the VAE's random start
    training = vae.VaeTraining()
    training.begin()
    auto = training.vae.requires_grad_(False)
    pictures = render_batch(sample_scenes(StepRng.at(0, 0).python, 8))
    before = auto.encode(pictures * 2 - 1).latent_dist.mode()
    drawn = auto.decode(before).sample
    vae.fold_statistics(auto, before.mean((0, 2, 3)), before.std((0, 2, 3)))
    after = auto.encode(pictures * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(after.std((0, 2, 3)), torch.ones(4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(auto.decode(after).sample, drawn, rtol=1e-3, atol=1e-3)


def test_plainest_autoencoder_keeps_the_colours():
    training = vae.VaeTraining()
    training.begin()
    big = Scene("snow", (Object("square", "red", "big", 1, 1),))
    picture = render_batch([big]) * 2 - 1
    with torch.no_grad():
        drawn = training.vae.decode(training.vae.encode(picture).latent_dist.mode()).sample
    for y, x in ((5, 5), (64, 64)):
        torch.testing.assert_close(drawn[0, :, y, x], picture[0, :, y, x], rtol=0, atol=0.45)


def test_language_batches_share_one_prefix(runs: Path):
    """Reading the system turn once gives the hidden states of reading it in every row."""
    training = llm.LlmTraining(vision_encoder.FeatureTower(runs)).requires_grad_(False)
    sequences = llm_data.sample_sequences(StepRng.at(0, 0).python, 5)
    shared, whole = llm_data.collate(sequences), llm_data.collate(sequences, skip=False)
    seen = training.eyes.encode_images(render_batch(shared.shown))
    with_prefix = training.hidden(shared, seen, training.read_prefix())
    without = training.hidden(whole, seen, training.read_prefix())
    torch.testing.assert_close(
        with_prefix[shared.queries], without[whole.queries], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(with_prefix[shared.pads], without[whole.pads], rtol=1e-4, atol=1e-4)


def test_the_mean_of_two_exports_is_between_them(tmp_path):
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    write_safetensors({"a": torch.zeros(3), "b": torch.ones(2).half()}, before, {})
    write_safetensors({"a": torch.ones(3), "b": torch.ones(2).half()}, after, {})
    average(after, before, 0.25)
    mean = read_safetensors(after)
    assert mean["a"].tolist() == [0.25] * 3
    assert mean["b"].dtype == torch.float16
    write_safetensors({"a": torch.ones(4)}, before, {})
    with pytest.raises(ValueError, match="differ in 2 tensors"):
        average(after, before)
