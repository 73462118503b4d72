"""The weights of one network on disk: names, shapes and tensors, quantised or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .json_files import FileContent, source_of
from .quantized import EXTRAS, MARK, format_of, layer_of, logical_shape
from .reader import TensorInfo, read_tensors
from .sizes import check_dtypes, check_finite


@dataclass(frozen=True)
class Stage:
    """The weights of one network, not yet read, with the config that describes it."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    source: Path  # the file or folder to name in messages
    metadata: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """The safetensors files that hold it."""
        return tuple(sorted({info.file for info in self.tensors.values()}))

    @property
    def num_bytes(self) -> int:
        """Size of its weights as stored."""
        return sum(info.num_bytes for info in self.tensors.values())

    @cached_property
    def quantized(self) -> dict[str, str]:
        """The format of each quantised layer. Raises ValueError for one that is not known."""
        marks = {name: info for name, info in self.tensors.items() if name.endswith(MARK)}
        layers = {layer_of(name): mark for name, mark in read_tensors(marks).items()}
        return {
            layer: format_of(mark, layer, str(self.source))
            for layer, mark in layers.items()
            if f"{layer}.weight" in self.tensors
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name; of a quantised layer that of its matrix, whatever lies in the file."""
        shapes = {}
        for name, info in self.tensors.items():
            kind = self.quantized.get(layer_of(name))
            if kind is None or not name.endswith(EXTRAS):
                is_matrix = kind is not None and name.endswith(".weight")
                shapes[name] = logical_shape(str(kind), info.shape) if is_matrix else info.shape
        return FileContent(shapes, str(self.source))

    def dtypes(self) -> dict[str, torch.dtype]:
        """Dtype of every weight by its name in the stage; nothing is loaded."""
        return {name: info.dtype for name, info in self.tensors.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Map the weights into memory; but for norms and biases nothing is read before its use.

        Raises: ValueError if those are no finite numbers: they are few, and tell of the others.
        """
        check_dtypes(self.dtypes(), str(self.source))
        weights = read_tensors(self.tensors)
        check_finite(weights, str(self.source))
        return weights

    def joined_with(self, config: Mapping[str, Any]) -> FileContent:
        """The stage's own configuration before that of the whole checkpoint, as a tower has."""
        return FileContent({**config, **self.config}, source_of(self.config, str(self.source)))
