"""Test-only nodes: golden tensors in and out of graphs, and a look into the host's memory.

They are linked into the test host's custom_nodes and never shipped.
"""

import sys
import time
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch
from aiohttp import web
from comfy.controlnet import ControlBase
from comfy_api.v0_0_2 import ComfyExtension, io
from safetensors.torch import load_file, save_file
from server import PromptServer
from torch.nn.modules.module import register_module_forward_pre_hook

from .alive import TestAlive
from .newest import LazyLayers, Previews, TestPeek
from .twice import TestTwice
from .unets import AROUND_UNETS

FILE = [io.String.Input("file"), io.String.Input("key")]


def read(file: str, key: str) -> torch.Tensor:
    return load_file(file)[key]


class FixedNoise:
    """A NOISE that is always the same tensor."""

    seed = 0

    def __init__(self, noise: torch.Tensor):
        self.noise = noise

    def generate_noise(self, latent: dict) -> torch.Tensor:
        return self.noise


class TestNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestNoise", category="test", inputs=FILE, outputs=[io.Noise.Output()]
        )

    @classmethod
    def execute(cls, file: str, key: str) -> io.NodeOutput:
        return io.NodeOutput(FixedNoise(read(file, key)))


class TestLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestLatent", category="test", inputs=FILE, outputs=[io.Latent.Output()]
        )

    @classmethod
    def execute(cls, file: str, key: str) -> io.NodeOutput:
        return io.NodeOutput({"samples": read(file, key).float()})


class TestSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestSigmas", category="test", inputs=FILE, outputs=[io.Sigmas.Output()]
        )

    @classmethod
    def execute(cls, file: str, key: str) -> io.NodeOutput:
        return io.NodeOutput(read(file, key).float())


class TestConditioning(io.ComfyNode):
    """(B, L, D) tokens; `pooled_key` may name a (B, D) tensor of the same file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestConditioning",
            category="test",
            inputs=[*FILE, io.String.Input("pooled_key", default="")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, file: str, key: str, pooled_key: str) -> io.NodeOutput:
        extra = {"pooled_output": read(file, pooled_key).float()} if pooled_key else {}
        return io.NodeOutput([[read(file, key).float(), extra]])


class TestOption(io.ComfyNode):
    """A conditioning with one option more, as stock nodes set them: an idle ControlNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestOption",
            category="test",
            inputs=[io.Conditioning.Input("conditioning"), io.String.Input("option")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning: list, option: str) -> io.NodeOutput:
        return io.NodeOutput([[t, {**more, option: ControlBase()}] for t, more in conditioning])


class TestImage(io.ComfyNode):
    """(H, W, C) or (B, H, W, C); uint8 is divided by 255, floats are taken as they are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestImage", category="test", inputs=FILE, outputs=[io.Image.Output()]
        )

    @classmethod
    def execute(cls, file: str, key: str) -> io.NodeOutput:
        image = read(file, key)
        if image.dtype == torch.uint8:
            image = image.float() / 255
        return io.NodeOutput(image if image.ndim == 4 else image[None])


class TestMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestMask", category="test", inputs=FILE, outputs=[io.Mask.Output()]
        )

    @classmethod
    def execute(cls, file: str, key: str) -> io.NodeOutput:
        return io.NodeOutput(read(file, key).float())


class TestSave(io.ComfyNode):
    """Write any tensor-like value to output/<name>.safetensors.

    LATENT gives `samples` (and `noise_mask`), CONDITIONING gives `tokens.<i>` and its tensors as
    `<key>.<i>`, everything else that is a tensor gives `value`; a STRING is written as <name>.txt.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestSave",
            category="test",
            inputs=[io.AnyType.Input("value"), io.String.Input("name")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value: object, name: str) -> io.NodeOutput:
        folder = Path(folder_paths.get_output_directory())
        if isinstance(value, str):
            (folder / f"{name}.txt").write_text(value, "utf-8")
            return io.NodeOutput(ui={"text": [value], "files": [{"filename": f"{name}.txt"}]})
        named = {key: tensor.contiguous().cpu() for key, tensor in tensors_of(value).items()}
        save_file(named, folder / f"{name}.safetensors")
        return io.NodeOutput(ui={"files": [{"filename": f"{name}.safetensors"}]})


def tensors_of(value: object) -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {"value": value}
    if isinstance(value, dict):
        return {key: part for key, part in value.items() if isinstance(part, torch.Tensor)}
    if isinstance(value, list):
        named = {}
        for index, (tokens, extra) in enumerate(value):
            named[f"tokens.{index}"] = tokens
            parts = {f"{k}.{index}": v for k, v in extra.items() if isinstance(v, torch.Tensor)}
            named.update({key: part.clone() for key, part in parts.items()})
        return named
    if hasattr(value, "last_hidden_state"):  # CLIP_VISION_OUTPUT
        return {"last_hidden_state": value.last_hidden_state}
    raise TypeError(f"TestSave cannot write a {type(value).__name__}")


