"""Put a stage's memory-mapped weights into a network that was built on the meta device."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .precision import storage_dtype
from .quantized import EXTRAS, dequantize, layer_of
from .reader import match_keys
from .stage import Stage

Shapes = Mapping[str, tuple[int, ...]]


class NamedWeights(Protocol):
    """The part of `checkpoint.Stage` that is used here."""

    @property
    def name(self) -> str:
        """The stage's name, by which `precision` knows what may take 8 bits."""
        ...

    @property
    def source(self) -> object:
        """Where the weights come from, for messages."""
        ...

    @property
    def quantized(self) -> Mapping[str, str]:
        """The kind of quantisation by layer; empty if none is quantised."""
        ...

    def shapes(self) -> Shapes:
        """Shape of every weight by name."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name, memory-mapped."""
        ...


def shapes_of(network: nn.Module) -> Shapes:
    """Shapes by name of a network built from torch's own layers on the meta device.

    A host's layers may have no parameters before weights are put into them, so what is expected
    of a checkpoint is never read off the network that a host will run.
    """
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def assign_weights(
    network: nn.Module,
    stage: NamedWeights | Stage,
    dtype: torch.dtype | None = None,
    expected: Shapes | None = None,
    rename: Callable[[str], str] | None = None,
    quantized: Collection[str] = (),
) -> None:
    """Give every parameter its weight, in place, and prove it: none missing, unexpected or unset.

    Args:
        network: its parameter names are those of the stage, as `rename` changes them.
        dtype: how weights are kept, see `precision`; None keeps them as stored, memory-mapped.
        expected: shapes by the stage's names; those of `network` itself if None, which a network
            of torch's own layers can do without.
        rename: the network's name for one of the stage's.
        quantized: formats of quantised matrices that the network's layers know; those of others
            become `dtype`, or bfloat16.

    Raises: ValueError with counts and first names if names or shapes differ.
    """
    rename = rename or _same_name
    match_keys(expected or shapes_of(network), stage.shapes(), str(stage.source))
    weights = {}
    for name, weight in kept_weights(stage, dtype, quantized).items():
        matrix = f"{layer_of(name)}.weight"
        if name.endswith(EXTRAS):
            weights[layer_of(rename(matrix)) + name.removeprefix(layer_of(name))] = weight
        else:
            weights[rename(name)] = weight
    put_weights(network, weights, str(stage.source))


def kept_weights(
    stage: NamedWeights | Stage, dtype: torch.dtype | None, quantized: Collection[str]
) -> dict[str, Tensor]:
    """A stage's weights as they are to be kept; arguments as of `assign_weights`."""
    raw, kept = stage.state_dict(), {}
    for name in stage.shapes():
        layer = layer_of(name)
        kind = stage.quantized.get(layer) if name.endswith(".weight") else None
        if kind is None:
            kept[name] = raw[name].to(storage_dtype(stage.name, name, raw[name], dtype))
        elif kind in quantized:
            ours = (name, *(layer + ending for ending in EXTRAS))
            kept.update({part: raw[part] for part in ours if part in raw})
        else:
            full = dtype if dtype is not None and dtype.itemsize > 1 else torch.bfloat16
            kept[name] = dequantize(kind, layer, raw).to(full)
    return kept


def put_weights(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Put named weights into their layers, each by the layer's own way of loading.

    Raises: ValueError if a layer got none; the names and shapes are to be compared before.
    """
    network.load_state_dict(weights, strict=True, assign=True)
    own = {name: given for name, given in weights.items() if not name.endswith(EXTRAS)}
    unset = sorted(name for name, given in own.items() if not _is_set(network, name, given))
    if unset:
        raise ValueError(
            f"{len(unset)} weights of {where} did not reach their layers ({'; '.join(unset[:3])})."
            " This ComfyUI loads weights in a way that is not known here: please report it with "
            "its version."
        )
    network.requires_grad_(False).train(False)


def _is_set(network: nn.Module, name: str, given: Tensor) -> bool:
    owner, _, last = name.rpartition(".")
    weight: Any = getattr(network.get_submodule(owner), last, None)
    return isinstance(weight, Tensor) and weight.is_meta == given.is_meta


def _same_name(name: str) -> str:
    return name
