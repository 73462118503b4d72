"""A token for every word that people use, and an embedding that stands for its old pieces."""

import pytest
import torch
from tokenizers import Tokenizer

from training import words
from training.llm import LlmTraining
from training.tokenizer import COMMITTED, extended

RARE, COMMON = "flummox", "gallivant"
KNOWN = Tokenizer.from_file(str(COMMITTED))


@pytest.fixture
def said(monkeypatch):
    texts = [f"<|im_start|>Please {COMMON} the red star" for _ in range(words.TIMES)]
    monkeypatch.setattr(words, "corpus", lambda *_: iter([*texts, f"{RARE} it"]))


def test_words_that_are_cut_into_pieces_get_a_token_if_they_are_frequent(said):
    found = words.people_words(KNOWN)
    assert f" {COMMON}" in found
    assert not {" red", " star", RARE} & set(found)
    more = extended(KNOWN, found)
    assert more.encode(f" {COMMON}").tokens == [f"\u0120{COMMON}"]
    assert more.encode(f" {RARE} the star").tokens == KNOWN.encode(f" {RARE} the star").tokens


def test_a_new_token_stands_for_its_pieces(said, monkeypatch):
    monkeypatch.setattr(words, "STEPS", 100)
    torch.manual_seed(0)
    training = LlmTraining(None)
    state = {
        f"{kind}.{k}": v for k, v in training.state_dict().items() for kind in ("model", "ema")
    }
    state[f"exp_avg.{words.EMBEDDINGS}"] = torch.zeros(1)
    more = extended(KNOWN, words.people_words(KNOWN))
    result = words.with_words(state, KNOWN, more)
    assert f"exp_avg.{words.EMBEDDINGS}" not in result
    table = result[f"model.{words.EMBEDDINGS}"]
    assert table.shape[0] == more.get_vocab_size()
    old = state[f"model.{words.EMBEDDINGS}"]
    for token in ("\u0120red", "<|im_end|>"):
        assert torch.equal(table[more.token_to_id(token)], old[KNOWN.token_to_id(token)])
    token = f"\u0120{COMMON}"
    pieces = [old[[p.id for p in KNOWN.model.tokenize(token)]]]
    with torch.no_grad():
        wanted = words.last_states(training, pieces)[-1]
        mean = words.last_states(training, [pieces[0].mean(0)[None]])[-1]
        found = words.last_states(training, [table[more.token_to_id(token)][None]])[-1]
    assert (found - wanted).norm() < 0.35 * (mean - wanted).norm()
