"""In the host: pictures of blip3u-tiny by every setting, with the UNet's work counted.

Held-out scenes go picture -> features -> picture; the scorer says which come back whole, and the
vision tower whether the features that were asked for are seen again.
"""

import json
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from blip3u_core.pipeline import Pipeline
from small_world.scorer import same_scene
from small_world.world import render, sample_scene

from ..meaning.model import MeaningModel, as_pictures
from ..meaning.rows import make_cases, read_all
from .counting import count
from .decoder_rows import TINY, Row, RowFile
from .decoder_settings import EXACT, GUIDED_ROWS, REFERENCE, SETTINGS, Setting
from .in_host import load_pack, pack_module
from .stages import PICTURE_SIDE, manifest

UNET_CONFIG = "diffusion-decoder/unet/config.json"
TINY_NAME = "blip3u-tiny (built-in)"
GUIDANCE_SCALE, SEED, BATCH = 3.0, 5000, 25
COMPARED = 12  # pictures whose distances are measured
DEPTH_8B = {1: 1, 2: 3, 3: 4}  # of blip3u-tiny's UNet, and where SDXL's has the same blocks left


def measure_in_host(
    cases: int, numbers: list[int], file: tuple[str, str] | None, minimal: bool
) -> list[Row]:
    """The rows of these settings; each also goes into the file, if a path and digest is given."""
    torch.set_num_threads(1)
    load_pack()
    bench, compared = Bench(cases), min(cases, COMPARED)
    exact, _ = bench.draw(Setting(3) if minimal else EXACT, compared)
    reference, _ = bench.draw(Setting(2) if minimal else REFERENCE, compared)
    tiny = Work(json.loads((TINY / UNET_CONFIG).read_text("utf-8")), bench.grid)
    large = None if minimal else Work(manifest("decoder_unet")["config"], 8)
    found = []
    for number in numbers:
        setting = SETTINGS[number]
        pictures, rows = bench.draw(setting, cases)
        row = {
            "number": number,
            "work": tiny.relative(rows, setting.depth),
            "work_8b": large.relative(rows, DEPTH_8B.get(setting.depth, 0)) if large else 0.0,
            "to_exact": psnr(pictures, exact),
            "to_reference": psnr(pictures, reference),
            "scenes": bench.kept_scenes(pictures),
            "cases": cases,
            "features": bench.kept_features(pictures),
        }
        found.append(row)
        if file:
            RowFile(Path(file[0]), cases, file[1]).add(row)
    return found


def psnr(pictures: Tensor, wanted: Tensor) -> float:
    """Mean over the pictures that are compared, in dB."""
    squares = (pictures[:COMPARED] - wanted[:COMPARED]) ** 2
    return float((-10 * squares.mean((1, 2, 3)).clamp_min(1e-12).log10()).mean())


class Evaluation(NamedTuple):
    """What an evaluation takes over instead of computing it."""

    inner_features: bool = False
    cross_attention: bool = False


class Work:
    """FLOPs of a UNet for one row: of a full evaluation, and of those that reuse."""

    def __init__(self, config: dict[str, Any], grid: int) -> None:
        self.views = pack_module("nodes.host.unet_view")
        decoder, layers = pack_module("nodes.host.decoder"), pack_module("nodes.host.layers")
        read = pack_module("blip3u_core.decoder.unet_config").UNetConfig.from_json(config)
        host_config = pack_module("nodes.host.unet_config").host_unet_config(read)
        operations = layers.TorchOperations
        self.unet = decoder.DecoderUNet(**host_config, device="meta", operations=operations)
        self.attention = {"optimized_attention_override": decoder._torch_attention}
        side = PICTURE_SIDE // 8 if config["sample_size"] > 64 else config["sample_size"]
        self.inputs = [
            torch.empty(*shape, device="meta")
            for shape in (
                (1, config["in_channels"], side, side),
                (1,),
                (1, grid * grid, config["cross_attention_dim"]),
                (1, config["projection_class_embeddings_input_dim"]),
            )
        ]
        self.reference = REFERENCE.steps * GUIDED_ROWS * self._evaluations(1)[Evaluation()]

    def relative(self, rows: Counter[Evaluation], depth: int) -> float:
        """Of the evaluations of one picture, relative to those of the reference."""
        flops = self._evaluations(max(depth, 1))
        return sum(number * flops[kind] for kind, number in rows.items()) / self.reference

    @cache  # noqa: B019 - two of these, for one run
    def _evaluations(self, depth: int) -> dict[Evaluation, int]:
        """FLOPs of each kind of evaluation of one row."""
        view = self.views.View(self.unet, depth, cross_attention=True)
        self._flops(view.full)
        features, attention = view.kept.passed, [kept.passed for kept in view.kept_attention]
        view.give(features, attention)
        kinds = [Evaluation(*kind) for kind in product((False, True), repeat=2)]
        return {kind: self._flops(view.unet(*kind)) for kind in kinds}

    def _flops(self, unet: Any) -> int:
        x, *rest = self.inputs
        return count(lambda: unet._forward(x, *rest, None, dict(self.attention))).flops


