"""The counters behind `benchmarks/speed/paper.py`, against torch's own and against formulas."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import answers, million, paper
from benchmarks.speed.cost import GPUS, Gpu, StageCost
from benchmarks.speed.counting import count, real_bytes
from benchmarks.speed.paper import BF16, INT8, Choice
from benchmarks.speed.sizes import published_shapes, small_numbers
from benchmarks.speed.stages import DecoderWork, ModelWork, meta
from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.nextdit import NextDiT

TINY = NextDiTConfig(
    in_channels=8,
    dim=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    ffn_dim=24,
    condition_dim=12,
    input_size=2,
)


def test_flops_are_those_of_torchs_counter_on_real_numbers():
    inputs = torch.zeros(2, 8, 3, 3), torch.tensor([5.0, 7.0]), torch.zeros(2, 5, 12)
    as_products = sdpa_kernel(SDPBackend.MATH)  # the counter does not know the CPU's kernel
    with FlopCounterMode(display=False) as expected, torch.no_grad(), as_products:
        NextDiT(TINY)(*inputs)
    on_meta = NextDiT(TINY, device="meta")
    work = count(lambda: on_meta(*(tensor.to("meta") for tensor in inputs)))
    assert work.flops == expected.get_total_flops()


def test_a_product_reads_both_matrices_and_writes_one():
    a, b = meta(3, 4), meta(4, 5)
    work = count(lambda: a @ b)
    assert [(o.flops, o.num_bytes) for o in work.operations] == [
        (2 * 3 * 4 * 5, 2 * (3 * 4 + 4 * 5 + 3 * 5))
    ]


def test_views_launch_nothing_and_changes_in_place_do():
    x = meta(4, 6)
    assert count(lambda: x.view(6, 4).transpose(0, 1)[1:].unflatten(0, (1, -1))).launches == 0
    assert count(lambda: x.add_(1)).launches == 1
    assert count(lambda: torch.empty_like(x)).launches == 0


def test_attention_is_one_kernel_that_reads_shared_heads_once():
    q, k = meta(2, 4, 6, 8), meta(2, 1, 5, 8)
    work = count(lambda: F.scaled_dot_product_attention(q, k.expand(-1, 4, -1, -1), k))
    assert (work.launches, work.flops) == (1, 2 * 2 * 4 * 6 * 5 * (8 + 8))
    assert work.num_bytes == 2 * (2 * q.numel() + 2 * k.numel())
    assert real_bytes(k.expand(-1, 4, -1, -1)) == real_bytes(k)


def test_peak_is_what_is_alive_at_once():
    x = meta(1000)  # 2000 bytes, made outside: not counted

    def run():
        y = x * 2
        y = y * 2  # both alive for a moment
        return y * 2

    assert count(run).peak_bytes == 2 * 2000


def test_computing_on_the_cpu_does_not_count():
    assert count(lambda: torch.ones(3) + 1).launches == 0


@pytest.fixture(scope="module")
def model() -> ModelWork:
    return ModelWork("8b")


def test_parameters_are_the_published_ones(model: ModelWork):
    assert model.llm_parameters + model.dit_parameters == 9_654_567_840
    assert model.dit_parameters == pytest.approx(1.365e9, rel=1e-3)
    assert ModelWork("4b").llm_parameters < 4e9  # the tied output layer counts once


def test_flops_of_a_dit_step_follow_the_formula(model: ModelWork):
    c, tokens, rows = model.dit.config, 64, 2 * 64
    square = 2 * c.dim * c.dim
    attention = 4 * tokens * c.dim  # scores and sums, per query
    ffn = 6 * c.dim * c.ffn_dim
    outer = 4 * c.dim * c.in_channels
    null_layer = 4 * square + attention + ffn  # q, k, v, out; no cross-attention
    own_layer = null_layer + square + attention
    step = rows * outer + c.num_layers * tokens * (null_layer + own_layer)
    one, two = (model.dit_ours(steps).flops for steps in (1, 2))
    modulation = 2 * (256 + 1024) * 1024 + 2 * 2 * 1024 * (4 * c.num_layers + 1) * c.dim
    assert two - one == step + modulation
    plain = model.dit_plain(1).flops
    assert 0.80 < step / plain < 0.85  # what is necessary at each step


def test_flops_of_the_outer_blocks_follow_the_formula():
    """At depth 3: convolutions, and what makes the time's embedding, on two rows of 128 x 128."""

    def convolution(inputs: int, outputs: int, kernel: int = 3) -> int:
        return 2 * kernel * kernel * inputs * outputs * 128 * 128

    def block(inputs: int, outputs: int) -> int:
        skip = convolution(inputs, outputs, 1) if inputs != outputs else 0
        time = 2 * 1280 * outputs
        return convolution(inputs, outputs) + convolution(outputs, outputs) + skip + time

    embeddings = 2 * 1280 * (320 + 1280) + 2 * 1280 * (1792 + 6 * 256 + 1280)
    ends = convolution(4, 320) + convolution(320, 4)
    blocks = 2 * block(320, 320) + block(960, 320) + 2 * block(640, 320)
    decoder = DecoderWork()
    assert decoder.outer_step(3).flops == 2 * (embeddings + ends + blocks)
    with pytest.raises(ValueError, match="depth is 2, expected 3 or 4"):
        decoder.outer_step(2)


