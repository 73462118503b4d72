"""What a stage costs on a card: per operation what binds it, and for all what crosses the link."""

from dataclasses import dataclass

from .counting import Work

COMPUTE_REACHED = 0.6  # of the dense peak, by good matrix products of these sizes
BANDWIDTH_REACHED = 0.8
LAUNCH_SECONDS = 6e-6  # per operation issued by eager PyTorch
SHORTEST_KERNEL = 2e-6
RESERVED = 1.2e9  # bytes that the desktop, the CUDA context and the host's reserve take
GB = 1e9


@dataclass(frozen=True)
class Gpu:
    """Numbers of the makers' data sheets; `link` is what PCIe reaches in practice."""

    name: str
    flops: float  # bf16, dense, float32 accumulation
    bandwidth: float  # bytes a second
    memory: float  # bytes
    link: float  # bytes a second between RAM and card


GPUS = (
    Gpu("H100 SXM 80 GB", 989e12, 3.35e12, 80e9, 50e9),
    Gpu("RTX 4070 12 GB", 58e12, 504e9, 12e9, 25e9),
    Gpu("RTX 4060 8 GB", 30e12, 272e9, 8e9, 13e9),
)


@dataclass(frozen=True)
class StageCost:
    """Work, and the weights that every one of its `passes` goes through."""

    name: str
    work: Work
    weight_bytes: float
    passes: int = 1
    cast_bytes: float = 0.0  # moved at every pass beside what bf16 moves; less than 0: less

    @property
    def memory(self) -> float:
        return self.weight_bytes + self.work.peak_bytes

    def kernel_seconds(self, card: Gpu) -> float:
        """Of the operations, with weights in bf16."""
        compute, bandwidth = card.flops * COMPUTE_REACHED, card.bandwidth * BANDWIDTH_REACHED
        return self.work.sum(
            lambda o: max(o.flops / compute, o.num_bytes / bandwidth, SHORTEST_KERNEL)
        )

    def gpu_seconds(self, card: Gpu) -> float:
        """With CUDA graphs, everything on the card."""
        cast = self.passes * self.cast_bytes / (card.bandwidth * BANDWIDTH_REACHED)
        return self.kernel_seconds(card) + cast

    def streamed_bytes(self, card: Gpu) -> float:
        """Weights that do not fit and cross the link at every pass (low-VRAM mode)."""
        return min(self.weight_bytes, max(0.0, self.memory - (card.memory - RESERVED)))

    def stream_seconds(self, card: Gpu) -> float:
        return self.passes * self.streamed_bytes(card) / card.link

    def launch_seconds(self) -> float:
        return self.work.launches * LAUNCH_SECONDS

    def seconds(self, card: Gpu, graphs: bool = False) -> float:
        """Time with the weights where they are after loading, and what does not fit streamed."""
        busy = self.gpu_seconds(card)
        launched = busy if graphs else max(busy, self.launch_seconds())
        return max(launched, self.stream_seconds(card))

    def limit(self, card: Gpu) -> str:
        """What the time is made of."""
        busy = self.gpu_seconds(card)
        parts = {
            "link": self.stream_seconds(card),
            "launches": self.launch_seconds(),
            "compute": busy if self._compute_share(card) > 0.5 else 0.0,
            "bandwidth": busy if self._compute_share(card) <= 0.5 else 0.0,
        }
        return max(parts, key=lambda name: parts[name])

    def _compute_share(self, card: Gpu) -> float:
        compute, bandwidth = card.flops * COMPUTE_REACHED, card.bandwidth * BANDWIDTH_REACHED
        bound = self.work.sum(
            lambda o: (o.flops / compute) * (o.flops / compute > o.num_bytes / bandwidth)
        )
        return bound / self.gpu_seconds(card)


def duration(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
