"""`--half-products`: the same gradients, but for the rounding of what goes into a product."""

import pytest
import torch
import torch.nn.functional as F

from blip3u_core.language.text_model import PlainOperations, SwiGLU
from training import half_products


@pytest.fixture
def products(monkeypatch):
    monkeypatch.setattr(F, "linear", F.linear)
    monkeypatch.setattr(SwiGLU, "forward", SwiGLU.forward)
    monkeypatch.setattr(half_products.muon, "orthogonal", half_products.muon.orthogonal)
    return half_products


def run(module, x):
    x = x.detach().clone().requires_grad_()
    module.zero_grad()
    y = module(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("kind", ["linear", "swiglu"])
def test_gradients_are_those_of_exact_products_to_three_digits(products, kind):
    torch.manual_seed(0)
    module = torch.nn.Linear(48, 80)
    if kind == "swiglu":
        module = SwiGLU(48, 96, False, {}, PlainOperations)
    x = torch.randn(3, 40, 48)
    exact = run(module, x)
    products.use_half_products()
    for a, b in zip(exact, run(module, x), strict=True):
        assert b.dtype == torch.float32
        error = (a - b).norm() / a.norm()
        assert 0 < error < 0.01


def test_few_rows_stay_exact(products):
    x, weight = torch.randn(2, 48), torch.randn(80, 48)
    exact = F.linear(x, weight)
    products.use_half_products()
    assert torch.equal(F.linear(x, weight), exact)