class Bench:
    """The model in the host, the scenes, and the features that are asked for."""

    def __init__(self, cases: int) -> None:
        from nodes import NODE_CLASS_MAPPINGS as NODES

        self.nodes = NODES
        load = NODES["BLIP3U_LoadModel"].execute(TINY_NAME, "fp32")
        _, _, self.decoder, self.vae = load.args
        self.model = MeaningModel(Pipeline.from_checkpoint(TINY))
        self.scenes = make_cases("decoder", cases, lambda rng: sample_scene(rng, "held_out"))
        self.features = self.model.encode([render(scene) for scene in self.scenes])
        self.negative = self.model.pipeline.negative_features()
        self.grid = self.features.shape[-1]

    @torch.inference_mode()
    def draw(self, setting: Setting, cases: int) -> tuple[Tensor, Counter[Evaluation]]:
        """Pictures (B, H, W, 3), and how many rows of the UNet each took, by kind."""
        drawing = pack_module("nodes.host.drawing")
        canvas = pack_module("nodes.host.canvas").Canvas()
        patched = self._patched(setting)
        rows, hooks = count_rows(patched.model.diffusion_model)
        pictures = []
        for part in range(0, cases, BATCH):
            features = self.features[part : min(part + BATCH, cases)]
            way = drawing.Drawing(
                SEED + part,
                setting.steps,
                GUIDANCE_SCALE,
                1.0,
                setting.sampler_name,
                setting.scheduler,
            )
            pictures.append(
                drawing.draw_pictures(patched, self.vae, features, self.negative, way, canvas)
            )
        for hook in hooks:
            hook.remove()
        per_picture = Counter({kind: number / cases for kind, number in rows.items()})
        return torch.cat(pictures).cpu(), per_picture

    def _patched(self, setting: Setting) -> Any:
        decoder = self.decoder
        if setting.depth or setting.attention < 1:
            cache = self.nodes["BLIP3U_DeepCache"].execute
            depth = max(setting.depth, 1)
            (decoder,) = cache(decoder, setting.interval, depth, 0.0, 1.0, setting.attention).args
        if setting.easy_cache:
            from comfy_extras.nodes_easycache import EasyCacheNode

            (decoder,) = EasyCacheNode.execute(decoder, setting.easy_cache, 0.15, 0.95, False).args
        return decoder if setting.guided == 1 else guided_until(decoder, setting.guided)

    def kept_scenes(self, pictures: Tensor) -> int:
        pairs = zip(read_all(as_pictures(pictures)), self.scenes, strict=True)
        return sum(same_scene(seen, scene) for seen, scene in pairs)

    def kept_features(self, pictures: Tensor) -> float:
        """Mean cosine between the features asked for and those seen in the pictures."""
        seen, _ = self.model.pipeline.encode(pictures)
        return float(F.cosine_similarity(seen.flatten(1), self.features.flatten(1)).mean())


def count_rows(unet: Any) -> tuple[Counter[Evaluation], list[Any]]:
    """Counts every evaluation's rows by what it leaves out; and the hooks that do so."""
    rows: Counter[Evaluation] = Counter()
    worked: set[str] = set()

    def note(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module is not unet.out:
            worked.add("inner" if module is unet.middle_block[0] else "attention")
            return
        rows[Evaluation("inner" not in worked, "attention" not in worked)] += len(inputs[0])
        worked.clear()

    attentions = (m for name, m in unet.named_modules() if name.endswith("attn2.to_q"))
    watched = (unet.middle_block[0], unet.out, *attentions)
    return rows, [module.register_forward_pre_hook(note) for module in watched]


def guided_until(patcher: Any, part: float) -> Any:
    """Guidance in the first part of the schedule, as the newest hosts' CFGOverride has it."""
    from comfy.patcher_extension import WrappersMP

    last = float(patcher.get_model_object("model_sampling").percent_to_sigma(part))

    def predict(executor: Any, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        guider, scale = executor.class_obj, executor.class_obj.cfg
        guider.cfg = scale if float(timestep[0]) >= last else 1.0
        try:
            return executor(x, timestep, *args, **kwargs)
        finally:
            guider.cfg = scale

    patched = patcher.clone()
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "guided_until", predict)
    return patched
