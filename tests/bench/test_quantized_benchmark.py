"""What the published sizes weigh in 8 and 4 bits, counted; and that the answers' table runs."""

import pytest

from benchmarks import quantized
from blip3u_core.weights.quantized import FORMATS


def test_memory_is_counted_from_the_published_shapes():
    shapes = quantized.published_shapes("8b")
    found = {kind: quantized.gigabytes("llm", shapes["llm"], kind) for kind in quantized.KINDS}
    assert found["bf16"] == pytest.approx(16.58, abs=0.01)
    assert found["int8"] == pytest.approx(8.30, abs=0.01)
    assert found["nvfp4"] == pytest.approx(5.13, abs=0.01)  # goal: 5.2
    assert quantized.gigabytes("unet", shapes["unet"], "bf16") == pytest.approx(5.05, abs=0.01)


def test_answers_of_a_converted_checkpoint_are_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantized, "FORMATS", {"int8": FORMATS["int8"]})
    plain, small = quantized.answer_table(2)[2:]
    assert plain.startswith("| as trained | 2 of 2 |")
    assert small.startswith("| `int8` | ")
    trained, random = map(float, small.split("|")[-3:-1])
    assert 0 <= trained < 0.1
    assert 0 < random < 0.1
