"""A step of an answer recorded once and replayed, as a CUDA graph is."""

import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from blip3u_core.language import cuda_graph, steps
from blip3u_core.language import generate as generating
from blip3u_core.language.choose import SamplingParams
from blip3u_core.language.context import Context, dialogue_context
from blip3u_core.language.generate import LOOK_EVERY, generate_tokens
from blip3u_core.language.model import LanguageModel
from blip3u_core.language.prefix_cache import PrefixCache
from harness.recorded import Recording
from harness.recorded import record as recorded_on_the_processor

TEXTS = ("think of a picture", "what is it?", "say a word or two about nothing at all")
WAYS = {
    "greedy": SamplingParams(70),
    "drawn": SamplingParams(70, temperature=1.2, top_p=0.9, seed=11),
    "without penalty": SamplingParams(70, repetition_penalty=1.0),
}


class Recorder:
    """In the place of CUDA: records on the processor, and remembers how often."""

    def __init__(self) -> None:
        self.recordings: list[weakref.ref] = []
        self.replayed = 0

    def __call__(self, step: Callable[[], object]) -> Callable[[], object]:
        gc.collect()
        assert not any(old() for old in self.recordings), "two recordings at once"
        replay = recorded_on_the_processor(step)
        self.recordings.append(weakref.ref(replay.__self__))

        def counted() -> None:
            self.replayed += 1
            replay()

        return counted


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(generating, "recorder_for", lambda llm: made)
    monkeypatch.setattr(generating, "look_every", lambda llm: LOOK_EVERY)
    return made


