"""The benchmark for graphics cards, in small and on the processor."""

import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.speed import ways
from benchmarks.speed.device_stages import STAGES, small
from benchmarks.speed.ways import EAGER, GRAPH, SMALL, Built, Fp8Linear, Int4Linear, why_not
from harness.recorded import record

ROOF = gpu.Roof(flops=1e12, num_bytes=1e11)
CPU = torch.device("cpu")


def test_the_roofline_is_what_binds():
    assert ROOF.seconds(10**12, 0) == pytest.approx(1.0)
    assert ROOF.seconds(0, 10**11) == pytest.approx(1.0)
    assert ROOF.seconds(10**12, 2 * 10**11) == pytest.approx(2.0)
    fp8 = gpu.Roof(flops=1e12, num_bytes=1e11, fp8_flops=2e12)
    assert fp8.seconds(10**12, 0, fp8=True) == pytest.approx(0.5)


def test_every_stage_runs_every_way_that_a_processor_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    bench = gpu.Bench(CPU, ROOF)
    rows = list(bench.rows(small(), STAGES))
    by_way = {way: [row.name for row in rows if row.way == way] for way in {r.way for r in rows}}
    names = [name for name, _, _ in STAGES]
    with_matrices = [name for name in names if name.startswith(("LLM", "DiT", "decoder UNet"))]
    assert by_way == {
        EAGER: names,
        "fp8, eager": with_matrices,
        "4 bit, eager": with_matrices,
    }
    for row in rows:
        assert row.seconds > 0
        assert row.peak_bytes > 0
        assert row.share > 0
        assert f"| {row.name} | {row.way} |" in gpu.line(row)
    assert bench.skipped["compiled: needs a card"] == names
    for kind in ("nvfp4", "int8"):
        reason = f"{kind}: needs Triton and an NVIDIA card of compute capability 8.0"
        assert bench.skipped[reason] == ["LLM: a token of an answer"]
        reason = f"{kind}: the kernel is for few rows, as of an answer's tokens"
        assert set(bench.skipped[reason]) == set(with_matrices) - {"LLM: a token of an answer"}
    assert set(bench.skipped["CUDA graph: needs a card"]) < set(names)


@pytest.mark.parametrize(("kind", "largest_error"), [(Fp8Linear, 0.06), (Int4Linear, 0.2)])
@pytest.mark.parametrize("bias", [True, False])
def test_small_layers_multiply_nearly_the_same(kind, largest_error: float, bias: bool):
    layer = nn.Linear(64, 48, bias, dtype=torch.bfloat16).requires_grad_(False)
    x = torch.randn(2, 5, 64, dtype=torch.bfloat16)
    exact, found = layer(x).float(), kind(layer)(x).float()
    assert found.shape == exact.shape
    assert 0 < (found - exact).norm() / exact.norm() < largest_error


@pytest.mark.parametrize(("kind", "largest_error"), [(ways.NvFp4Rows, 0.12), (ways.Int8Rows, 0.02)])
def test_an_answers_token_is_timed_by_the_kernel_of_few_rows(
    kind, largest_error: float, monkeypatch: pytest.MonkeyPatch
):
    def kernel(x, matrix, bias):
        y = x.float() @ matrix.rows(torch.arange(matrix.shape[0])).T
        return (y if bias is None else y + bias.float()).to(x.dtype)

    with pytest.raises(RuntimeError, match="is off"):
        kind(nn.Linear(64, 48))(torch.randn(1, 64))
    monkeypatch.setattr(ways, "kernel_for", lambda device: kernel)
    layer = nn.Linear(64, 48, dtype=torch.bfloat16).requires_grad_(False)
    x = torch.randn(1, 16, 64, dtype=torch.bfloat16)
    exact, found = layer(x).float(), kind(layer)(x).float()
    assert found.shape == exact.shape
    assert 0 < (found - exact).norm() / exact.norm() < largest_error
    name = "nvfp4" if kind is ways.NvFp4Rows else "int8"
    assert SMALL[name] is kind
    rows = {"LLM: a token of an answer": f"{name}, eager", "LLM: visual tokens": None}
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    for stage in STAGES:
        if stage[0] in rows:
            ways_of = [row.way for row in gpu.Bench(CPU, ROOF)._kind(small(), stage, name)]
            assert ways_of == [rows[stage[0]]] * (rows[stage[0]] is not None)


def test_a_card_that_lacks_a_product_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    network = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict()])})
    network["layers"][0]["feed_forward"] = nn.ModuleDict({"linear_1": nn.Linear(32, 32)})
    built, card = Built(lambda: None, network, "dit"), torch.device("cuda")
    assert why_not("fp8", built, card) == "needs compute capability 8.9, this card has 8.6"
    assert [why_not(way, built, card) for way in ("4 bit", EAGER, GRAPH)] == [None] * 3
    assert why_not("fp8", Built(lambda: None, network), card) is not None
    assert set(SMALL) == {"fp8", "4 bit", "nvfp4", "int8"}


def test_what_does_not_fit_or_fails_costs_a_row(monkeypatch: pytest.MonkeyPatch):
    def full(sizes, device):
        raise torch.OutOfMemoryError("full")

    def broken(sizes, device):
        def run():
            if device.type == "cpu":
                raise RuntimeError("no such kernel\nmore")
            return torch.ones(4, device=device) + 1

        return Built(run, nn.Identity())

    bench = gpu.Bench(CPU, ROOF)
    assert list(bench.rows(small(), [("large", full, 1), ("odd", broken, 1)])) == []
    assert bench.skipped["eager: does not fit"] == ["large"]
    assert bench.skipped["eager: no such kernel"] == ["odd"]


def test_the_graph_of_an_answer_is_made_of_the_step_that_answers_take(
    monkeypatch: pytest.MonkeyPatch,
):
    """On a card. Here a recording on the processor stands for it."""
    made: list[gpu.Run] = []

    def as_graph(run: gpu.Run) -> gpu.Run:
        made.append(run)
        return record(run)

    monkeypatch.setattr(gpu, "as_graph", as_graph)
    monkeypatch.setattr(gpu, "why_not", lambda way, built, device: None)
    (stage,) = (stage for stage in STAGES if stage[0] == "LLM: a token of an answer")
    rows = list(gpu.Bench(CPU, ROOF)._kind(small(), stage, None))
    assert [row.way for row in rows] == [EAGER, GRAPH]
    (step,) = made
    place = step.__self__._places.place
    assert place.item() - step.__self__.cache.length == 1 + gpu.WARM_UP + gpu.ROUNDS


def test_no_compilation_begins_when_the_time_is_up():
    bench = gpu.Bench(CPU, ROOF, ends=0.0)
    assert list(bench._compiled(small(), STAGES[0])) == []
    assert bench.skipped == {"compiled: no time left": [STAGES[0][0]]}


def test_the_device_is_measured_first():
    roof = gpu.measure_roof(CPU, 64, 2**16)
    assert roof.flops > 0
    assert roof.num_bytes > 0
    assert roof.fp8_flops is None