def test_the_estimates_say_which_goals_they_reach(monkeypatch: pytest.MonkeyPatch):
    work = count(lambda: meta(4, 4) @ meta(4, 4))
    found = {name: StageCost(name, work, 1e9) for name in ("tokens", "dit", "unet", "vae")}
    slow = {**found, "unet": StageCost("unet", work * 10**6, 1e9)}  # six seconds of launches
    monkeypatch.setattr(paper, "CHOICES", (Choice("as it is"), Choice("small", form=INT8)))
    lines = list(paper.goal_lines({("8b", BF16): slow, ("8b", INT8): found}))
    assert ["reached first by small" in line for line in lines] == [True, False, False]
    assert "reached first by as it is (6.00 s)" in lines[1]


def test_an_answer_reads_small_matrices_once_a_token_at_the_kernels_share():
    card = Gpu("card", 1e30, 1e12, 80e9, 1e10)
    work = count(lambda: meta(1, 4) @ meta(4, 4))
    shapes = {
        "model.layers.0.mlp.up_proj.weight": (2**16, 2**12),
        "model.layers.0.input_layernorm.weight": (2**12,),
        "lm_head.weight": (2**17, 2**12),
    }
    matrices = answers.few_rows_matrices(shapes, "nvfp4")
    assert matrices == ((2**28, 0.5625), (2**29, 1.0))
    assert answers.few_rows_matrices(shapes, "int8") == ((2**28, 1.0), (2**29, 1.0))
    stage = StageCost("answer", work, 1e9, 64, 3e9)
    ours = answers.FewRowsAnswer(**vars(stage), matrices=matrices)
    cast = 3e9 / 0.8e12
    token = (2**28 * 0.5625 + 2**29) / 0.7e12 - 2 * (2**28 + 2**29) / 0.8e12
    assert ours.gpu_seconds(card) == pytest.approx(stage.kernel_seconds(card) + cast + 63 * token)
    assert ours.streamed_bytes(card) == stage.streamed_bytes(card)


def test_answers_say_which_goals_they_reach():
    work = count(lambda: meta(4, 4) @ meta(4, 4))
    slow, fast = StageCost("a", work * 400_000, 1e9), StageCost("b", work, 1e9)  # 2.4 s of launches
    assert ["MISSED" in line for line in answers.goal_lines({"slow": slow})] == [True, False]
    assert all(
        "reached" in line and "fast" in line
        for line in answers.goal_lines({"slow": slow, "fast": fast})
    )


def test_assumptions_are_printed_with_their_numbers():
    said = "\n".join(paper.assumptions())
    links = [f"{card.link / 1e9:.0f} GB/s" for card in GPUS]
    for number in ("60%", "80%", "70%", "0.5625", "6 us", "1.2 GB", "40 tokens", *links):
        assert number in said, number


def test_flops_of_reading_are_two_per_weight_and_token(model: ModelWork):
    length = 104
    weights = small_numbers("llm", published_shapes(model.name)["llm"])
    attention = 4 * length * length * model.text_config.hidden_size * 28
    assert model.read(length).flops == 2 * length * weights + attention


def test_an_answers_token_moves_all_weights_of_the_text_model_once(model: ModelWork):
    config = model.text_config
    weights = (
        small_numbers("llm", published_shapes(model.name)["llm"])
        + config.vocab_size * config.hidden_size
    )
    assert model.answer_token().num_bytes == pytest.approx(2 * weights, rel=0.03)


def test_what_does_not_fit_is_streamed_and_nothing_else():
    work = count(lambda: meta(4, 4) @ meta(4, 4))
    big, small = (StageCost("s", work, weight_bytes=size, passes=3) for size in (20e9, 1e9))
    h100, _, small_card = GPUS
    assert big.streamed_bytes(h100) == 0
    assert big.streamed_bytes(small_card) == pytest.approx(20e9 - (8e9 - 1.2e9), rel=1e-6)
    assert small.streamed_bytes(small_card) == 0
    assert big.limit(small_card) == "link"
    assert math.isclose(big.seconds(small_card), 3 * big.streamed_bytes(small_card) / 13e9)


def test_the_page_on_batches_has_the_estimates_as_they_are_printed():
    page = (Path(__file__).parents[2] / "docs" / "batch.md").read_text("utf-8")
    assert all(million.caption_line(side) in page for side in million.GRIDS)
    assert (
        million.line("pictures of 1024 x 1024, 50 decoder steps", 1.78).rpartition("| ")[0] in page
    )
