"""What all stages share: resumable state, the learning-rate schedule, the log.

Every step draws from a `StepRng`, which depends on (seed, step) alone, so a run that was stopped
and resumed does the same steps as one that was not.
"""

import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from blip3u_core.atomic_files import write_atomically
from small_world.world import WideRandom

from .muon import Muon

# `BLIP3U_WORLD=wide` before any stage's command: a model of its own, in runs of its own
WIDE = os.environ.get("BLIP3U_WORLD", "small") == "wide"
RUNS = Path(__file__).parent / ("runs-wide" if WIDE else "runs")  # git-ignored


def chance(seed: int | str) -> random.Random:
    """A source of chance of the world that is trained."""
    return WideRandom(seed) if WIDE else random.Random(seed)


@dataclass(frozen=True)
class Schedule:
    """One stage's length and pace; `save_every` and `log_every` in steps."""

    steps: int
    lr: float
    batch: int
    warmup: int = 50
    flat: float = 0.5  # share of the steps before the cosine begins
    final: float = 0.03  # last learning rate as a share of `lr`
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    ema: float = 0.0
    muon: bool = False  # hidden matrices by Muon instead of AdamW, at the same rate
    log_every: int = 20
    save_every: int = 100

    def lr_at(self, step: int, began: int = 0) -> float:
        """The rate of a step; the warm-up comes after `began`, where the moments were empty."""
        if step - began < self.warmup:
            return self.lr * (step - began + 1) / self.warmup
        done = step / self.steps
        if done <= self.flat:
            return self.lr
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, (done - self.flat) / (1 - self.flat)))
        return self.lr * (self.final + (1 - self.final) * cosine)


@dataclass(frozen=True)
class StepRng:
    """The two random generators of one step."""

    python: random.Random
    torch: torch.Generator

    @classmethod
    def at(cls, seed: int, step: int) -> "StepRng":
        number = seed * 10_000_019 + step
        return cls(chance(number), torch.Generator("cpu").manual_seed(number))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.torch)


class Run:
    """A module in training: its optimizers, its moving average and its place in the schedule.

    Args: outer: names (or their parts) of the embeddings and heads, which Muon leaves to AdamW.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        schedule: Schedule,
        folder: Path = RUNS,
        outer: tuple[str, ...] = (),
    ):
        self.name, self.module, self.schedule = name, module, schedule
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.began = 0  # the step at which the optimizer's moments began
        self.params = {k: p for k, p in module.named_parameters() if p.requires_grad}
        hidden = {
            key
            for key, param in self.params.items()
            if schedule.muon and param.ndim in (2, 4) and not any(part in key for part in outer)
        }
        others = [p for key, p in self.params.items() if key not in hidden]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {
                        "params": [p for p in others if p.ndim > 1],
                        "weight_decay": schedule.weight_decay,
                    },
                    {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
                ],
                lr=schedule.lr,
                betas=schedule.betas,
                fused=True,
            )
        ]
        self.moments = dict.fromkeys(self.params, ("exp_avg", "exp_avg_sq"))
        if hidden:
            self.moments |= dict.fromkeys(hidden, ("momentum_buffer",))
            self.optimizers.append(
                Muon(
                    [self.params[key] for key in sorted(hidden)],
                    lr=schedule.lr,
                    weight_decay=schedule.weight_decay,
                )
            )
        self.ema = {k: p.detach().clone() for k, p in self.params.items()} if schedule.ema else None

    @property
    def file(self) -> Path:
        return self.folder / "state.safetensors"

    def resume(self) -> bool:
        """Take up the newest saved state; parameters that the file lacks keep their start."""
        if not self.file.exists():
            return False
        with safe_open(self.file, "pt") as file:
            saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
            self.step = int(file.metadata()["step"])
            self.began = int(file.metadata()["began"])
        with torch.no_grad():
            for key, param in self.params.items():
                if f"model.{key}" not in saved or saved[f"model.{key}"].shape != param.shape:
                    continue
                param.copy_(saved[f"model.{key}"])
                if self.ema is not None:
                    self.ema[key].copy_(saved.get(f"ema.{key}", param))
                names = self.moments[key]
                if all(f"{name}.{key}" in saved for name in names):  # not after a restoration
                    # in the parameter's own memory layout: the fused step trusts it
                    state = {n: torch.empty_like(param).copy_(saved[f"{n}.{key}"]) for n in names}
                    if "exp_avg" in state:
                        state["step"] = torch.tensor(float(self.step))
                    self.state_of(key, param).update(state)
            for key, buffer in self.module.named_buffers():
                if f"buffer.{key}" in saved:
                    buffer.copy_(saved[f"buffer.{key}"])
        return True

    def save(self) -> None:
        tensors = {f"model.{k}": p.detach() for k, p in self.params.items()}
        tensors |= {f"buffer.{k}": b for k, b in self.module.named_buffers()}
        for key, param in self.params.items():
            state = self.state_of(key, param)
            tensors |= {f"{name}.{key}": state[name] for name in self.moments[key] if state}
        if self.ema is not None:
            tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        write_safetensors(tensors, self.file, {"step": str(self.step), "began": str(self.began)})

    def state_of(self, key: str, param: Tensor) -> dict[str, Tensor]:
        """The optimizer's state of a parameter; empty before its first step."""
        return self.optimizers[self.moments[key] == ("momentum_buffer",)].state[param]

    def update(self, loss: Tensor) -> float:
        """One optimizer step; returns the gradient's norm. A step that is not finite is skipped."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.params.values(), self.schedule.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.lr_at(self.step, self.began)
            if torch.isfinite(norm):
                optimizer.step()
        self.step += 1
        if self.ema is not None:
            decay = min(self.schedule.ema, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(
                list(self.ema.values()), [p.data for p in self.params.values()], 1 - decay
            )
        return float(norm)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The moving average where there is one, else the weights; buffers included."""
        weights = dict(self.ema) if self.ema is not None else dict(self.params)
        weights |= dict(self.module.named_buffers())
        return {k: v.detach().clone() for k, v in weights.items()}

    def go(
        self,
        losses: Callable[[StepRng], Mapping[str, Tensor]],
        seed: int,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        eval_every: int = 500,
        until: int | None = None,
    ) -> None:
        """Train to the schedule's end or `until`; `losses` gives named terms, "loss" their sum."""
        sums: dict[str, float] = {}
        count, start = 0, time.time()
        last = min(self.schedule.steps, until if until is not None else self.schedule.steps)
        while self.step < last:
            terms = losses(StepRng.at(seed, self.step))
            norm = self.update(terms["loss"])
            for key, value in terms.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
            count += 1
            if self.step % self.schedule.log_every == 0 or self.step == last:
                record = {k: round(v / count, 5) for k, v in sums.items()}
                pace = (time.time() - start) / count
                self.log({"step": self.step, **record, "norm": norm, "seconds_a_step": pace})
                sums, count, start = {}, 0, time.time()
            if self.step % self.schedule.save_every == 0 or self.step == last:
                self.save()
            if evaluate and (self.step % eval_every == 0 or self.step == last):
                self.log({"step": self.step, "eval": dict(evaluate())})

    def log(self, record: Mapping) -> None:
        record = {"time": round(time.time(), 1), **record}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A stop at any moment leaves a whole file."""
    whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, lambda file: file.write(save(whole, metadata)))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
