"""What the published sizes weigh in 8 and 4 bits, counted; and that the answers' table runs."""

import pytest

from benchmarks import quantized


def test_memory_is_counted_from_the_published_shapes():
    shapes = quantized.published_shapes("8b")
    found = {kind: quantized.gigabytes("llm", shapes["llm"], kind) for kind in quantized.BYTES}
    assert found["bf16"] == pytest.approx(16.58, abs=0.01)
    assert found["int8"] == pytest.approx(10.05, abs=0.01)
    assert found["nvfp4"] == pytest.approx(7.20, abs=0.01)
    assert quantized.gigabytes("unet", shapes["unet"], "bf16") == pytest.approx(5.05, abs=0.01)


def test_answers_of_a_converted_checkpoint_are_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantized, "BYTES", {"bf16": 2.0, "int8": 1.0})
    plain, small = quantized.answer_table(2)[2:]
    assert plain.startswith("| as trained | 2 of 2 |")
    assert small.startswith("| int8 | ")
    apart = float(small.split("|")[-2])
    assert 0 <= apart < 0.1
