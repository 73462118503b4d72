"""The language model of BLIP3-U: text model, vision encoder, output layer and latent queries.

It is a Qwen2.5-VL in plain torch. Names are those of the published weights (as transformers 4.51
writes them; `checkpoint` maps newer ones), so no version of transformers is needed or matters.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..weights.assign import Shapes, assign_weights, shapes_of
from ..weights.config import read_config
from ..weights.json_files import source_of
from ..weights.sizes import shape_of
from .config import (
    CONFIG,
    DrawingConfig,
    GenerationConfig,
    ImageConfig,
    TextConfig,
    VisionConfig,
    check_layers,
)
from .prefix_cache import PrefixCache
from .text_model import PlainOperations, TextModel
from .tokenizer import TextTokenizer
from .vision_model import VisionModel

_PATCH_EMBED = "visual.patch_embed.proj.weight"
_HEAD = "lm_head.weight"
_TIED_ROWS = 16  # of the head are compared with the token table


class WeightStage(Protocol):
    """The part of `checkpoint.Stage` that is used here."""

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json of the stage."""
        ...

    def shapes(self) -> Shapes:
        """Shape of every weight by name."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name, memory-mapped."""
        ...


class Network(nn.Module):
    """All that has weights."""

    def __init__(
        self,
        text: TextConfig,
        vision: VisionConfig,
        num_queries: int,
        dtype: torch.dtype,
        operations: Any = PlainOperations,
    ) -> None:
        super().__init__()
        width, on_meta = text.hidden_size, {"dtype": dtype, "device": "meta"}
        self.model = TextModel(text, **on_meta, operations=operations)
        self.visual = VisionModel(vision, **on_meta, operations=operations)
        self.latent_queries = nn.Parameter(torch.empty(1, num_queries, width, **on_meta))
        self.lm_head = (
            None
            if text.tied_head
            else operations.Linear(width, text.vocab_size, bias=False, **on_meta)
        )


