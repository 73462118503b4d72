"""The decoder's noise levels, from the checkpoint's own scheduler_config.json (EulerDiscrete).

x = clean + sigma noise;  sigma_t = sqrt((1 - a_t) / a_t), a_t the product of (1 - beta)
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from ..weights.config import STRICT, read_config

Beta = Annotated[float, Field(gt=0, lt=1)]
SCHEDULER = "scheduler_config.json"


@dataclass(frozen=True, config=STRICT)
class NoiseSchedule:
    """One row of numbers of scheduler_config.json; the published values in brackets."""

    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)]  # (1000)
    beta_start: Beta  # (0.00085)
    beta_end: Beta  # (0.012)
    beta_schedule: Literal["scaled_linear", "linear"]  # (scaled_linear)
    prediction_type: Literal["epsilon", "v_prediction"]  # (epsilon)
    timestep_spacing: Literal["leading", "trailing", "linspace"]  # (leading)
    steps_offset: Annotated[int, Field(ge=0, le=1)]  # (1)
    # What a scheduler config may also ask for, and all that is known here.
    trained_betas: None = None
    rescale_betas_zero_snr: Literal[False] = False
    use_karras_sigmas: Literal[False] = False
    use_exponential_sigmas: Literal[False] = False
    use_beta_sigmas: Literal[False] = False
    interpolation_type: Literal["linear"] = "linear"
    timestep_type: Literal["discrete"] = "discrete"
    final_sigmas_type: Literal["zero"] = "zero"

    def __post_init__(self) -> None:
        if self.beta_start > self.beta_end:
            raise ValueError(
                f"beta_start {self.beta_start} and beta_end {self.beta_end}; expected noise that "
                "grows"
            )
        if not math.isfinite(float(self.train_sigmas[-1])):
            raise ValueError(
                f"beta_end {self.beta_end} over {self.num_train_timesteps} num_train_timesteps; "
                "expected numbers that leave something of the picture at the last step"
            )

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """Raises ValueError if a value is missing, out of range or of a kind not known here."""
        return read_config(cls, config, SCHEDULER)

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

    def nearest_timesteps(self, sigmas: Tensor) -> Tensor:
        """The training timesteps whose log sigma is nearest, shaped like `sigmas`, float32."""
        apart = sigmas.log()[..., None] - self.train_sigmas.log()
        return apart.abs().argmin(-1).float()

    def start_scale(self, sigma: float) -> float:
        """What standard normal noise is multiplied with to begin at `sigma` without a picture."""
        return math.sqrt(sigma**2 + 1) if self.timestep_spacing == "leading" else sigma
