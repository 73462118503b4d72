"""Deep Cache: what is reused is right to the last bit, belongs to one sampling, and saves work."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from harness.comfy import GraphError, Host
from harness.decoding import Parts
from harness.graph import Graph, Link, tensors

SAME = {"atol": 2e-5, "rtol": 0}
WHOLE = {"start_percent": 0.0, "end_percent": 1.0}


def cached(parts: Parts, model: Link | None = None, **changes: Any) -> Link:
    settings = {"interval": 2, "depth": 1, **WHOLE, **changes}
    return parts.graph.add("BLIP3U_DeepCache", model=model or parts.decoder, **settings)


def twice(parts: Parts, model: Link, positive: Link | None = None) -> Link:
    """(again, first) of two evaluations of the same x at the same sigma, one after the other."""
    conditioning = parts.conditioning()
    if positive:
        conditioning["positive"] = positive
    return parts.graph.add(
        "SamplerCustomAdvanced",
        noise=parts.graph.add("RandomNoise", noise_seed=3),
        guider=parts.graph.add("CFGGuider", model=model, cfg=3.0, **conditioning),
        sampler=parts.graph.add("TestTwice"),
        sigmas=parts.graph.add("BLIP3U_DecoderSigmas", decoder=model, steps=4, denoise=1.0),
        latent_image=parts.empty(),
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_reuse_of_the_same_input_is_the_full_evaluation(
    host: Host, made: str, depth: int
) -> None:
    """With areas, the host calls the UNet more than once an evaluation."""
    parts = Parts(Graph(), made)
    model = cached(parts, depth=depth)
    both = parts.conditioning()
    area = {"width": 64, "height": 128, "x": 0, "y": 0, "strength": 1.0}
    half = parts.graph.add("ConditioningSetArea", conditioning=both["positive"], **area)
    two = parts.graph.add(
        "ConditioningCombine", conditioning_1=half, conditioning_2=both["positive"]
    )
    freed = parts.graph.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    perturbed = parts.graph.add("PerturbedAttentionGuidance", model=model, scale=2.0)
    drawn = [twice(parts, one) for one in (model, freed, perturbed)] + [twice(parts, model, two)]
    for result in tensors(host, parts.graph, *drawn):
        again, first = result.chunk(2, dim=2)
        assert first.norm() > 0
        assert_close(again, first, atol=1e-5, rtol=1e-5)


def test_interval_one_and_an_empty_range_change_nothing(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    models = [
        parts.decoder,
        cached(parts, interval=1),
        cached(parts, start_percent=1.0),
        cached(parts, cached(parts), interval=1),  # the later node counts
        cached(parts),
        cached(parts, start_percent=0.5),
    ]
    drawn = [parts.k_sampler(model, steps=6) for model in models]
    plain, one, nothing, later, reused, late = tensors(host, parts.graph, *drawn)
    for same in (one, nothing, later):
        assert_close(same, plain, **SAME)
    assert not torch.allclose(reused, plain, atol=1e-3)
    assert not torch.allclose(late, plain, atol=1e-3)
    assert (late - plain).norm() < (reused - plain).norm()


def test_an_item_of_a_batch_is_its_single_run_and_nothing_stays(host: Host, made: str) -> None:
    parts = Parts(Graph(), made)
    batch = parts.graph.add("TestLatent", file=made, key="features.b3")
    alone = parts.graph.add("LatentFromBatch", samples=batch, batch_index=1, length=1)
    model = cached(parts, interval=3)
    three, second = tensors(
        host,
        parts.graph,
        parts.decode(decoder=model, features=batch, steps=5),
        parts.decode(decoder=model, features=alone, steps=5, seed=4),
    )
    assert_close(three[1:2], second, **SAME)


@pytest.mark.parametrize("other", ["EasyCache", "LazyCache"])
def test_beside_the_hosts_own_caches(host: Host, made: str, other: str) -> None:
    """One that never reuses changes nothing; one that does still draws, in either order.

    Not the same in both: the inner one skips some of the evaluations that the outer one asks for.
    """
    parts = Parts(Graph(), made)

    def also(model: Link, threshold: float) -> Link:
        settings = {"start_percent": 0.0, "end_percent": 1.0, "verbose": False}
        settings["reuse_threshold"] = threshold
        return parts.graph.add(other, model=model, **settings)

    models = [
        cached(parts),
        also(cached(parts), 0.0),
        cached(parts, also(parts.decoder, 0.0)),
        also(cached(parts), 1.0),
        cached(parts, also(parts.decoder, 1.0)),
    ]
    alone, *others = tensors(
        host, parts.graph, *(parts.k_sampler(model, steps=6) for model in models)
    )
    for latent in others[:2]:
        assert_close(latent, alone, **SAME)
    for latent in others[2:]:
        assert latent.isfinite().all()
        assert (latent - alone).norm() > 0


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral"])
def test_other_samplers(host: Host, made: str, sampler: str) -> None:
    parts = Parts(Graph(), made)
    (drawn,) = tensors(
        host, parts.graph, parts.k_sampler(cached(parts), sampler_name=sampler, scheduler="karras")
    )
    assert drawn.isfinite().all()


@pytest.mark.parametrize(
    ("socket", "depth", "said"),
    [("model", 1, "expected a UNet as SD and SDXL"), ("decoder", 50, "expected 1 to 3: the UNet")],
)
def test_other_networks_and_depths_are_refused(
    host: Host, made: str, socket: str, depth: int, said: str
) -> None:
    parts = Parts(Graph(), made)
    model = cached(parts, getattr(parts, socket), depth=depth)
    with pytest.raises(GraphError, match=said):
        tensors(host, parts.graph, parts.k_sampler(model))
