"""A sampler that asks the network twice the same."""

import comfy.samplers
import torch
from comfy_api.v0_0_2 import io


class TestTwice(io.ComfyNode):
    """Evaluates its start twice and gives (second, first), one above the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestTwice", category="test", inputs=[], outputs=[io.Sampler.Output()]
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        def sample(model, x, sigmas, extra_args, callback, disable):
            sigma = sigmas[:1]
            first, second = (model(x, sigma.repeat(len(x)), **extra_args) for _ in range(2))
            return torch.cat([second, first], dim=2)

        return io.NodeOutput(comfy.samplers.KSAMPLER(sample))