def contexts(llm: LanguageModel, count: int = len(TEXTS)) -> list[Context]:
    return [dialogue_context(llm, [("user", text)]) for text in TEXTS[:count]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_replayed_steps_write_what_plain_ones_do(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch, way: str, batch: int
) -> None:
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    plain = generate_tokens(llm, contexts(llm, batch), WAYS[way])
    made = Recorder()
    monkeypatch.setattr(generating, "recorder_for", lambda llm: made)
    monkeypatch.setattr(generating, "look_every", lambda llm: LOOK_EVERY)
    assert generate_tokens(llm, contexts(llm, batch), WAYS[way]) == plain
    assert len(made.recordings) == 1
    assert made.replayed == 70 - LOOK_EVERY - 1  # the first are plain, and one is recorded


@pytest.mark.parametrize("room", [1, 40])
def test_larger_room_is_recorded_anew(
    llm: LanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    plain = plainly(llm, contexts(llm), 300)
    monkeypatch.setattr(steps, "ROOM", room)
    assert generate_tokens(llm, contexts(llm), SamplingParams(300)) == plain
    assert len(recorder.recordings) > 3


def plainly(llm: LanguageModel, asked: list[Context], most: int, **more: Any) -> list[list[int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generating, "recorder_for", lambda llm: None)
        return generate_tokens(llm, asked, SamplingParams(most), **more)


def test_answers_end_where_they_do_without(
    llm: LanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    written = plainly(llm, contexts(llm), 100)
    ends = frozenset(row[index] for row, index in zip(written, (20, 33, 47), strict=True))
    monkeypatch.setattr(llm, "eos_token_ids", ends)
    plain = plainly(llm, contexts(llm), 100)
    assert generate_tokens(llm, contexts(llm), SamplingParams(100)) == plain
    assert max(len(row) for row in plain) < 100


def test_what_was_written_is_known_to_the_next_turn(
    llm: LanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    first = [("user", "think of a picture")]
    known = PrefixCache(2**30)
    for _ in range(3):
        context = dialogue_context(llm, first)
        (ids,) = generate_tokens(llm, [context], SamplingParams(50), prefix_cache=known)
        assert [ids] == plainly(llm, [context], 50)
        entry = known._entries[-1]
        assert entry.cache.length == len(entry.keys) == len(context) + 49
        first += [("assistant", llm.tokenizer.decode(ids)), ("user", "and now?")]
    assert known.reused_tokens > 0
    assert len(recorder.recordings) == 3


def test_a_step_waits_for_nothing_and_allocates_what_it_keeps_once(
    llm: LanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step changes the same tensors in place: two a layer, and what else it goes on from."""
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    changed: list[set[int]] = []

    def twice(step: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            recording = Recording()  # raises if the step waits
            with recording:
                step()
            changed.append(
                {
                    target.untyped_storage().data_ptr()
                    for func, _, _, targets in recording.operations
                    if func._schema.is_mutable
                    for target in targets
                }
            )

        run()
        return run

    monkeypatch.setattr(generating, "recorder_for", lambda llm: twice)
    generate_tokens(llm, contexts(llm), WAYS["drawn"])
    assert len(changed) == 70 - LOOK_EVERY
    kept = set.intersection(*changed)
    layers = llm.config.num_layers
    others = 8  # tokens, positions, validity, place in the cache, seen, finite, chosen, its place
    assert len(kept) >= 2 * layers + others


def test_short_answers_are_not_recorded(llm: LanguageModel, recorder: Recorder) -> None:
    generate_tokens(llm, contexts(llm), SamplingParams(LOOK_EVERY + steps.PAYS - 1))
    assert not recorder.recordings


def test_nothing_is_left_of_a_cancelled_answer(
    llm: LanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "eos_token_ids", frozenset())

    def cancel(_: Any, done: int, __: int) -> None:
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as error:
        generate_tokens(llm, contexts(llm), SamplingParams(100), cancel)
    gc.collect()
    assert error.value.__traceback__ is not None  # which holds all that the answer knew
    assert [old() for old in recorder.recordings] == [None]


def test_what_cannot_be_recorded_is_computed(
    llm: LanguageModel,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(step: Callable[[], object]) -> Callable[[], object]:
        step()
        raise steps.CannotRecord("operation not permitted")

    monkeypatch.setattr(llm, "eos_token_ids", frozenset())
    monkeypatch.setattr(steps, "ROOM", 64)
    monkeypatch.setattr(generating, "recorder_for", lambda llm: refuse)
    with caplog.at_level(logging.WARNING):
        refused = generate_tokens(llm, contexts(llm), SamplingParams(200))
    assert refused == plainly(llm, contexts(llm), 200)
    assert [line.getMessage() for line in caplog.records] == [
        "BLIP3-U: this answer is written without a CUDA graph: operation not permitted"
    ]


def on_a_card(monkeypatch: pytest.MonkeyPatch, devices: list[str]) -> Any:
    """A model of one layer whose weights lie on these devices."""
    layer = nn.Module()
    weights = [SimpleNamespace(device=torch.device(name)) for name in devices]
    monkeypatch.setattr(layer, "parameters", lambda recurse: iter(weights))
    return SimpleNamespace(
        model=layer, lm_head=None, device=torch.device("cuda"), weights_stay=True
    )


def test_only_weights_that_stay_on_a_card_are_recorded(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cuda_graph.recorder_for(llm) is None
    assert cuda_graph.recorder_for(on_a_card(monkeypatch, ["cuda", "cpu"])) is None
    card = on_a_card(monkeypatch, ["cuda", "cuda:0"])
    assert cuda_graph.recorder_for(card) is not None
    card.weights_stay = False
    assert cuda_graph.recorder_for(card) is None
    card.weights_stay = True
    hook = card.model.register_forward_hook(lambda *_: None)
    assert cuda_graph.recorder_for(card) is None
    hook.remove()
    assert cuda_graph.recorder_for(card) is not None


class Card:
    """Stands for torch.cuda, and writes down what is asked of it."""

    def __init__(self, broken: str = "") -> None:
        self.said: list[str] = []
        self.broken = broken

    def current_stream(self, device: torch.device) -> Any:
        return SimpleNamespace(wait_stream=lambda other: self.said.append("wait"))

    def Stream(self, device: torch.device) -> Any:
        return SimpleNamespace(wait_stream=lambda other: self.said.append("beside waits"))

    @contextmanager
    def stream(self, stream: Any) -> Any:
        self.said.append("beside {")
        yield
        self.said.append("}")

    def CUDAGraph(self) -> Any:
        def say(what: str) -> None:
            self.said.append(what)
            if what == self.broken:
                raise RuntimeError(f"{what} failed\nand more")

        return SimpleNamespace(
            capture_begin=lambda capture_error_mode: say("begin"),
            capture_end=lambda: say("end"),
            replay=lambda: say("replay"),
        )


@pytest.mark.parametrize("broken", ["", "begin", "step", "end"])
def test_a_capture_ends_whatever_happens(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    card = Card(broken)
    monkeypatch.setattr(cuda_graph.torch, "cuda", card)
    cuda_graph._beside.cache_clear()

    def step() -> None:
        card.said.append("step")
        if broken == "step" and "begin" in card.said:
            raise RuntimeError("step failed")

    warmed = ["beside waits", "beside {", "step", "}", "wait", "beside {", "begin"]
    if broken:
        with pytest.raises(steps.CannotRecord, match=f"^{broken} failed$"):
            cuda_graph.record(step, torch.device("cuda"))
        assert card.said == (warmed if broken == "begin" else [*warmed, "step", "end"])
    else:
        cuda_graph.record(step, torch.device("cuda"))()
        assert card.said == [*warmed, "step", "end", "}", "replay"]
    cuda_graph._beside.cache_clear()


def test_no_room_on_the_card_is_no_failed_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm-up is a step of the answer: what it raises is the answer's error."""
    monkeypatch.setattr(cuda_graph.torch, "cuda", Card())
    cuda_graph._beside.cache_clear()

    def full() -> None:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        cuda_graph.record(full, torch.device("cuda"))
    cuda_graph._beside.cache_clear()
