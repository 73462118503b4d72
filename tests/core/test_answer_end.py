"""Where an answer ends."""

import pytest
import torch

from blip3u_core.answer import Sampling, TokenChooser, answer
from blip3u_core.context import dialogue_context
from blip3u_core.qwen import LanguageModel


def test_an_answer_ends_where_the_model_would_draw(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reasoning the model may write `[IMG]`: what follows is a picture, not text."""
    word = llm.tokenizer.encode("a")[0]
    script = iter([word, word, llm.tokenizer.image_id, word, word])
    monkeypatch.setattr(TokenChooser, "choose", lambda self, logits: [next(script)])
    context = dialogue_context(llm, [("user", "think of a picture")])
    with torch.no_grad():
        assert answer(llm, [context], Sampling(max_new_tokens=5)) == ["aa"]
