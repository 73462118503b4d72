"""A recording of tensor operations as a CUDA graph is one, on the processor.

What Python computed while it was recorded is frozen: replayed is each operation on the very tensors
that it had, and what it returned is where it was. To wait for the device is an error.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FORBIDDEN = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")


class Recording(TorchDispatchMode):
    """Runs what happens inside it, and can `replay` it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in FORBIDDEN:
            raise RuntimeError(f"{name} is not permitted when stream is capturing")
        returned = func(*args, **kwargs)
        held = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        memory = {tensor.untyped_storage().data_ptr() for tensor in held}
        fresh = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)]
        is_view = not func._schema.is_mutable and any(
            tensor.untyped_storage().data_ptr() in memory for tensor in fresh
        )
        if not is_view:
            self.operations.append((func, args, kwargs, fresh))
        return returned

    def replay(self) -> None:
        for func, args, kwargs, targets in self.operations:
            results = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if torch.is_tensor(leaf)]
            for target, result in zip(targets, results, strict=True):
                if target.data_ptr() != result.data_ptr():
                    target.copy_(result)


def record(step: Callable[[], object]) -> Callable[[], object]:
    """Take one step and record it; the same as `blip3u_core.language.cuda_graph.record`."""
    recording = Recording()
    with recording:
        step()
    return recording.replay
