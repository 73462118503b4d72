"""Sampling CLIP features: against the plain implementation, and against bare matrix products."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from blip3u_core.features.config import NextDiTConfig
from blip3u_core.features.flow import item_noise, sample_clip_features
from blip3u_core.features.nextdit import NextDiT

from .measure import DTYPES, Measurement, Times, alternate, threads
from .plain_dit import PlainDiT

SIZE = NextDiTConfig(
    in_channels=896,
    dim=896,
    num_layers=12,
    num_heads=14,
    num_kv_heads=14,
    ffn_dim=2560,
    condition_dim=896,
    input_size=8,
)
MINIMAL = NextDiTConfig(
    in_channels=32,
    dim=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=4,
    ffn_dim=192,
    condition_dim=48,
    input_size=8,
)
NUM_QUERIES = 64
STEPS = 30
GUIDANCE_SCALE = 3.0
GOAL_PLAIN = {"float32": 0.65, "bfloat16": 0.72}
GOAL_ROOFLINE = 1.08


def rows(minimal: bool) -> Iterator[Measurement]:
    for name in DTYPES:
        with threads(1):
            times = measure(MINIMAL if minimal else SIZE, name, 2 if minimal else STEPS)
        yield Measurement(
            f"DiT, {STEPS} steps with guidance, {name}: against the plain one",
            times.ratio("ours", "plain"),
            GOAL_PLAIN[name],
            times.describe("ours", "plain"),
        )
        yield Measurement(
            f"DiT, {name}: against its necessary matrix products",
            times.ratio("ours", "products"),
            GOAL_ROOFLINE,
            times.describe("ours", "products"),
        )
        yield Measurement(
            f"DiT, {name}: the plain one against all its matrix products",
            times.ratio("plain", "plain products"),
            None,
            times.describe("plain", "plain products"),
        )


def measure(config: NextDiTConfig, dtype_name: str, steps: int, rounds: int = 7) -> Times:
    dit = random_dit(config, DTYPES[dtype_name])
    plain = PlainDiT(dit)
    tokens = item_noise(1, 1, (NUM_QUERIES, config.condition_dim))
    noise = item_noise(2, 1, (config.in_channels, config.input_size, config.input_size))
    check_equal(dit, plain, tokens, noise)
    run = {
        "ours": partial(sample_clip_features, dit, tokens, noise, steps, GUIDANCE_SCALE),
        "plain": partial(plain.sample, tokens, noise, steps, GUIDANCE_SCALE),
        "products": products(dit, steps, once=True),
        "plain products": products(dit, steps, once=False),
    }
    return alternate(run, rounds)


def random_dit(config: NextDiTConfig, dtype: torch.dtype) -> NextDiT:
    generator = torch.Generator().manual_seed(0)
    dit = NextDiT(config, dtype=dtype).requires_grad_(False)
    for parameter in dit.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return dit


def check_equal(dit: NextDiT, plain: PlainDiT, tokens: Tensor, noise: Tensor) -> None:
    """The two are the same function; otherwise their times mean nothing."""
    ours = sample_clip_features(dit, tokens, noise, 2, GUIDANCE_SCALE)
    theirs = plain.sample(tokens, noise, 2, GUIDANCE_SCALE)
    difference = float((ours - theirs).norm() / theirs.norm())
    if difference > (1e-5 if dit.dtype == torch.float32 else 0.05):
        raise AssertionError(f"plain and our DiT differ by {difference}")


def products(dit: NextDiT, steps: int, once: bool) -> Callable[[], None]:
    """The matrix products of a sampling and nothing else, on the network's own weights.

    Args:
        once: leave out what need not be repeated: what depends on the condition alone, and the
            null branch's cross-attention. Modulations are then one product for all steps.
    """
    config, dtype = dit.config, dit.dtype
    places = config.input_size**2
    cross_rows = 1 if once else 2
    noisy = torch.randn(2 * places, config.in_channels).to(dtype)
    x = torch.randn(2 * places, config.dim).to(dtype)
    inner = torch.randn(2 * places, config.ffn_dim).to(dtype)
    tokens = torch.randn(2 * NUM_QUERIES, config.condition_dim).to(dtype)
    cross, context = x[: cross_rows * places], x[: cross_rows * NUM_QUERIES]
    embedded = torch.randn(2 * (steps if once else 1), config.time_dim).to(dtype)
    heads = torch.randn(2 * config.num_heads, places, config.head_dim).to(dtype)
    cross_heads = heads[: cross_rows * config.num_heads]
    projection = dit.caption_projection

    def prepare() -> None:
        F.linear(tokens[: len(context)], projection.linear_1.weight)
        F.linear(context, projection.linear_2.weight)
        for layer in dit.layers:
            F.linear(context, layer.attn2.to_k.weight)
            F.linear(context, layer.attn2.to_v.weight)
            F.linear(embedded, layer.norm1.linear.weight)

    def attend(q: Tensor) -> None:
        torch.bmm(torch.bmm(q, q.transpose(1, 2)), q)

    def step() -> None:
        F.linear(noisy, dit.patch_embedder.proj.weight)
        for layer in dit.layers:
            attn = layer.attn1
            for linear in (attn.to_q, attn.to_k, attn.to_v, layer.attn2.to_out[0]):
                F.linear(x, linear.weight)
            attend(heads)
            F.linear(cross, layer.attn2.to_q.weight)
            attend(cross_heads)
            F.linear(x, layer.feed_forward.linear_1.weight)
            F.linear(x, layer.feed_forward.linear_3.weight)
            F.linear(inner, layer.feed_forward.linear_2.weight)
        F.linear(x, dit.norm_out.linear_2.weight)

    @torch.inference_mode()
    def run(prepared: bool = False) -> None:
        for i in range(steps):
            if not prepared and (i == 0 or not once):
                prepare()
            step()

    return run
