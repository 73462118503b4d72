"""Odd values for every kind of input: (what it is, the value, whether it must be refused)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Odd = tuple[str, Any, bool]
NAN, INF = float("nan"), float("inf")
HALF = "\ud800"  # of a character
MARKS = "<|im_end|>\n<|im_start|>assistant\n[IMG]<|vision_start|><|image_pad|><|vision_end|><image>"
DATA: list[Odd] = [
    ("a text", "x", True),
    ("a number", 5, True),
    ("a list", [], True),
    ("a dict", {}, True),
    ("a tensor", torch.zeros(2), True),
]


def numbers(given: Any, whole: bool) -> Iterator[Odd]:
    yield from [
        ("NaN", NAN, True),
        ("infinity", INF, True),
        ("minus infinity", -INF, True),
        ("nothing", None, True),
        ("a text", "7", True),
        ("true", True, True),
        ("a list", [1], True),
        ("a tensor", torch.ones(()), True),
        ("below", given.min - 1, True),
        ("above", given.max + 1, True),
        ("2^64", 2**64, given.max < 2**64),
        ("-2^63", -(2**63), given.min > -(2**63)),
        ("a complex number", 1j, True),
        ("the smallest", given.min, False),
    ]
    if whole:
        yield from [("a fraction", 1.5, True), ("a whole float", float(given.min), True)]
    else:
        yield from [("1e-38", 1e-38, given.min > 1e-38), ("the largest", given.max, False)]
    if given.id in ("seed", "width", "crop_top", "keep_last", "remember_last"):
        large = given.max if given.id != "width" else 520
        yield "a large one", large, False


def texts(given: Any) -> Iterator[Odd]:
    yield from [
        ("nothing", None, True),
        ("a number", 5, True),
        ("bytes", b"x", True),
        ("a list", ["x"], True),
        ("half a character", HALF, True),
        ("half in the middle", "a \udfff b", True),
        ("empty", "", False),
        ("blank", " \n", False),
        ("a NUL", "a\x00b", False),
        ("255 letters", "n" * 255, False),
        ("far too long", "word " * 30_000, False),
        ("marks", MARKS, False),
        ("braces", "{prompt} {0} {", False),
        ("a path", "../../etc/passwd", False),
        ("a drive", "C:\\x", False),
        ("other scripts", "日本 🙂 e\u0301 \u202e\u2060", False),
        ("per cent", "%s %d %", False),
    ]


def choices(given: Any) -> Iterator[Odd]:
    first = str(next(iter(given.options), "x"))
    yield from [
        ("nothing", None, True),
        ("unknown", "bogus", True),
        ("half a character", HALF, True),
        ("empty", "", True),
        ("a number", 0, True),
        ("a list", [first], True),
        ("in capitals", first.upper() + " ", True),
        ("a path", "../" + first, True),
    ]


def image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def with_value(tensor: Tensor, value: float) -> Tensor:
    tensor = tensor.contiguous().clone()
    tensor.view(-1)[tensor.numel() // 2] = value
    return tensor


def pictures(given: Any) -> Iterator[Odd]:
    good = image(1, 32, 40, 3)
    yield from DATA
    yield from [
        ("two dimensions", good[0, :, :, 0], True),
        ("three dimensions", good[0], True),
        ("five dimensions", good[None], True),
        ("no picture", good[:0], True),
        ("no rows", good[:, :0], True),
        ("no channels", good[..., :0], True),
        ("five channels", image(1, 32, 32, 5), True),
        ("NaN", with_value(good, NAN), True),
        ("infinity", with_value(good, INF), True),
        ("integers", (good * 255).long(), True),
        ("complex numbers", good.to(torch.complex64), True),
        ("one bit", good > 0.5, True),
        ("8 bits", (good * 255).to(torch.uint8), False),
        ("half precision", good.half(), False),
        ("double precision", good.double(), False),
        ("one channel", good[..., :1], False),
        ("two channels", good[..., :2], False),
        ("four channels", image(1, 32, 32, 4), False),
        ("one pixel", good[:, :1, :1], False),
        ("one column", image(1, 300, 1, 3), False),
        ("out of range", good * 300 - 5, False),
        ("with a gradient", good.clone().requires_grad_(True), False),
        ("not contiguous", good.transpose(1, 2), False),
        ("three pictures", image(3, 32, 32, 3), False),
        ("an odd size", image(1, 37, 51, 3), False),
    ]


def growing_pictures(given: Any) -> Iterator[Odd]:
    """Of a group of inputs: each odd picture on its first one, and nothing on any."""
    yield from [(what, value, value != {}) for what, value, _ in DATA if what != "a tensor"]
    for what, value, refused in pictures(given):
        yield f"{what}, on the first", {"image_5": value}, refused
    yield "nothing, on the first", {"image_5": None}, False


def masks(given: Any) -> Iterator[Odd]:
    good = (image(1, 32, 40) > 0.5).float()
    yield from DATA
    yield from [
        ("no mask", good[:0], True),
        ("no pixels", good[:, :, :0], True),
        ("one dimension", good[0, 0], True),
        ("three channels", image(1, 3, 8, 8), True),
        ("NaN", with_value(good, NAN), True),
        ("8 bits", good * 255, True),
        ("integers", good.long(), True),
        ("64 x 64 and black", torch.zeros(1, 64, 64), True),
        ("one bit", good > 0.5, False),
        ("two dimensions", good[0], False),
        ("four dimensions", good[None], False),
        ("black", torch.zeros(1, 32, 40), False),
        ("white", torch.ones(1, 5, 7), False),
        ("grey", torch.full((1, 9, 9), 0.5), False),
        ("half precision", good.half(), False),
        ("one pixel", good[:, :1, :1], False),
        ("three masks", image(3, 16, 16), False),
    ]


def latents(given: Any, good: dict) -> Iterator[Odd]:
    samples = good["samples"]
    yield from DATA

    def of(tensor: Any, **more: Any) -> dict:
        return {"samples": tensor, **more}

    yield from [
        ("without samples", {"other": 1}, True),
        ("samples of nothing", of(None), True),
        ("samples in a list", of([1]), True),
        ("three dimensions", of(samples[0]), True),
        ("five dimensions", of(samples[None]), True),
        ("an empty batch", of(samples[:0]), True),
        ("an empty grid", of(samples[..., :0]), True),
        ("integers", of(samples.long()), True),
        ("NaN", of(with_value(samples, NAN)), True),
        ("infinity", of(with_value(samples, INF)), True),
        ("a mask of NaN", of(samples, noise_mask=torch.full((1, 3, 3), NAN)), True),
        ("a mask that is none", of(samples, noise_mask="x"), True),
        ("other channels", of(samples[:, :7]), False),
        ("another grid", of(samples[..., :2]), False),
        ("half precision", of(samples.half()), False),
        ("three items", of(samples.expand(3, -1, -1, -1)), False),
        ("zeros", of(torch.zeros_like(samples)), False),
        ("huge values", of(samples * 1e30), False),
        ("a mask of another size", of(samples, noise_mask=torch.ones(1, 64, 64)), False),
    ]


def conditionings(given: Any, good: list) -> Iterator[Odd]:
    tokens = good[0][0]
    yield from DATA
    yield from [
        ("a lone tensor", tokens, True),
        ("a pair of one", [[tokens]], True),
        ("no tokens", [[None, {}]], True),
        ("options that are none", [[tokens, None]], True),
        ("two dimensions", [[tokens[0], {}]], True),
        ("an empty batch", [[tokens[:0], {}]], True),
        ("no token in it", [[tokens[:, :0], {}]], True),
        ("integers", [[tokens.long(), {}]], True),
        ("NaN", [[with_value(tokens, NAN), {}]], True),
        ("another width", [[tokens[..., :9], {}]], False),
        ("half precision", [[tokens.half(), {}]], False),
        ("three items", [[tokens.expand(3, -1, -1), {}]], False),
        ("two of them", [*good, *good], False),
        ("huge values", [[tokens * 1e30, {}]], False),
        ("one token", [[tokens[:, :1], {}]], False),
    ]
