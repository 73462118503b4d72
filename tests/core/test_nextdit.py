"""NextDiT's own properties, on tiny random weights."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.embeddings import grid_rotations, rotate_pairs, timestep_sinusoid
from blip3u_core.features.nextdit import NextDiT, one_token_if_identical

CONFIG = NextDiTConfig(
    in_channels=12,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=4,
    ffn_dim=40,
    condition_dim=20,
    input_size=3,
)
# Velocities reach 10; another batch size is another order of summation.
ROUNDING = {"atol": 1e-4, "rtol": 1e-5}


def make_dit(config: NextDiTConfig = CONFIG) -> NextDiT:
    generator = torch.Generator().manual_seed(0)
    dit = NextDiT(config)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return dit


@pytest.fixture(scope="module")
def dit():
    return make_dit().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 12, 3, 3, generator=generator)
    return x, torch.tensor([700, 30]), torch.randn(2, 5, 20, generator=generator)


def test_an_item_alone_is_the_item_in_a_batch(dit, inputs):
    together = dit(*inputs)
    for i in range(2):
        assert_close(dit(*(t[i : i + 1] for t in inputs)), together[i : i + 1], **ROUNDING)


def test_prepared_steps_equal_forward(dit, inputs):
    x, timesteps, context = inputs
    condition = dit.prepare(context)
    for modulation, timestep in zip(
        dit.modulate(timesteps[:, None], condition.pooled).steps(), timesteps, strict=True
    ):
        expected = dit(x, timestep.expand(2), context)
        assert_close(dit.velocity(x, modulation, (condition,)), expected, **ROUNDING)


def test_rows_with_conditions_of_different_length(dit, inputs):
    x, timesteps, context = inputs
    conditions = dit.prepare(context[:1]), dit.prepare(context[1:, :2])
    pooled = torch.cat([condition.pooled for condition in conditions])
    mixed = dit.velocity(x, dit.modulate(timesteps, pooled), conditions)
    assert_close(mixed[:1], dit(x[:1], timesteps[:1], context[:1]), **ROUNDING)
    assert_close(mixed[1:], dit(x[1:], timesteps[1:], context[1:, :2]), **ROUNDING)


def test_identical_tokens_are_one_token(dit, inputs):
    x, timesteps, context = inputs
    same = context[:, :1].expand(-1, 64, -1)
    assert one_token_if_identical(same).shape == (2, 1, 20)
    assert one_token_if_identical(context) is context
    assert_close(dit(x, timesteps, same), dit(x, timesteps, same[:, :1]), **ROUNDING)


def test_a_condition_is_repeated_for_its_batch(dit, inputs):
    condition = dit.prepare(inputs[2])
    assert condition.expand(2) is condition
    assert_close(condition.expand(5).pooled, condition.pooled[[0, 1, 0, 1, 0]])
    one = dit.prepare(inputs[2][:1]).expand(3)
    assert one.keys[0].stride(0) == 0  # no copy


def test_shared_key_value_heads(inputs):
    """Grouped heads are full heads whose keys and values are repeated, neighbours together."""
    grouped = make_dit(replace(CONFIG, num_kv_heads=2))
    full = make_dit()
    state = grouped.state_dict()
    for name, weight in state.items():
        if weight.shape != full.state_dict()[name].shape and "norm_k" not in name:
            heads = weight.unflatten(0, (2, 8))
            state[name] = heads.repeat_interleave(2, 0).flatten(0, 1)
        elif "norm_k" in name:
            state[name] = weight.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1)
    full.load_state_dict(state)
    assert_close(grouped(*inputs), full(*inputs), **ROUNDING)


def test_every_weight_is_trained(inputs):
    dit = make_dit()
    dit(*inputs).square().mean().backward()
    for name, parameter in dit.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_training_after_sampling():
    """The cached rotations must not come from inference mode."""
    x = torch.randn(1, 6, 4, 8)
    with torch.inference_mode():
        grid_rotations(2, 3, 8, 123.0, x.device)
    x.requires_grad_()
    rotate_pairs(x, grid_rotations(2, 3, 8, 123.0, x.device)).sum().backward()
    assert x.grad is not None


def test_rotation_keeps_lengths_and_relative_places():
    q, k = torch.randn(2, 1, 1, 1, 8)
    table = grid_rotations(4, 4, 8, 10_000.0, q.device).view(4, 4, 1, 4, 2)

    def product(place_q, place_k):
        return (rotate_pairs(q, table[place_q][None]) * rotate_pairs(k, table[place_k][None])).sum()

    assert_close(product((0, 1), (2, 2)), product((1, 2), (3, 3)))
    assert_close(rotate_pairs(q, table[3, 2][None]).norm(), q.norm())
    assert not torch.allclose(product((0, 1), (2, 2)), product((1, 0), (2, 2)))


def test_compiled_rotation_is_the_same(monkeypatch):
    x, table = torch.randn(2, 6, 4, 8), grid_rotations(2, 3, 8, 10_000.0, torch.device("cpu"))
    expected = rotate_pairs(x, table)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_close(rotate_pairs(x, table), expected)


def test_sinusoid_starts_with_cosines():
    assert_close(timestep_sinusoid(torch.tensor([0.0]), 6), torch.tensor([[1.0] * 3 + [0.0] * 3]))


def test_velocity_traces_to_one_graph(dit, inputs):
    """No data-dependent Python: one graph, whatever the compiler."""
    x, timesteps, context = inputs
    condition = dit.prepare(context)
    modulation = dit.modulate(timesteps, condition.pooled)
    compiled = torch.compile(dit.velocity, backend="eager", fullgraph=True)
    assert_close(compiled(x, modulation, (condition,)), dit(x, timesteps, context), **ROUNDING)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (torch.zeros(1, 4, 12), r"\(1, 4, 12\).*\(B, L, 20\).*belong to the decoder"),
        (torch.zeros(1, 4, 768), r"expected visual tokens \(B, L, 20\)\. Take"),
        (torch.zeros(1, 20), "expected visual tokens"),
        (torch.zeros(1, 0, 20), "expected visual tokens"),
    ],
)
def test_conditioning_of_another_model(dit, context, message):
    with pytest.raises(ValueError, match=message):
        dit.prepare(context)


def test_latent_of_another_model(dit, inputs):
    with pytest.raises(ValueError, match="4 channels, expected 12"):
        dit(torch.zeros(2, 4, 3, 3), *inputs[1:])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="30 with 4 heads"):
        replace(CONFIG, dim=30)
