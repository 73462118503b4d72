"""What hosts do that the one at hand does not: lazy layers, caches that look around, previews."""

from typing import Any

import comfy.ops
import latent_preview
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy_api.v0_0_2 import io

LOOKED_AT = (
    "cached_patcher_init", "get_models", "get_ram_usage", "is_dynamic", "model", "model_size",
    "nbytes", "patcher", "shape", "__len__",
)  # fmt: skip


class LazyLayers:
    """While this stands, Linear and Embedding have no weights before some are loaded.

    So hosts build them from 0.16 on when DynamicVRAM is on, which it never is on a processor.
    """

    def __init__(self) -> None:
        base: Any = comfy.ops.disable_weight_init
        self.before = {
            layer: (layer.__init__, layer._load_from_state_dict)
            for layer in (base.Linear, base.Embedding)
        }
        base.Linear.__init__ = _make_linear
        base.Embedding.__init__ = _make_embedding
        base.Linear._load_from_state_dict = base.Embedding._load_from_state_dict = _load

    def remove(self) -> None:
        for layer, (make, load) in self.before.items():
            layer.__init__, layer._load_from_state_dict = make, load


def _make_linear(
    layer: Any, in_features: int, out_features: int, bias: bool = True, **_: Any
) -> None:
    torch.nn.Module.__init__(layer)
    layer.in_features, layer.out_features = in_features, out_features
    layer.weight = layer.bias = None


def _make_embedding(layer: Any, num_embeddings: int, embedding_dim: int, **_: Any) -> None:
    torch.nn.Module.__init__(layer)
    layer.num_embeddings, layer.embedding_dim = num_embeddings, embedding_dim
    layer.padding_idx = layer.max_norm = None
    layer.norm_type, layer.scale_grad_by_freq, layer.sparse = 2.0, False, False
    layer.weight = layer.bias = None


def _load(layer: Any, weights: dict, prefix: str, *_: Any) -> None:
    for name in ("bias", "weight"):
        if prefix + name in weights:
            setattr(layer, name, torch.nn.Parameter(weights[prefix + name], requires_grad=False))


class Previews:
    """While this stands, samplers show previews, as after `--preview-method latent2rgb`."""

    def __init__(self) -> None:
        self.before = latent_preview.args.preview_method
        self._set(LatentPreviewMethod.Latent2RGB)

    def remove(self) -> None:
        self._set(self.before)

    def _set(self, method: LatentPreviewMethod) -> None:
        latent_preview.args.preview_method = method
        latent_preview.default_preview_method = method  # newer hosts go back to it with each prompt


class TestPeek(io.ComfyNode):
    """Looks at a value as the newest host's caches and trackers do, and says what it saw."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestPeek",
            category="test",
            inputs=[io.AnyType.Input("value")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value: Any) -> io.NodeOutput:
        seen = [name for name in (*LOOKED_AT, *dir(value)) if hasattr(value, name)]
        sizes = [getattr(value, name)() for name in ("get_models", "is_dynamic") if name in seen]
        return io.NodeOutput(ui={"seen": seen, "calls": [str(size) for size in sizes]})
