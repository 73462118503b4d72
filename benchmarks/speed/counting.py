"""Count what a network would do on a GPU, without one: run it on the meta device and listen.

Every operation that would launch a kernel is noted with its FLOPs (two per multiplication of a
matrix product or convolution, none for the rest) and its bytes (inputs read, outputs written).
Attention and RMSNorm count as the one fused kernel each that they are on a GPU.
"""

import math
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# They give memory or a number, and launch nothing.
SILENT = {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided"}
GATHERS = {"embedding", "index_select"}  # read only the rows that they return


@dataclass(frozen=True)
class Operation:
    """One kernel launch."""

    name: str
    flops: int
    num_bytes: int


@dataclass
class Work:
    """What a stage does: its operations and how often, and the most memory beside its weights."""

    operations: Counter[Operation] = field(default_factory=Counter)
    peak_bytes: int = 0

    @property
    def flops(self) -> int:
        return self.sum(lambda operation: operation.flops)

    @property
    def num_bytes(self) -> int:
        return self.sum(lambda operation: operation.num_bytes)

    @property
    def launches(self) -> int:
        return self.operations.total()

    def sum(self, value: Callable[[Operation], Any]) -> Any:
        """`value` of each operation, added up over all its launches."""
        return sum(times * value(operation) for operation, times in self.operations.items())

    def note(self, name: str, flops: int, touched: Sequence[Tensor]) -> None:
        self.operations[Operation(name, flops, sum(map(real_bytes, touched)))] += 1

    def __add__(self, other: "Work") -> "Work":
        peak = max(self.peak_bytes, other.peak_bytes)
        return Work(self.operations + other.operations, peak)

    def __mul__(self, times: int) -> "Work":
        counts = {operation: times * n for operation, n in self.operations.items()}
        return Work(Counter(counts), self.peak_bytes)


def count(function: Callable[[], object]) -> Work:
    """What `function` does with tensors on the meta device; those on the CPU do not count."""
    work = Work()
    with torch.no_grad(), _Fused(work), _Listener(work):
        function()
    return work


class _Fused(TorchFunctionMode):
    """Notes as one kernel what is one on a GPU, before torch takes it apart for the meta device."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        on_meta = bool(_meta_tensors(args))
        if on_meta and function is F.scaled_dot_product_attention:
            return self._attention(*args[:3])
        if on_meta and function in (F.rms_norm, torch.rms_norm):
            return self._rms_norm(args[0], kwargs.get("weight"))
        return function(*args, **kwargs)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        flops = 2 * q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        self.work.note("attention", flops, (q, k, v, out))
        return out

    def _rms_norm(self, x: Tensor, weight: Tensor | None) -> Tensor:
        out = torch.empty_like(x)
        self.work.note("rms_norm", 0, (x, out) if weight is None else (x, weight, out))
        return out


class _Listener(TorchDispatchMode):
    """Notes every operation on meta tensors and how many bytes are alive."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.alive: dict[int, weakref.ref] = {}
        self.alive_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        inputs = _meta_tensors((args, kwargs))
        outputs = _meta_tensors(result)
        if outputs:
            name = function._overloadpacket.__name__
            for tensor in outputs:
                self._watch(tensor, inputs)
            if name not in SILENT and not _is_view(function, inputs, outputs):
                flops = flop_registry.get(function._overloadpacket)
                number = flops(*args, **kwargs, out_val=result) if flops else 0
                read = outputs if name in GATHERS else inputs
                self.work.note(name, int(number), [*read, *outputs])
        return result

    def _watch(self, tensor: Tensor, inputs: Sequence[Tensor]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.alive or any(key == i.untyped_storage()._cdata for i in inputs):
            return
        size = storage.nbytes()

        def forget(_: object) -> None:
            del self.alive[key]
            self.alive_bytes -= size

        self.alive[key] = weakref.ref(storage, forget)
        self.alive_bytes += size
        self.work.peak_bytes = max(self.work.peak_bytes, self.alive_bytes)


def real_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct numbers of a tensor; what is repeated by stride 0 counts once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * math.prod(size for size, stride in sizes if stride)


def _meta_tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor) and t.device.type == "meta"]


def _is_view(function: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    if function._schema.is_mutable:
        return False
    owned = {tensor.untyped_storage()._cdata for tensor in inputs}
    return all(tensor.untyped_storage()._cdata in owned for tensor in outputs)
