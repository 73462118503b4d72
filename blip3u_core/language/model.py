"""The language model of BLIP3-U: text model, eyes, output layer and latent queries.

It is a Qwen2.5-VL in plain torch. Names are those of the published weights (as transformers 4.51
writes them; `checkpoint` maps newer ones), so no version of transformers is needed or matters.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..weights.config import read_config
from ..weights.json_files import source_of
from ..weights.reader import match_keys
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


class WeightStage(Protocol):
    """The part of `checkpoint.Stage` that is used here."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def state_dict(self) -> dict[str, Tensor]: ...


class LanguageModel(nn.Module):
    """The network with its tokenizer and settings; weights lie where and as they were put.

    `device` and `dtype` are those of computing. A host that moves weights sets `device`.
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
        super().__init__()
        self.config = TextConfig.from_dict(config)
        self.device = torch.device("meta")
        self.dtype = dtype
        self.prefix_cache = PrefixCache(0)  # whoever hosts these weights sets a budget
        self.mapped_weights: Any = {}  # name -> the file's own tensor, where a host maps them
        vision = VisionConfig.from_dict(config)
        drawing = read_config(DrawingConfig, config, CONFIG)
        self.generation_side = drawing.side(vision, source_of(config, CONFIG))
        self.tokenizer = TextTokenizer(assets)
        self.eos_token_ids = _eos_token_ids(config, generation_config, self.tokenizer.turn_end_id)
        answers = read_config(GenerationConfig, generation_config, "generation_config.json")
        self.repetition_penalty = answers.repetition_penalty or 1.0
        self.image_config = ImageConfig.from_assets(assets, vision)
        width, on_meta = self.config.hidden_size, {"dtype": dtype, "device": "meta"}
        self.model = TextModel(self.config, **on_meta, operations=operations)
        self.visual = VisionModel(vision, **on_meta, operations=operations)
        self.latent_queries = nn.Parameter(torch.empty(1, num_queries, width, **on_meta))
        self.lm_head = (
            None
            if self.config.tied_head
            else operations.Linear(width, self.config.vocab_size, bias=False, **on_meta)
        )
        if self.tokenizer.num_ids > self.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {self.tokenizer.num_ids} tokens, the language model knows "
                f"{self.config.vocab_size}. Use the tokenizer files of this very checkpoint."
            )

    @property
    def num_queries(self) -> int:
        return self.latent_queries.shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (any shape) to embeddings (..., D)."""
        return self.model.embed_tokens(ids).to(self.device, self.dtype)

    def queries(self) -> Tensor:
        """The learned latent queries, (1, Q, D)."""
        return self.latent_queries.to(self.device, self.dtype)

    def encode_images(self, patches: Tensor, grids: list[tuple[int, int]]) -> Tensor:
        """Patches of pictures to image embeddings, (tokens, D)."""
        return self.visual(patches.to(self.device, self.dtype), grids)

    def put_back(self) -> None:
        """Let go of copies on a device in favour of the file's own: nothing is copied back."""
        for name, weight in list(self.named_parameters()):
            mapped = self.mapped_weights.get(name, weight)
            if weight.data_ptr() != mapped.data_ptr():
                owner, _, last = name.rpartition(".")
                place = nn.Parameter(mapped, requires_grad=False)
                self.get_submodule(owner).register_parameter(last, place)

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
    operations: Any = PlainOperations,
    storage_dtype: Callable[[str, Tensor], torch.dtype] | None = None,
) -> LanguageModel:
    """Build the network around a checkpoint's weights, without a random start or a second copy.

    Args:
        stage: the `llm` stage of a checkpoint; its tensors stay memory-mapped where dtype and
            device already fit.
        assets: tokenizer and image-processor files by name.
        generation_config: the file of that name; its end tokens and repetition penalty are used.
        dtype: of computing.
        operations: layers to build from (`Linear`, `RMSNorm`, `Embedding` with `project`).
        storage_dtype: dtype to keep a named weight in; `dtype` for all if None.

    Raises: ValueError for an impossible config, for missing, unexpected or misshapen weights, for
        a tokenizer without the special tokens; FileNotFoundError without tokenizer files.
    """
    shapes = {name: _shape(name, shape) for name, shape in stage.shapes().items()}
    check_layers(stage.config, stage.shapes())
    queries = shape_of(shapes, "latent_queries", 3, "BLIP3-U language model")
    llm = LanguageModel(
        stage.config, queries[1], assets, generation_config or {}, dtype, operations
    )
    if llm.lm_head is None:
        shapes.pop(_HEAD, None)  # a copy of the token table, as some trainers write it
    expected = {name: tuple(tensor.shape) for name, tensor in llm.state_dict().items()}
    match_keys(expected, shapes, "the language model")
    weights = {}
    for name, tensor in stage.state_dict().items():
        if name in shapes:
            kept = dtype if storage_dtype is None else storage_dtype(name, tensor)
            weights[name] = tensor.reshape(shapes[name]).to(device, kept)
    llm.load_state_dict(weights, strict=True, assign=True)
    llm.device = torch.device(device)
    return llm.requires_grad_(False).train(False)


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The patch embedding is published as a convolution; here it is a matrix product."""
    if name != _PATCH_EMBED or len(shape) < 3:
        return tuple(shape)
    values = 1
    for size in shape[1:]:
        values *= size
    return shape[0], values


def _eos_token_ids(
    config: Mapping[str, Any], generation_config: Mapping[str, Any], turn_end: int
) -> frozenset[int]:
    """The tokens at which an answer ends."""
    places = ((generation_config, "generation_config.json"), (config, CONFIG))
    for said, where in places:
        ids = read_config(GenerationConfig, said, where).eos_token_ids
        if ids:
            return frozenset([turn_end, *ids])
    return frozenset([turn_end])
