"""The golden set's random language model, for tests of what surrounds it."""

import pytest

from blip3u_core.language.model import LanguageModel, build_language_model
from blip3u_core.weights.checkpoint import open_checkpoint
from harness.comfy import ORACLE


@pytest.fixture(scope="session")
def llm() -> LanguageModel:
    checkpoint = open_checkpoint(ORACLE / "checkpoint")
    return build_language_model(checkpoint.llm, checkpoint.assets, checkpoint.generation_config)
