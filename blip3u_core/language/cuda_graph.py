"""A step of an answer as a CUDA graph: its kernels are launched at once, without Python."""

from functools import cache, partial

import torch

from .model import LanguageModel
from .steps import CannotRecord, Record, Step


def recorder_for(llm: LanguageModel) -> Record | None:
    """How steps of this model are recorded; None where each must be computed by Python.

    A graph holds the addresses of the weights. So they must lie on a CUDA device and stay there as
    they are: nothing offloaded, nothing patched or brought while a layer runs, no hooks.
    """
    if llm.device.type != "cuda" or not llm.weights_stay:
        return None
    parts = [llm.model] if llm.lm_head is None else [llm.model, llm.lm_head]
    modules = [module for part in parts for module in part.modules()]
    weights = (weight for module in modules for weight in module.parameters(recurse=False))
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    elsewhere = any(weight.device.type != "cuda" for weight in weights)
    return None if hooked or elsewhere else partial(record, device=llm.device)


def record(step: Step, device: torch.device) -> Step:
    """Take one step, and record it; what it allocates lives as long as what is returned.

    Raises: CannotRecord if the step does what no graph can hold.
    """
    # Recorded beside the current stream, which thus never is in a state that forbids anything.
    current, beside = torch.cuda.current_stream(device), _beside(device)
    beside.wait_stream(current)
    with torch.cuda.stream(beside):
        step()  # loads kernels and makes their workspaces, which no graph may do
    current.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(beside):
            # Not `torch.cuda.graph`: it collects garbage and empties the caches of the host.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                step()
            finally:
                graph.capture_end()
    except RuntimeError as error:
        raise CannotRecord((str(error).strip().splitlines() or ["no reason given"])[0]) from error
    return graph.replay


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings: torch keeps freed memory and workspaces for every stream used."""
    return torch.cuda.Stream(device)
