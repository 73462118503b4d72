"""The wide world's model begins as blip3u-tiny: what both have is taken over, the rest is new."""

import pytest
import torch
from tokenizers import Tokenizer

from small_world.dialogues import sample_any
from small_world.language import describe
from small_world.things import WORD_OF_THING
from small_world.world import Object, Scene, WideRandom, WideShapesRandom
from training.copying import copied_words
from training.grounding import grounded_names
from training.muon import Muon, orthogonal
from training.tokenizer import COMMITTED, extended, wide_words
from training.widen import embeddings_by_word, pieces_of, widened

SCENE = Scene("day", (Object("cat", "", "big", 0, 0), Object("star", "red", "small", 2, 2)))
SMALL = Tokenizer.from_file(str(COMMITTED))


@pytest.fixture(scope="module")
def wide() -> Tokenizer:
    return extended(SMALL, wide_words())


def test_every_word_for_a_thing_is_one_token(wide: Tokenizer):
    for word in WORD_OF_THING:
        assert len(wide.encode(f"a {word}.").tokens) == 3, word
    assert wide.decode(wide.encode("two kittens on trucks").ids) == "two kittens on trucks"


def test_what_the_small_world_says_is_cut_as_before(wide: Tokenizer):
    text = "<|im_start|>user\nA big red circle, at the top left by day<|im_end|>\n[IMG]"
    assert wide.encode(text).tokens == SMALL.encode(text).tokens


def test_embeddings_follow_their_words(wide: Tokenizer):
    old = torch.randn(SMALL.get_vocab_size(), 192, generator=torch.Generator().manual_seed(1))
    new = embeddings_by_word(torch.zeros(wide.get_vocab_size(), 192), old, wide)
    for token in ("Ġred", "[IMG]", "<|im_end|>"):
        assert torch.equal(new[wide.token_to_id(token)], old[SMALL.token_to_id(token)])
    cat, kitty, dog = (new[wide.encode(f" {word}").ids[0]] for word in ("cat", "kitty", "dog"))
    assert torch.equal(cat, kitty)
    assert (cat - dog).norm() > 0.3 * cat.norm()
    assert new.isfinite().all()
    assert pieces_of(SMALL, "Ġred") == [SMALL.token_to_id("Ġred")]


def test_weights_are_taken_over_whole_or_by_their_rows():
    old = {"same": torch.ones(2, 3), "rows": torch.ones(2, 3), "other": torch.ones(2, 4)}
    new = {"same": torch.zeros(2, 3), "rows": torch.zeros(5, 3), "other": torch.zeros(2, 3)}
    result = widened(new | {"added": torch.zeros(1)}, old)
    assert result["same"].sum() == 6
    assert result["rows"].sum(1).tolist() == [3, 3, 0, 0, 0]
    assert result["other"].sum() == 0
    assert set(result) == {"same", "rows", "other", "added"}


def test_copying_and_grounding_know_things():
    text = describe(SCENE)
    both = f"{text}; {text}"
    copied = copied_words(both, len(text) + 2, len(both))
    for word in ("cat", "big", "red", "star"):
        assert copied[both.rindex(word)] == both.index(word)
    assert grounded_names("where is the kitten?", SCENE) == [(18, 0)]
    assert grounded_names("a red cat", SCENE) == []


def test_what_speaks_of_shapes_alone_refuses_no_thing_that_is_known():
    rng = WideRandom(3)
    texts = [sample_any(rng, "train", {"converse": 1}).text for _ in range(300)]
    refused = [text for text in texts if ", not a" in text]
    assert refused
    assert not [t for t in refused for word in WORD_OF_THING if f", not a {word}." in t]
    assert not isinstance(WideShapesRandom(1), WideRandom)


def test_muon_takes_a_convolution_as_a_matrix():
    conv = torch.nn.Parameter(torch.zeros(4, 3, 3, 3))
    conv.grad = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    Muon([conv], lr=1.0, weight_decay=0.0).step()
    matrix = conv.grad.flatten(1)[None] * (0.95 + 0.05 * 0.05)  # Nesterov; its scale is lost
    expected = -0.2 * 27**0.5 * orthogonal(matrix)[0].view(conv.shape)
    torch.testing.assert_close(conv.detach(), expected, atol=1e-4, rtol=1e-4)
