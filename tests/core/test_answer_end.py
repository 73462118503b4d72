"""Where an answer ends."""

import pytest
import torch

from blip3u_core.language.context import dialogue_context
from blip3u_core.language.generate import SamplingParams, TokenChooser, generate
from blip3u_core.language.model import LanguageModel


def test_an_answer_ends_where_the_model_would_draw(
    llm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reasoning the model may write `[IMG]`: what follows is a picture, not text."""
    word = llm.tokenizer.encode("a")[0]
    script = iter([word, word, llm.tokenizer.img_token_id, word, word])
    monkeypatch.setattr(TokenChooser, "choose", lambda self, logits: [next(script)])
    context = dialogue_context(llm, [("user", "think of a picture")])
    with torch.no_grad():
        assert generate(llm, [context], SamplingParams(max_new_tokens=5)) == ["aa"]
