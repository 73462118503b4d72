"""BLIP3-U for VLMEvalKit; docs/benchmarks.md says which line of its config names it."""

from typing import Any

import torch
from PIL import Image
from vlmeval.vlm.base import BaseModel

from ..language.generate import SamplingParams
from ..pipeline import Pipeline
from ..run_settings import DTYPES
from .answering import Question, answer_all


class Blip3U(BaseModel):
    """A checkpoint that answers one message at a time, greedily."""

    INTERLEAVE = False

    def __init__(self, model_path: str, max_new_tokens: int = 1024, dtype: str = "bf16") -> None:
        super().__init__()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = Pipeline.from_checkpoint(model_path, device, DTYPES[dtype])
        self.sampling = SamplingParams(max_new_tokens=max_new_tokens)

    def generate_inner(self, message: list[dict[str, Any]], dataset: str | None = None) -> str:
        """Answer a message of {"type": "text" or "image", "value": words or a file}."""
        text = "\n".join(part["value"] for part in message if part["type"] == "text")
        pictures = [Image.open(part["value"]) for part in message if part["type"] == "image"]
        return answer_all(self.pipeline, [Question(text, tuple(pictures))], self.sampling)[0]
