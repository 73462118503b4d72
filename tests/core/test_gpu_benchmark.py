"""The benchmark for graphics cards, in small and on the processor."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.speed.device_stages import STAGES, small

ROOF = gpu.Roof(flops=1e12, num_bytes=1e11)


def test_the_roofline_is_what_binds():
    assert ROOF.seconds(10**12, 0) == pytest.approx(1.0)
    assert ROOF.seconds(0, 10**11) == pytest.approx(1.0)
    assert ROOF.seconds(10**12, 2 * 10**11) == pytest.approx(2.0)


def test_every_stage_runs_and_its_work_is_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    rows = list(gpu.measure(small(), torch.device("cpu"), ROOF))
    assert [row.name for row in rows] == [name for name, _, _ in STAGES]
    for row in rows:
        assert row.seconds > 0
        assert row.peak_bytes > 0
        assert row.share > 0
        assert f"| {row.name} | eager |" in gpu.line(row)


def test_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch):
    def full(sizes, device):
        if device.type == "meta":
            return lambda: torch.ones(4, device="meta") + 1
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(gpu, "STAGES", (("large", full, 1),))
    (row,) = gpu.measure(small(), torch.device("cpu"), ROOF)
    assert row.way == "does not fit"


def test_the_device_is_measured_first():
    roof = gpu.measure_roof(torch.device("cpu"), 64, 2**16)
    assert roof.flops > 0
    assert roof.num_bytes > 0
    assert roof.fp8_flops is None
