"""Deep Cache beside what people lay around a UNet: tiles, ControlNets, compilation, Cancel."""

import uuid
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from harness.comfy import GraphError, Host
from harness.decoding import Parts
from harness.graph import Graph, Link, output, tensors

SAME = {"atol": 2e-5, "rtol": 0}
# What is reused as soon as there is something.
REUSED: dict[str, dict[str, Any]] = {
    "features": {},
    "attention": {"interval": 1, "cross_attention_end_percent": 0.0},
    "both": {"cross_attention_end_percent": 0.0},
}
every_reuse = pytest.mark.parametrize("reused", REUSED)


class Stock:
    """A small stock SDXL in a graph: its model, its conditioning, and ways to evaluate it."""

    def __init__(self, made: str, graph: Graph | None = None) -> None:
        self.graph = Graph() if graph is None else graph
        self.model = self.graph.add("TestUNet")
        self.positive, self.negative = output(self.model, 1), output(self.model, 2)
        self.made = made

    def cached(self, model: Link | None = None, **changes: Any) -> Link:
        settings = {"interval": 2, "depth": 3, "start_percent": 0.0, "end_percent": 1.0, **changes}
        return self.graph.add("BLIP3U_DeepCache", model=model or self.model, **settings)

    def control(self) -> Link:
        image = self.graph.add("TestImage", file=self.made, key="image")
        one = self.graph.add("ImageFromBatch", image=image, batch_index=0, length=1)
        return self.graph.add("TestControl", conditioning=self.positive, image=one)

    def evaluated(
        self, sampler: str, model: Link, positive: Link | None = None, batch: int = 1
    ) -> Link:
        """What a test's own sampler makes of one sigma."""
        graph = self.graph
        guider = graph.add(
            "CFGGuider",
            model=model,
            positive=positive or self.positive,
            negative=self.negative,
            cfg=3.0,
        )
        return graph.add(
            "SamplerCustomAdvanced",
            noise=graph.add("RandomNoise", noise_seed=3),
            guider=guider,
            sampler=graph.add(sampler),
            sigmas=graph.add(
                "BasicScheduler", model=self.model, scheduler="karras", steps=4, denoise=1.0
            ),
            latent_image=self.empty(batch),
        )

    def drawn(self, model: Link, batch: int = 1, **changes: Any) -> Link:
        settings = {
            "seed": 3, "steps": 5, "cfg": 3.0, "sampler_name": "euler", "scheduler": "karras",
            "denoise": 1.0, **changes,
        }  # fmt: skip
        return self.graph.add(
            "KSampler",
            model=model,
            positive=self.positive,
            negative=self.negative,
            latent_image=self.empty(batch),
            **settings,
        )

    def empty(self, batch: int) -> Link:
        return self.graph.add("EmptyLatentImage", width=128, height=128, batch_size=batch)


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_a_stock_sdxl_reuses_its_features(host: Host, made: str, depth: int) -> None:
    """The same input again gives the full evaluation; another one gives something near to it."""
    stock = Stock(made)
    model = stock.cached(depth=depth)
    twice, plain, near, never = tensors(
        host,
        stock.graph,
        stock.evaluated("TestTwice", model),
        stock.drawn(stock.model),
        stock.drawn(model),
        stock.drawn(stock.cached(interval=1, depth=depth)),
    )
    again, first = twice.chunk(2, dim=2)
    assert first.norm() > 0
    assert_close(again, first, atol=1e-5, rtol=1e-5)
    assert_close(never, plain, **SAME)
    assert 0 < (near - plain).norm() < 0.5 * plain.norm()


def test_a_depth_that_a_stock_sdxl_lacks_is_refused(host: Host, made: str) -> None:
    stock = Stock(made)
    with pytest.raises(GraphError, match="expected 1 to 8: the UNet has 9 blocks"):
        tensors(host, stock.graph, stock.drawn(stock.cached(depth=9)))


@every_reuse
@pytest.mark.parametrize("by", ["tile", "row"])
def test_parts_of_a_picture_or_batch_keep_their_own_features(
    host: Host, made: str, by: str, reused: str
) -> None:
    """A wrapper that calls the UNet in parts, laid before or behind."""
    stock = Stock(made)
    parts = stock.graph.add("TestParts", model=stock.model, by=by)
    models = [
        stock.cached(parts, **REUSED[reused]),
        stock.graph.add("TestParts", model=stock.cached(**REUSED[reused]), by=by),
    ]
    plain, *results = tensors(
        host,
        stock.graph,
        *(stock.evaluated("TestTwice", model, batch=2) for model in (parts, *models)),
    )
    expected = plain.chunk(2, dim=2)[1]
    for result in results:
        again, first = result.chunk(2, dim=2)
        assert_close(first, expected, **SAME)
        assert_close(again, expected, **SAME)


