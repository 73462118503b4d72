"""Other ways to solve the decoder's flow than the reference's, by the names that ComfyUI has.

The steps are those of diffusers' DPM-Solver++ (Lu et al. 2022) in its variance preserving x:

x(VP) = x / sqrt(1 + sigma^2)                      order 1 is Euler's method in sigma
"""

from typing import Any

from torch import Tensor

from ..euler import Integrate, OnStep, Velocity, euler
from .noise_schedule import NoiseSchedule

EULER = "euler"
CHECKPOINT = "checkpoint"  # the noise levels of scheduler_config.json
SAMPLER_ORDERS = {EULER: 1, "dpmpp_2m": 2}
SCHEDULER_OPTIONS: dict[str, dict[str, Any]] = {
    CHECKPOINT: {},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}


class DpmSolver:
    """One sampling by diffusers' multistep solver; used once, as it remembers its last steps."""

    def __init__(self, scheduler: Any, last: int) -> None:
        self.scheduler = scheduler
        self.last = last  # so many of the scheduler's steps, from its end
        scheduler.set_begin_index(len(scheduler.timesteps) - last)

    @property
    def sigmas(self) -> Tensor:
        """(S + 1,), falling to 0, float32 on the CPU."""
        sigmas: Tensor = self.scheduler.sigmas[-(self.last + 1) :]
        return sigmas

    def __call__(
        self, velocity: Velocity, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None
    ) -> Tensor:
        """Carry `x` from `sigmas[0]` to 0, as `euler` does."""
        scales = (sigmas**2 + 1) ** 0.5
        x = x / scales[0]
        for step, timestep in enumerate(self.scheduler.timesteps[-self.last :]):
            moved = velocity(x * scales[step], step)
            x = self.scheduler.step(moved, timestep, x, return_dict=False)[0]
            if on_step is not None:
                on_step(step + 1, self.last)
        return x * scales[-1]


def choose_solver(
    schedule: NoiseSchedule, sampler_name: str, scheduler: str, steps: int, denoise: float
) -> tuple[Integrate, Tensor, Tensor]:
    """How to integrate, along which sigmas (S + 1,), with which timesteps (S,) for the UNet.

    Raises: ValueError if a name is not known here, or the number of steps is out of range.
    """
    known = (("sampler_name", sampler_name, SAMPLER_ORDERS),)
    known += (("scheduler", scheduler, SCHEDULER_OPTIONS),)
    for setting, value, names in known:
        if value not in names:
            raise ValueError(
                f"{setting} is {value!r}, expected one of {', '.join(names)}. Take one of these; "
                "all the others are in ComfyUI's Decoder node."
            )
    own = schedule.timesteps(steps, denoise)  # checks the steps
    if not len(own) or (sampler_name, scheduler) == (EULER, CHECKPOINT):
        return euler, schedule.sigmas(steps, denoise), own
    solver = _dpm_solver(schedule, sampler_name, scheduler, steps, denoise)
    times = own if scheduler == CHECKPOINT else schedule.nearest_timesteps(solver.sigmas[:-1])
    return solver, solver.sigmas, times


def _dpm_solver(
    schedule: NoiseSchedule, sampler_name: str, scheduler: str, steps: int, denoise: float
) -> DpmSolver:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    made: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        solver_order=SAMPLER_ORDERS[sampler_name],
        prediction_type="epsilon",  # what the velocity is
        final_sigmas_type="zero",
        **SCHEDULER_OPTIONS[scheduler],
    )
    if scheduler == CHECKPOINT:
        made.set_timesteps(timesteps=schedule.timesteps(steps, denoise).int().tolist())
    else:
        made.set_timesteps(int(steps / denoise))
    return DpmSolver(made, steps)