hooks: list = []


def fail_once(class_name: str) -> None:
    """The next forward of a module of this class ends as an allocation that did not fit."""

    def hook(module: torch.nn.Module, _args: tuple) -> None:
        if type(module).__name__ == class_name and hooks:
            hooks.pop().remove()
            raise comfy.model_management.OOM_EXCEPTION("out of memory, simulated by a test")

    hooks.append(register_module_forward_pre_hook(hook))


def dawdle(class_name: str, seconds: float) -> None:
    def hook(module: torch.nn.Module, _args: tuple) -> None:
        if type(module).__name__ == class_name:
            time.sleep(seconds)

    hooks.append(register_module_forward_pre_hook(hook))


class LowVram:
    """While this stands, the host loads no more than so many bytes of any model.

    On a processor the host never loads partially by itself.
    """

    def __init__(self, most_bytes: int):
        self.original = comfy.model_patcher.ModelPatcher.load

        def load(patcher, device_to=None, lowvram_model_memory=0, *args, **kwargs) -> None:
            kwargs["full_load"] = False
            self.original(patcher, device_to, most_bytes, *args, **kwargs)

        comfy.model_patcher.ModelPatcher.load = load

    def remove(self) -> None:
        comfy.model_patcher.ModelPatcher.load = self.original


class CountedMemory:
    """While this stands, torch seems to count what the device holds: always so many bytes."""

    def __init__(self, peak: int):
        (memory,) = (m for name, m in sys.modules.items() if name.endswith(".nodes.host.memory"))
        self.before = {
            (memory, "counts_peaks"): lambda device: True,
            (torch.cuda, "reset_peak_memory_stats"): lambda device: None,
            (torch.cuda, "max_memory_allocated"): lambda device: peak,
        }
        self.remove()

    def remove(self) -> None:
        """Swap: once to set the simulation up, once more to take it away."""
        for (owner, name), function in self.before.items():
            self.before[owner, name] = getattr(owner, name)
            setattr(owner, name, function)


class Script:
    """While this stands, conversations hear these lines in place of the language model."""

    def __init__(self, lines: list[str]):
        (self.module,) = (m for n, m in sys.modules.items() if n.endswith(".chat.interleave"))
        self.original, self.lines = self.module.generate_tokens, iter(lines)
        self.module.generate_tokens = self.write

    def write(self, llm, contexts, sampling, on_token, prefix_cache, stop) -> list[list[int]]:
        ids: list[int] = []
        for token in llm.tokenizer.encode(next(self.lines)):
            ids.append(token)
            on_token([ids], len(ids), sampling.max_new_tokens)
            if stop(ids):
                break
        return [ids]

    def remove(self) -> None:
        self.module.generate_tokens = self.original


def add_hooks(what: dict) -> None:
    if "out_of_memory" in what:
        fail_once(what["out_of_memory"])
    if "slow" in what:
        dawdle(what["slow"], what.get("seconds", 0.2))
    if "low_vram_bytes" in what:
        hooks.append(LowVram(what["low_vram_bytes"]))
    if "lazy_layers" in what:
        hooks.append(LazyLayers())
    if "previews" in what:
        hooks.append(Previews())
    if "counted_bytes" in what:
        hooks.append(CountedMemory(what["counted_bytes"]))
    if "script" in what:
        hooks.append(Script(what["script"]))


def add_routes() -> None:
    routes = PromptServer.instance.routes
    at_start: list[str] = []

    async def note_modules(_app: web.Application) -> None:
        at_start.extend(sorted(sys.modules))

    PromptServer.instance.app.on_startup.append(note_modules)  # all node packs are loaded by then

    @routes.get("/blip3u_test/modules_at_start")
    async def modules_at_start(_request: web.Request) -> web.Response:
        return web.json_response(at_start)

    @routes.get("/blip3u_test/models")
    async def models(_request: web.Request) -> web.Response:
        loaded = [entry for entry in comfy.model_management.current_loaded_models if entry.model]
        return web.json_response(
            [
                {
                    "class": type(entry.model.model).__name__,
                    "loaded_bytes": entry.model.loaded_size(),
                    "weights_stay": getattr(entry.model.model, "weights_stay", None),
                    "total_bytes": entry.model.model_size(),
                }
                for entry in loaded
            ]
        )

    @routes.post("/blip3u_test/hook")
    async def hook(request: web.Request) -> web.Response:
        what = await request.json()
        while hooks:
            hooks.pop().remove()
        add_hooks(what)
        return web.json_response({})


class TestExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        add_routes()
        return [
            TestNoise,
            TestLatent,
            TestSigmas,
            TestConditioning,
            TestOption,
            TestImage,
            TestMask,
            TestPeek,
            TestSave,
            TestTwice,
            TestAlive,
            *AROUND_UNETS,
        ]


async def comfy_entrypoint() -> TestExtension:
    return TestExtension()