@every_reuse
def test_a_batch_that_changes_between_steps_is_evaluated_anew(
    host: Host, made: str, reused: str
) -> None:
    stock = Stock(made)
    plain, reused = tensors(
        host,
        stock.graph,
        *(
            stock.evaluated("TestBatches", model, batch=2)
            for model in (stock.model, stock.cached(**{"interval": 4, **REUSED[reused]}))
        ),
    )
    assert len(plain) == 6
    assert_close(reused, plain, **SAME)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_a_control_net_adds_to_the_blocks_that_work(host: Host, made: str, depth: int) -> None:
    stock = Stock(made)
    control, model = stock.control(), stock.cached(depth=depth, **REUSED["both"])
    without, plain, result = tensors(
        host,
        stock.graph,
        stock.evaluated("TestTwice", stock.model),
        stock.evaluated("TestTwice", stock.model, control),
        stock.evaluated("TestTwice", model, control),
    )
    assert (plain - without).norm() > 1e-2 * without.norm()
    again, first = result.chunk(2, dim=2)
    assert_close(first, plain.chunk(2, dim=2)[1], **SAME)
    assert_close(again, first, atol=1e-5, rtol=1e-5)


PATCHES: dict[str, dict[str, Any]] = {
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "PerturbedAttentionGuidance": {"scale": 2.0},
    "HyperTile": {"tile_size": 64, "swap_size": 1, "max_depth": 0, "scale_depth": False},
    "TomePatchModel": {"ratio": 0.3},
    "RescaleCFG": {"multiplier": 0.7},
    "TestAttention": {},
}


@pytest.mark.parametrize("name", PATCHES)
def test_the_order_of_patches_does_not_matter(host: Host, made: str, name: str) -> None:
    stock = Stock(made)

    def patched(model: Link) -> Link:
        return stock.graph.add(name, model=model, **PATCHES[name])

    before = patched(stock.cached(**REUSED["both"]))
    behind = stock.cached(patched(stock.model), **REUSED["both"])
    *drawn, twice, plain = tensors(
        host,
        stock.graph,
        stock.drawn(before),
        stock.drawn(behind),
        stock.evaluated("TestTwice", before),
        stock.evaluated("TestTwice", patched(stock.model)),
    )
    assert_close(*drawn, **SAME)
    if name != "TomePatchModel":  # merges other tokens every time
        assert_close(twice, plain, **SAME)


@pytest.mark.parametrize("interval", [1, 2])
def test_late_cross_attention_gives_what_it_gave_last(host: Host, made: str, interval: int) -> None:
    """The later it ends, the nearer; the condition is only heard before."""
    stock = Stock(made)
    always, late, early, other = tensors(
        host,
        stock.graph,
        *(
            stock.drawn(stock.cached(interval=interval, cross_attention_end_percent=end))
            for end in (1.0, 0.6, 0.0)
        ),
        stock.drawn(stock.cached(interval=interval)),
    )
    assert_close(other, always, **SAME)
    assert 0 < (late - always).norm() < (early - always).norm() < 0.5 * always.norm()


def test_a_cancelled_run_leaves_nothing_behind(host: Host, made: str) -> None:
    """The same model object samples again, as the host's cache hands it out."""
    parts = Parts(Graph(), made)
    model = parts.graph.add(
        "BLIP3U_DeepCache",
        model=parts.decoder,
        interval=100,
        depth=1,
        start_percent=0.0,
        end_percent=1.0,
        cross_attention_end_percent=0.2,
    )
    drawn = parts.k_sampler(model, steps=40)
    seed = parts.graph[drawn[0]]["inputs"]
    (expected,) = tensors(host, parts.graph, drawn)
    host.hook(slow="DecoderUNet", seconds=0.3)
    seed["seed"] = 4
    assert host.cancel(parts.graph) < 40
    host.hook()
    seed["seed"] = 3
    (again,) = tensors(host, parts.graph, drawn)
    assert torch.equal(again, expected)
    asked = Graph()
    alive = [
        asked.add("TestAlive", class_name=name, asked=uuid.uuid4().hex)
        for name in ("Kept", "Attended")
    ]
    assert tensors(host, asked, *alive) == [0, 0]


def test_a_compiled_model_is_a_graph_for_each_kind_of_evaluation(host: Host, made: str) -> None:
    """Full or not, with cross-attention or without; another run compiles nothing."""
    parts, name = Parts(Graph(), made), uuid.uuid4().hex
    settings = {"interval": 2, "depth": 3, "start_percent": 0.0, "end_percent": 1.0}
    settings["cross_attention_end_percent"] = 0.5
    model = parts.graph.add("BLIP3U_DeepCache", model=parts.decoder, **settings)
    compiled = parts.graph.add("TestCompile", model=model, name=name)
    drawn, expected = (parts.k_sampler(one, steps=9) for one in (compiled, model))
    assert_close(*tensors(host, parts.graph, drawn, expected), **SAME)
    parts.graph[drawn[0]]["inputs"]["seed"] += 1
    tensors(host, parts.graph, drawn)
    assert host.log_text().count(f"compiled {name}: ") == 4
