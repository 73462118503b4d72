"""Products of few rows with matrices in 4 and 8 bits: the kernel, when it is used, its check."""

import json
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blip3u_core.weights.few_rows import FewRows, QuantizedMatrix, excess, fits, kernel_for
from blip3u_core.weights.nvfp4 import dequantize_nvfp4, quantize_nvfp4

ROOT = Path(__file__).parents[2]
KINDS = ("nvfp4", "int8_tensorwise")
SHAPES = ((16, 64), (48, 528), (72, 1040))  # K less than, and no multiple of, what is read at once
ROWS = (1, 3, 16)
# Triton's interpreter multiplies the bits of bfloat16 in `tl.dot`, which is for more than one row.
DTYPES = {1: ("float32", "float16", "bfloat16"), 3: ("float32", "float16"), 16: ("float16",)}
CASES = [
    (kind, shape, rows, dtype, bias)
    for kind, shape, rows, bias in product(KINDS, SHAPES, ROWS, (True, False))
    for dtype in DTYPES[rows]
]

RUN = """
import json, sys
import torch
from blip3u_core.weights.few_rows import excess
from blip3u_core.weights.few_rows_kernel import multiply
from test_few_rows import CASES, made
for case in CASES:
    x, matrix, bias = made(*case)
    print(json.dumps(excess(multiply(x, matrix, bias), x, matrix, bias)))
"""


def quantised(kind: str, shape: tuple[int, int]) -> QuantizedMatrix:
    rng = torch.Generator().manual_seed(shape[1])
    if kind == "nvfp4":
        return QuantizedMatrix(kind, *quantize_nvfp4(torch.randn(shape, generator=rng) * 0.02))
    numbers = torch.randint(-127, 128, shape, generator=rng, dtype=torch.int8)
    return QuantizedMatrix(kind, numbers, torch.rand(shape[0], 1, generator=rng) * 1e-3)


def made(
    kind: str, shape: tuple[int, int], rows: int, dtype: str, bias: bool
) -> tuple[Tensor, QuantizedMatrix, Tensor | None]:
    """Activations (rows, K), a matrix (N, K), and a bias (N,) or none."""
    rng = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, shape[1], generator=rng).to(getattr(torch, dtype))
    return x, quantised(kind, shape), torch.randn(shape[0], generator=rng).to(x) if bias else None


@pytest.fixture(scope="module")
def excesses() -> dict[tuple, float]:
    """Of the kernel's products, in Triton's interpreter: it must be chosen before the import."""
    if find_spec("triton") is None:
        pytest.skip("this Python has no triton, which torch for CUDA brings on Linux")
    paths = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
    ended = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_multiplies_as_the_plain_matrix_does(excesses: dict, case: tuple) -> None:
    assert excesses[case] <= 1


class Plain:
    """A kernel that is right, but for a mistake, and counts its calls."""

    def __init__(self, mistake: str = "") -> None:
        self.mistake = mistake
        self.calls = 0

    def __call__(self, x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> Tensor:
        self.calls += 1
        if self.mistake == "no compiler":
            raise OSError("no C compiler")
        weights = matrix.rows(torch.arange(matrix.shape[0]))
        y = x.float() @ weights.T + (0 if bias is None else bias.float())
        if self.mistake == "one row":
            y[..., -1] *= 1.05
        if self.mistake == "halves changed places":
            y = x.float() @ weights.unflatten(1, (-1, 2)).flip(-1).flatten(1).T
        if self.mistake == "not a number":
            y[..., 0] = torch.nan
        return y.to(x.dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lead", [(), (1,), (3, 1), (16, 1), (2, 4)])
def test_few_rows_come_back_in_their_shape(kind: str, lead: tuple[int, ...]) -> None:
    matrix, kernel = quantised(kind, (48, 528)), Plain()
    products, x = FewRows(kernel), torch.randn(*lead, 528, dtype=torch.bfloat16)
    for _ in range(2):  # the first is checked
        y = products.product(x, matrix, None)
        assert y is not None
        assert (y.shape, y.dtype) == ((*lead, 48), x.dtype)
        assert excess(y.reshape(-1, 48), x.reshape(-1, 528), matrix, None) <= 1
    assert kernel.calls == 2


def test_rows_of_a_matrix_are_those_of_the_whole() -> None:
    matrix = quantised("nvfp4", (144, 1040))
    assert matrix.scale is not None
    whole = dequantize_nvfp4(matrix.numbers, matrix.scales, matrix.scale)
    some = torch.tensor([143, 0, 77])
    assert torch.equal(matrix.rows(some), whole[some])


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_kernel_is_not_for_is_left(kind: str) -> None:
    matrix, kernel = quantised(kind, (48, 528)), Plain()
    products = FewRows(kernel)
    x = torch.randn(1, 528)
    one_scale = matrix._replace(scales=matrix.scales.flatten()[0])
    turned = matrix._replace(scales=matrix.scales.t())
    left = [
        (torch.randn(17, 528), matrix),
        (torch.randn(0, 528), matrix),
        (x.double(), matrix),
        (torch.randn(1, 512), matrix),
        (x, one_scale),
        (x, turned),
        (x, matrix._replace(numbers=matrix.numbers.t().contiguous().t())),
        (x.to("meta"), matrix),
        (x.clone().requires_grad_(), matrix),
    ]
    assert [products.product(*each, None) for each in left] == [None] * len(left)
    assert kernel.calls == 0
    assert FewRows(None).product(x, matrix, None) is None
    assert products.product(x, matrix, None) is not None
    assert not fits(x, matrix, torch.zeros(48, device="meta"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "mistake", ["one row", "halves changed places", "not a number", "no compiler"]
)
def test_a_wrong_kernel_stays_off_and_says_so_once(
    kind: str, mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    matrix, kernel = quantised(kind, (600, 528)), Plain(mistake)
    products, x = FewRows(kernel), torch.randn(1, 528, dtype=torch.bfloat16)
    with caplog.at_level(logging.WARNING):
        assert [products.product(x, matrix, None) for _ in range(3)] == [None] * 3
    assert kernel.calls == 1
    assert not products.takes(x)
    (record,) = caplog.records
    assert (
        "OSError: no C compiler" if mistake == "no compiler" else "is wrong here"
    ) in record.message


def test_every_shape_is_checked_and_none_while_a_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OnCard(torch.Tensor):
        is_cuda = True

    matrix, kernel = quantised("nvfp4", (48, 528)), Plain()
    products, x = FewRows(kernel), torch.randn(1, 528).as_subclass(OnCard)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert products.product(x, matrix, None) is None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert products.product(x, matrix, None) is not None
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert products.product(x, matrix, None) is not None
    assert products.product(torch.cat([x, x]), matrix, None) is None


def test_activations_that_overflow_say_nothing_about_the_kernel() -> None:
    matrix, x = quantised("int8_tensorwise", (48, 528)), torch.full((1, 528), torch.inf)
    products = FewRows(Plain())
    y = products.product(x, matrix, None)
    assert y is not None
    assert not y.isfinite().any()
    assert products.takes(x)
    large = torch.full((1, 528), 6e4, dtype=torch.float16)
    matrix = matrix._replace(numbers=matrix.numbers.abs())
    y = products.product(large, matrix, None)
    assert y is not None
    assert y.isinf().any()
    assert products.takes(x)


def test_a_processor_has_no_kernel() -> None:
    assert kernel_for(torch.device("cpu")) is None


def test_an_old_card_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert kernel_for(torch.device("cuda")) is None
