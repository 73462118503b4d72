"""A small stock SDXL, and what people lay around a UNet: tiles, ControlNets, compilation."""

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.samplers
import comfy.supported_models
import torch
from comfy.cldm.cldm import ControlNet as ControlNetwork
from comfy.controlnet import ControlNet
from comfy.ldm.modules.attention import attention_pytorch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_api.v0_0_2 import io

CONTEXT, POOLED, SIZES = 32, 24, 6 * 256  # widths: of tokens, of the pooled vector, of time ids
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
    "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 2], "num_classes": "sequential",
    "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "use_linear_in_transformer": True,
    "use_spatial_transformer": True, "use_temporal_attention": False, "legacy": False,
    "context_dim": CONTEXT, "adm_in_channels": POOLED + SIZES, "dtype": torch.float32,
}  # fmt: skip
HEADS = {"num_heads": -1, "num_head_channels": 16}


def randomize(network: torch.nn.Module, seed: int) -> None:
    """The host's layers begin with whatever was in memory."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = noise * parameter[0].numel() ** -0.5
        else:
            parameter.data = 1 + 0.1 * noise  # gains of norms, and biases


class SmallSDXL(comfy.supported_models.SDXL):
    unet_extra_config = HEADS


class TestUNet(io.ComfyNode):
    """A stock SDXL with random weights, and its conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestUNet",
            category="test",
            inputs=[],
            outputs=[io.Model.Output(), io.Conditioning.Output(), io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        model = SmallSDXL(UNET).get_model({}, "", device="cpu")
        randomize(model.diffusion_model, 1)
        cpu = torch.device("cpu")
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
        generator = torch.Generator().manual_seed(2)
        pair = [
            [
                [
                    torch.randn(1, 9, CONTEXT, generator=generator),
                    {"pooled_output": torch.randn(1, POOLED, generator=generator)},
                ]
            ]
            for _ in range(2)
        ]
        return io.NodeOutput(patcher, *pair)


class TestControl(io.ComfyNode):
    """The conditioning with a stock ControlNet of random weights for TestUNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestControl",
            category="test",
            inputs=[io.Conditioning.Input("conditioning"), io.Image.Input("image")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning: list, image: torch.Tensor) -> io.NodeOutput:
        config = {name: value for name, value in UNET.items() if name != "out_channels"}
        config.pop("transformer_depth_output")
        network = ControlNetwork(
            **config, **HEADS, hint_channels=3, operations=comfy.ops.disable_weight_init
        )
        randomize(network, 3)
        control = ControlNet(network, load_device=comfy.model_management.get_torch_device())
        control.set_cond_hint(image.movedim(-1, 1), 0.5, (0.0, 1.0))
        return io.NodeOutput([[t, {**more, "control": control}] for t, more in conditioning])


class TestAttention(io.ComfyNode):
    """Half of every cross-attention, as nodes put their own in the place of the UNet's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestAttention",
            category="test",
            inputs=[io.Model.Input("model")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: comfy.model_patcher.ModelPatcher) -> io.NodeOutput:
        def half(q, k, v, options: dict) -> torch.Tensor:
            return 0.5 * attention_pytorch(q, k, v, options["n_heads"])

        patched = model.clone()
        for block in (("input", 4), ("input", 8), ("middle", 0), ("output", 1), ("output", 5)):
            patched.set_model_attn2_replace(half, *block)
        return io.NodeOutput(patched)


class TestParts(io.ComfyNode):
    """The model in parts, as tiled diffusion works: two halves of the picture, or single rows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestParts",
            category="test",
            inputs=[io.Model.Input("model"), io.Combo.Input("by", options=["tile", "row"])],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: comfy.model_patcher.ModelPatcher, by: str) -> io.NodeOutput:
        def tiles(apply_model, given: dict) -> torch.Tensor:
            x, timestep, c = given["input"], given["timestep"], given["c"]
            return torch.cat([apply_model(half, timestep, **c) for half in x.chunk(2, 3)], 3)

        def rows(apply_model, given: dict) -> torch.Tensor:
            x, timestep, c = given["input"], given["timestep"], given["c"]
            return torch.cat(
                [
                    apply_model(
                        x[i : i + 1],
                        timestep[i : i + 1],
                        **{
                            name: value[i : i + 1] if isinstance(value, torch.Tensor) else value
                            for name, value in c.items()
                        },
                    )
                    for i in range(len(x))
                ]
            )

        patched = model.clone()
        patched.set_model_unet_function_wrapper({"tile": tiles, "row": rows}[by])
        return io.NodeOutput(patched)


class TestCompile(io.ComfyNode):
    """TorchCompileModel with a backend that needs no compiler and counts the graphs it is given.

    The model compiles anew with every run, as a new node does; the count stands in the log.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestCompile",
            category="test",
            inputs=[io.Model.Input("model"), io.String.Input("name")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: comfy.model_patcher.ModelPatcher, name: str) -> io.NodeOutput:
        graphs: list[int] = []

        def backend(graph: torch.fx.GraphModule, _inputs: list):
            graphs.append(len(graph.graph.nodes))
            print(f"compiled {name}: {len(graphs)} graphs, {sum(graphs)} operations", flush=True)
            return graph.forward

        torch.compiler.reset()
        patched = model.clone()
        set_torch_compile_wrapper(model=patched, backend=backend)
        return io.NodeOutput(patched)


class TestBatches(io.ComfyNode):
    """Evaluates batches of 2, 1, 1 and 2 at one sigma, and gives all six rows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestBatches", category="test", inputs=[], outputs=[io.Sampler.Output()]
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        def sample(model, x, sigmas, extra_args, callback, disable):
            sigma = sigmas[:1]
            batches = (x, 0.5 * x[:1], 0.5 * x[:1], x)
            return torch.cat([model(b, sigma.repeat(len(b)), **extra_args) for b in batches])

        return io.NodeOutput(comfy.samplers.KSAMPLER(sample))


AROUND_UNETS = (TestUNet, TestControl, TestAttention, TestParts, TestCompile, TestBatches)