class LanguageModel(Network):
    """The network with its tokenizer and settings; weights lie where and as they were put.

    `device` and `dtype` are those of computing. A host that moves weights sets `device`, and says
    in `weights_stay` whether they stay where and as they are while an answer is written.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        num_queries: int,
        assets: Mapping[str, str],
        generation_config: Mapping[str, Any],
        dtype: torch.dtype,
        operations: Any = PlainOperations,
    ) -> None:
        text, vision = TextConfig.from_dict(config), VisionConfig.from_dict(config)
        super().__init__(text, vision, num_queries, dtype, operations)
        self.config = text
        self.device = torch.device("meta")
        self.dtype = dtype
        self.weights_stay = True
        self.prefix_cache = PrefixCache(0)  # whoever hosts these weights sets a budget
        drawing = read_config(DrawingConfig, config, CONFIG)
        self.generation_side = drawing.side(vision, source_of(config, CONFIG))
        self.tokenizer = TextTokenizer(assets)
        answers = read_config(GenerationConfig, generation_config, "generation_config.json")
        self.eos_token_ids = _eos_token_ids(config, answers, self.tokenizer)
        self.repetition_penalty = answers.repetition_penalty or 1.0
        self.image_config = ImageConfig.from_assets(assets, vision)
        if self.tokenizer.num_ids > self.config.vocab_size:
            raise ValueError(
                f"{self.tokenizer.file} has {self.tokenizer.num_ids} tokens, the language model "
                f"knows {self.config.vocab_size}. Use the tokenizer files of this very checkpoint."
            )

    @property
    def num_queries(self) -> int:
        """Q, the number of latent queries and thus of visual tokens."""
        return self.latent_queries.shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (any shape) to embeddings (..., D)."""
        # A table that is offloaded is looked up where it lies, so the host waits for the ids: to
        # bring a gigabyte to the device for one row would take longer.
        return self.model.embed_tokens(ids).to(self.device, self.dtype)

    def queries(self) -> Tensor:
        """The learned latent queries, (1, Q, D)."""
        return self.latent_queries.to(self.device, self.dtype)

    def encode_images(self, patches: Tensor, grids: list[tuple[int, int]]) -> Tensor:
        """Patches of pictures to image embeddings, (tokens, D)."""
        return self.visual(patches.to(self.device, self.dtype), grids)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) to scores of the next token (..., vocabulary), float32."""
        if self.lm_head is None:
            return self.model.embed_tokens.project(hidden).float()
        return self.lm_head(hidden).float()


def build_language_model(
    stage: WeightStage,
    assets: Mapping[str, str],
    generation_config: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LanguageModel:
    """Build the network around a checkpoint's weights, without a random start or a second copy.

    Args:
        stage: the `llm` stage of a checkpoint; its tensors stay memory-mapped where dtype and
            device already fit.
        assets: tokenizer and image-processor files by name.
        generation_config: the file of that name; its end tokens and repetition penalty are used.
        dtype: of weights and computing.

    Raises: ValueError for an impossible config, for missing, unexpected or misshapen weights, for
        a tokenizer without the special tokens; FileNotFoundError without tokenizer files.
    """
    llm = empty_language_model(stage, assets, generation_config, dtype)
    assign_language_weights(llm, stage, dtype)
    llm.device = torch.device(device)
    return llm.to(llm.device)


def empty_language_model(
    stage: WeightStage,
    assets: Mapping[str, str],
    generation_config: Mapping[str, Any] | None,
    dtype: torch.dtype,
    operations: Any = PlainOperations,
) -> LanguageModel:
    """The network on the meta device, for `assign_language_weights`.

    Args: operations: layers to build from (`Linear`, `RMSNorm`, `Embedding` with `project`).
    """
    check_layers(stage.config, stage.shapes())
    queries = shape_of(stage.shapes(), "latent_queries", 3, "BLIP3-U language model")
    return LanguageModel(
        stage.config, queries[1], assets, generation_config or {}, dtype, operations
    )


def assign_language_weights(
    llm: LanguageModel,
    stage: WeightStage,
    weight_dtype: torch.dtype | None,
    quantized: Collection[str] = (),
) -> None:
    """As `assign_weights`, by the names and shapes of the published weights."""
    text, vision = llm.config, llm.image_config.vision
    plain = Network(text, vision, llm.num_queries, torch.float32)
    weights = _NetworkWeights(stage, has_head=llm.lm_head is not None)
    assign_weights(llm, weights, weight_dtype, shapes_of(plain), quantized=quantized)


@dataclass(frozen=True)
class _NetworkWeights:
    """A stage's weights as the network holds them."""

    stage: WeightStage
    has_head: bool

    @property
    def name(self) -> str:
        return "llm"

    @property
    def source(self) -> object:
        return source_of(self.stage.shapes(), "the language model")

    def shapes(self) -> Shapes:
        return {
            name: _shape(name, shape)
            for name, shape in self.stage.shapes().items()
            if self.has_head or name != _HEAD  # a copy of the token table, as some trainers write
        }

    @property
    def quantized(self) -> Mapping[str, str]:
        return getattr(self.stage, "quantized", {})  # a stage may be made of plain tensors

    def state_dict(self) -> dict[str, Tensor]:
        weights = self.stage.state_dict()
        if not self.has_head and _HEAD in weights:
            self._check_tied(weights[_HEAD], weights["model.embed_tokens.weight"])
        patches = weights[_PATCH_EMBED]
        weights[_PATCH_EMBED] = patches.reshape(_shape(_PATCH_EMBED, tuple(patches.shape)))
        return weights

    def _check_tied(self, head: Tensor, table: Tensor) -> None:
        """A head beside a token table that is the head too must be its copy; some rows tell."""
        rows = slice(None, None, max(1, len(table) // _TIED_ROWS))
        same = head.shape == table.shape and (head.is_meta or torch.equal(head[rows], table[rows]))
        if not same:
            raise ValueError(
                f"{source_of(self.stage.config, CONFIG)} says tie_word_embeddings True, but the "
                f"weights beside it hold another {_HEAD}; expected a copy of the token table. "
                "Config and weights must come from the same checkpoint: download both again."
            )


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The patch embedding is published as a convolution; here it is a matrix product."""
    if name != _PATCH_EMBED or len(shape) < 3:
        return tuple(shape)
    return shape[0], prod(shape[1:])


def _eos_token_ids(
    config: Mapping[str, Any], answers: GenerationConfig, tokenizer: TextTokenizer
) -> frozenset[int]:
    """The tokens at which an answer ends.

    Raises: ValueError if they are words, or if a picture's place is another token, to the
        tokenizer: it is another model's.
    """
    whole = read_config(GenerationConfig, config, CONFIG)
    ids = answers.eos_token_ids or whole.eos_token_ids
    words = [number for number in ids if not tokenizer.is_special(number)]
    place = whole.image_token_id
    if words or place not in (None, tokenizer.image_pad_id):
        said = f"eos_token_id {words[0]}" if words else f"image_token_id {place}"
        raise ValueError(
            f"{source_of(config, CONFIG)} or generation_config.json beside it says {said}, which "
            f"{tokenizer.file} does not hold as that special token; expected the tokenizer of this "
            "very checkpoint. Download its text files again."
        )
    return frozenset([tokenizer.turn_end_id, *ids])
