"""Muon in float32, matrices of one shape together; a convolution is a matrix of its outputs.

torch.optim.Muon computes in bfloat16: on a processor without such products a step of ours took 8 s
there, and takes 0.1 s here. Same rule: momentum, then the nearest orthogonal matrix as the step.
Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of every matrix U S V^T of (N, rows, columns), by Newton-Schulz iterations."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.transpose(1, 2)


class Muon(torch.optim.Optimizer):
    """Steps of about the size that AdamW would take at the same rate."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    alike[param.shape].append(param)
            for shape, params in alike.items():
                looks = [self._momentum(p, group).flatten(1) for p in params]
                steps = orthogonal(torch.stack(looks))
                size = max(steps.shape[1:]) ** 0.5
                for param, direction in zip(params, steps, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.add_(direction.view(shape), alpha=-0.2 * size * group["lr"])

    def _momentum(self, param: Tensor, group: dict) -> Tensor:
        """Nesterov's look ahead along the running mean of the gradients."""
        state = self.state[param]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(param)
        state["momentum_buffer"].lerp_(param.grad, 1 - group["momentum"])
        return param.grad.lerp(state["momentum_buffer"], group["momentum"])
