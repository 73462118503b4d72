"""Every stage of blip3u-tiny in a real ComfyUI, with its weights kept small by the host's layouts.

The host rounds what it multiplies in 8 bits, too; `Pipeline`, which has no host, does not.
"""

import random
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from .in_host import REPOSITORY, call_in_host, load_pack, pack_module

TINY = REPOSITORY / "models" / "blip3u-tiny"
KINDS = ("fp8_e4m3fn", "fp8_scaled", "int8", "nvfp4")
STAGES = ("visual tokens", "velocity", "UNet", "EVA-CLIP")
PROMPT = "a large red circle above a small blue square"
TIMESTEP = 500.0


def table(questions: int) -> Iterator[str]:
    """Relative errors of stages, and answers that stay the same, as a table."""
    found = call_in_host("quantized_stages", "measure_in_host", questions)
    yield f"| ComfyUI {found.pop('version')} | LLM MB | " + " | ".join(STAGES) + " | same answers |"
    yield "|---|" + "--:|" * (2 + len(STAGES))
    for kind, row in found.items():
        errors = " | ".join(f"{error:.3f}" if error else "0" for error in row["errors"])
        same = f"{row['same']} of {questions}"
        yield f"| {kind} | {row['megabytes']:.1f} | {errors} | {same} |"


def measure_in_host(questions: int) -> dict[str, Any]:
    """Inside the host: by kind, bytes, errors in the order of STAGES, and answers as before."""
    load_pack()
    convert = pack_module("blip3u_core.convert").convert
    found: dict[str, Any] = {"version": import_module("comfyui_version").__version__}
    with TemporaryDirectory() as name, torch.inference_mode():  # as nodes run
        exact = outputs(TINY, questions)
        found["as trained"] = row(TINY, exact, exact)
        for kind in KINDS:
            folder = Path(name) / kind
            convert(TINY, folder, kind)
            found[f"`{kind}`"] = row(folder, outputs(folder, questions), exact)
    return found


def row(folder: Path, made: tuple[dict, list], exact: tuple[dict, list]) -> dict[str, Any]:
    (stages, answers), (exact_stages, exact_answers) = made, exact
    return {
        "megabytes": opened(folder).llm.num_bytes / 1e6,
        "errors": [relative(stages[name], exact_stages[name]) for name in STAGES],
        "same": sum(a == b for a, b in zip(answers, exact_answers, strict=True)),
    }


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def opened(folder: Path) -> Any:
    return pack_module("blip3u_core.weights.checkpoint").open_checkpoint(folder)


def outputs(folder: Path, questions: int) -> tuple[dict[str, Tensor], list[str]]:
    """What each stage makes of one input, the same for all; and answers about pictures."""
    checkpoint = opened(folder)
    llm = pack_module("nodes.host.llm").load_llm(checkpoint, None)
    picture = torch.from_numpy(scenes(1)[0][0].copy())
    made = {
        "visual tokens": llm.visual_tokens([drawing_context(llm.network())]),
        "velocity": velocity(checkpoint),
        "UNet": prediction(checkpoint),
        "EVA-CLIP": features(folder, picture[None] / 255),
    }
    return made, answers(llm, questions)


def drawing_context(llm: Any) -> Any:
    chat = pack_module("blip3u_core.chat.chat").Chat()
    return pack_module("blip3u_core.chat.dialogue").drawing_context(llm, chat, "caption", PROMPT)


def velocity(checkpoint: Any) -> Tensor:
    """Of noise, at one timestep, for random tokens."""
    patcher = on_device(pack_module("nodes.host.dit").load_dit(checkpoint, None))
    network = patcher.model.diffusion_model
    config = network.config
    grid, dtype = config.input_size, patcher.model.manual_cast_dtype or torch.float32
    x = seeded(1, config.in_channels, grid, grid).to(dtype)
    tokens = seeded(1, grid**2, config.condition_dim).to(dtype)
    return network(x, torch.full((1,), TIMESTEP), tokens).float()


def prediction(checkpoint: Any) -> Tensor:
    """The UNet's, of noise, at one timestep, for random features."""
    patcher = on_device(pack_module("nodes.host.decoder").load_decoder(checkpoint, None))
    model, side = patcher.model, checkpoint.unet.config["sample_size"]
    tokens = seeded(1, 64, model.model_config.unet_config["context_dim"])
    x = seeded(1, checkpoint.unet.config["in_channels"], side, side)
    added = model.encode_adm(pooled_output=tokens.mean(dim=1))
    return model.diffusion_model(x, torch.full((1,), TIMESTEP), context=tokens, y=added).float()


def features(folder: Path, picture: Tensor) -> Tensor:
    """The tower's, of one picture (1, H, W, 3)."""
    place = pack_module("nodes.host.paths").VisionTowerPlace(folder, inside_checkpoint=True)
    return pack_module("nodes.host.vision").load_vision_tower(place, None).clip_features(picture)[0]


def answers(llm: Any, count: int) -> list[str]:
    """Greedy, to questions about held-out pictures."""
    prompt = import_module("blip3u_core.language.prompt")
    chat, sampling = pack_module("blip3u_core.chat.chat").Chat(), sampling_of(40)
    chats = [
        chat.say(
            "user",
            prompt.fill_request(prompt.QUESTION_REQUEST, text, 1),
            [torch.from_numpy(picture.copy())],
        )
        for picture, text in scenes(count)
    ]
    return [text for text, _ in llm.chat_model(sampling).answer(chats)]


def scenes(count: int) -> list[tuple[Any, str]]:
    """Pictures (H, W, 3) uint8 and a question about each."""
    from small_world.questions import QUESTIONS, ask
    from small_world.world import render, sample_scene

    rngs = [random.Random(f"quantized stages {i}") for i in range(count)]
    found = [sample_scene(rng, "held_out") for rng in rngs]
    names = list(QUESTIONS)
    return [
        (render(scene), ask(rng, scene, names[i % len(names)]).text)
        for i, (rng, scene) in enumerate(zip(rngs, found, strict=True))
    ]


def sampling_of(tokens: int) -> Any:
    params = pack_module("blip3u_core.language.generate").SamplingParams
    return params(max_new_tokens=tokens)


def on_device(patcher: Any) -> Any:
    """The patcher, its weights loaded by the host."""
    import_module("comfy.model_management").load_models_gpu([patcher])
    return patcher


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
