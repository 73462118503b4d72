"""The decoder's noise levels, from the checkpoint's own scheduler_config.json (EulerDiscrete).

x = clean + sigma noise;  sigma_t = sqrt((1 - a_t) / a_t), a_t the product of (1 - beta)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("scaled_linear", "linear")
SPACINGS = ("leading", "trailing", "linspace")
# What a scheduler config may also ask for, and the only value known here.
PLAIN = {
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "final_sigmas_type": "zero",
}


@dataclass(frozen=True)
class NoiseSchedule:
    """One row of numbers of scheduler_config.json; the published values in brackets."""

    num_train_timesteps: int  # (1000)
    beta_start: float  # (0.00085)
    beta_end: float  # (0.012)
    beta_schedule: str  # (scaled_linear)
    prediction_type: str  # (epsilon)
    timestep_spacing: str  # (leading)
    steps_offset: int  # (1)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Raises ValueError if a value is missing or of a kind that is not known here."""
        for name, expected in PLAIN.items():
            _refuse(name, config.get(name, expected), (expected,))
        numbers = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
        missing = [name for name in numbers if name not in config]
        if missing:
            raise ValueError(
                f"scheduler_config.json lacks {missing}. Download the folder "
                "diffusion-decoder/scheduler again."
            )
        schedule = cls(
            **{name: config[name] for name in numbers},
            prediction_type=config.get("prediction_type", "epsilon"),
            timestep_spacing=config.get("timestep_spacing", "linspace"),
            steps_offset=config.get("steps_offset", 0),
        )
        _refuse("prediction_type", schedule.prediction_type, PREDICTIONS)
        _refuse("beta_schedule", schedule.beta_schedule, BETA_SCHEDULES)
        _refuse("timestep_spacing", schedule.timestep_spacing, SPACINGS)
        return schedule

    @cached_property
    def train_sigmas(self) -> Tensor:
        """Sigma of every training timestep, (T,), rising, float32."""
        power = 0.5 if self.beta_schedule == "scaled_linear" else 1.0
        ends = self.beta_start**power, self.beta_end**power
        betas = torch.linspace(*ends, self.num_train_timesteps, dtype=torch.float32) ** (1 / power)
        clean = torch.cumprod(1 - betas, dim=0)
        return ((1 - clean) / clean) ** 0.5

    def timesteps(self, steps: int, denoise: float = 1.0) -> Tensor:
        """The timesteps of a sampling, (S,), falling, float32: what the UNet embeds.

        `denoise` below 1 begins later: the last S of S / denoise steps, as the host's schedulers
        do. Empty for 0. Raises: ValueError if there are not 1 to T steps.
        """
        if denoise <= 0:
            return torch.zeros(0)
        all_steps, total = max(steps, int(steps / denoise)), self.num_train_timesteps
        if not 1 <= steps <= all_steps <= total:
            raise ValueError(
                f"{steps} decoder steps with denoise {denoise}, expected 1 to {total} steps / "
                "denoise, as many as the decoder was trained on. Change steps or denoise."
            )
        if self.timestep_spacing == "leading":
            values = (np.arange(all_steps) * (total // all_steps))[::-1] + self.steps_offset
        elif self.timestep_spacing == "trailing":
            values = np.arange(total, 0, -total / all_steps).round()[:all_steps] - 1
        else:
            values = np.linspace(0, total - 1, all_steps)[::-1]
        return torch.from_numpy(values[-steps:].astype(np.float32))

    def sigmas(self, steps: int, denoise: float = 1.0) -> Tensor:
        """The noise levels of a sampling, (S + 1,), falling to 0, float32; empty for denoise 0."""
        times = self.timesteps(steps, denoise).numpy()
        if not len(times):
            return torch.zeros(0)
        places = np.arange(self.num_train_timesteps)
        sigmas = np.interp(times, places, self.train_sigmas.numpy())
        return torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))

    def start_scale(self, sigma: float) -> float:
        """What standard normal noise is multiplied with to begin at `sigma` without a picture."""
        return math.sqrt(sigma**2 + 1) if self.timestep_spacing == "leading" else sigma


def _refuse(name: str, value: Any, known: tuple) -> None:
    if value not in known:
        raise ValueError(
            f"scheduler_config.json says {name} {value!r}, known here: {list(known)}. Use the "
            "scheduler of the checkpoint's own diffusion-decoder."
        )
