"""Every value that a node takes or gives is checked against the node's own schema, in one place.

The host checks what is typed into a widget; what comes over a link, or from a script that calls
a node, reaches `execute` unchecked. `CheckedNode` stands before it.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..blip3u_core.chat.chat import HALF_CHARACTER, Chat
from ..blip3u_core.finite import all_finite
from .host.parts import present
from .search import with_aliases

# What no socket of a model carries.
DATA = (bool, int, float, str, bytes, list, tuple, dict, set, Tensor)
DIMS = {"IMAGE": "(B, H, W, C) with 1 to 4 channels", "MASK": "(B, H, W)"}
ABILITIES = {
    "MODEL": ("model", "model_options"),
    "VAE": ("encode", "decode"),
    "CLIP_VISION": ("encode_image",),
    "BLIP3U_LLM": ("chat_model", "visual_tokens"),
}
MASK_TOLERANCE = 0.01  # rounding of resized masks


class CheckedNode(io.ComfyNode):
    """A node whose inputs fit its schema when `execute` runs, and whose outputs are finite.

    Its schema also says by which other words people find it, where the host takes any.
    """

    # Combos whose list grows between two looks; `execute` says what it cannot find.
    growing_lists: frozenset[str] = frozenset()

    @classmethod
    def runs_of(cls, lists: dict[str, list]) -> list[dict[str, Any]]:
        """The runs of a node that takes its inputs as lists: one value of each a run."""
        raise NotImplementedError

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        node: Any = cls
        own = cls.__dict__.get("execute")
        if isinstance(own, classmethod) and not hasattr(own.__func__, "__wrapped__"):
            node.execute = classmethod(_checked(own.__func__))
        schema = cls.__dict__.get("define_schema")
        if isinstance(schema, classmethod) and not hasattr(schema.__func__, "__wrapped__"):
            node.define_schema = classmethod(with_aliases(schema.__func__))


def _checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    @wraps(execute)
    def run(cls: type[CheckedNode], *args: Any, **values: Any) -> io.NodeOutput:
        schema = cls.define_schema()
        _check_names(schema, values, signature(execute).parameters)
        given = signature(execute).bind_partial(cls, *args, **values).arguments
        given = {name: value for name, value in list(given.items())[1:]}
        if schema.is_input_list:
            runs = cls.runs_of(check_lists(schema, given))
        else:
            runs = [check_inputs(schema, given, cls.growing_lists)]
        outputs = []
        for run in runs:
            output = execute(cls, **run)
            check_outputs(schema, output)
            outputs.append(output)
        if not schema.is_input_list:
            return outputs[0]
        columns = zip(*(output.args for output in outputs), strict=True)
        return io.NodeOutput(*map(list, columns))

    return run


def _check_names(schema: io.Schema, values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in values.keys() - known.keys():
        raise _refused(
            schema,
            name,
            "connected",
            "only inputs that this node has here",
            "The workflow comes from a newer ComfyUI (inputs that grow need 0.8) or a newer "
            "release of these nodes: update, or disconnect it.",
        )


def check_inputs(
    schema: io.Schema, values: Mapping[str, Any], growing_lists: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The values as `execute` takes them: masks and pictures as floating point numbers.

    Raises: ValueError that names node, input, value, what was expected, and what to do.
    """
    checked = {}
    for given in schema.inputs:
        value = values.get(given.id)
        if value is None:
            if not given.optional:
                raise _refused(schema, given.id, "nothing", "a value", "Connect or fill it in.")
            continue
        kind = given.get_io_type()
        if kind == "COMBO" and given.id in growing_lists:
            kind = "STRING"
        try:
            checked[given.id] = CHECKS.get(str(kind), _model)(value, given)
        except _Unfit as unfit:
            raise _refused(schema, given.id, *unfit.args) from None
    return checked


def check_lists(schema: io.Schema, lists: Mapping[str, Any]) -> dict[str, list]:
    """`check_inputs` for a node that takes every input as a list: each of its values by itself."""
    for name, values in lists.items():
        if not isinstance(values, list):
            raise _refused(schema, name, _said(values), "a list of values", "Call it as the host.")
    longest = max(1, *map(len, lists.values()))
    checked: dict[str, list] = {}
    for index in range(longest):
        one = {name: values[index] for name, values in lists.items() if index < len(values)}
        known = {name: values[0] for name, values in checked.items()}
        for name, value in check_inputs(schema, {**known, **one}).items():
            if name in one:
                checked.setdefault(name, []).append(value)
    return checked


def check_outputs(schema: io.Schema, output: io.NodeOutput) -> None:
    """Raises: ValueError if a tensor that leaves the node holds NaN or infinity."""
    for described, value in zip(schema.outputs, output.args, strict=False):
        for tensor in _tensors(value):
            if not all_finite(tensor):
                raise ValueError(
                    f"{schema.display_name} computed NaN or infinite values for its output "
                    f"{described.id}, expected finite numbers. Load the weights with "
                    "weight_dtype bf16 or fp32 (fp16 can overflow); if it stays so, they are "
                    "damaged: download the checkpoint again."
                )


class _Unfit(Exception):
    """What came, what was expected, what to do."""


def _refused(schema: io.Schema, name: str, came: str, expected: str, advice: str) -> ValueError:
    return ValueError(f"{schema.display_name}: {name} is {came}, expected {expected}. {advice}")


def _said(value: Any) -> str:
    """A value as a message shows it: short, and without anything that cannot be printed."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    text = ascii(value) if isinstance(value, str) and not _encodable(value) else repr(value)
    if not isinstance(value, DATA) or not _encodable(text):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 200 else text[:200] + " ..."


def _encodable(text: str) -> bool:
    return HALF_CHARACTER.search(text) is None


def _text(value: Any, given: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit(_said(value), "a text", "Connect a text, or type it.")
    if not _encodable(value):
        place = next(i for i, letter in enumerate(value) if not _encodable(letter))
        raise _Unfit(
            f"a text with half a character ({value[place]!a} at place {place})",
            "whole characters",
            "A program cut an emoji or the like in two (a lone UTF-16 surrogate): send it again.",
        )
    return value


def _choice(value: Any, given: Any) -> str:
    if not isinstance(value, str) or value not in given.options:
        listed = ", ".join(map(str, given.options))
        raise _Unfit(_said(value), f"one of: {listed}", "Choose one, spelled like this.")
    return value


def _range(given: Any) -> str:
    return f"from {given.min} to {given.max}"


def _whole(value: Any, given: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _Unfit(_said(value), f"a whole number {_range(given)}", "Change it.")
    if not given.min <= value <= given.max:
        raise _Unfit(_said(value), f"a whole number {_range(given)}", "Change it.")
    return int(value)


def _number(value: Any, given: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _Unfit(_said(value), f"a number {_range(given)}", "Change it.")
    if not isfinite(value) or not given.min <= value <= given.max:
        raise _Unfit(_said(value), f"a number {_range(given)}", "Change it.")
    return float(value)


def _picture(value: Any, given: Any) -> Tensor:
    pictures = _floating(value, "IMAGE", integers=torch.uint8, scale=255)
    if not all_finite(pictures):
        raise _Unfit(*_broken(pictures))
    fits = pictures.ndim == 4 and 0 not in pictures.shape and pictures.shape[3] <= 4
    if not fits:
        advice = "Connect an IMAGE with at least one picture."
        raise _Unfit(_said(value), f"pictures {DIMS['IMAGE']}", advice)
    return pictures


def _pictures(value: Any, given: Any) -> dict[str, Tensor]:
    """The inputs of a group that grows; those without a link are left out."""
    if not isinstance(value, Mapping):
        raise _Unfit(_said(value), "a picture on each of its inputs", "Connect IMAGEs.")
    return {name: _picture(image, given) for name, image in value.items() if image is not None}


def _mask(value: Any, given: Any) -> Tensor:
    """(B, H, W) in [0, 1], of (H, W), (B, H, W) or (B, 1, H, W)."""
    masks = _floating(value, "MASK", integers=torch.bool, scale=1)
    if masks.ndim not in (2, 3, 4) or 0 in masks.shape or (masks.ndim == 4 and len(masks[0]) > 1):
        raise _Unfit(_said(value), f"masks {DIMS['MASK']}", "Connect a MASK with some pixels.")
    low, high = masks.aminmax()
    if not (low >= -MASK_TOLERANCE and high <= 1 + MASK_TOLERANCE):  # NaN is not, either
        raise _Unfit(
            f"a mask with values from {low:.4g} to {high:.4g}",
            "values from 0 (stays) to 1 (redrawn)",
            "Scale it (a mask in 8 bits is divided by 255), or look at the step that made it.",
        )
    return masks.reshape(-1, *masks.shape[-2:]).clamp(0, 1)


def _latent(value: Any, given: Any) -> dict[str, Any]:
    samples = value.get("samples") if isinstance(value, Mapping) else None
    if not isinstance(samples, Tensor):
        advice = "Connect CLIP features: from a CLIP Feature Sampler or Image to CLIP Features."
        raise _Unfit(_said(value), "a LATENT", advice)
    latents = _floating(samples, "LATENT")
    if latents.ndim != 4 or 0 in latents.shape:
        raise _Unfit(
            f"a LATENT with {_said(samples)}",
            "CLIP features (B, C, g, g)",
            "Take them from a CLIP Feature Sampler or from Image to CLIP Features.",
        )
    if not all_finite(latents):
        raise _Unfit(*_broken(latents))
    checked = {**value, "samples": latents}
    if value.get("noise_mask") is not None:
        checked["noise_mask"] = _mask(value["noise_mask"], given)
    return checked


def _conditioning(value: Any, given: Any) -> list:
    advice = "Take it from Visual Tokens, or from a stock node behind it."
    whole = isinstance(value, list | tuple) and len(value) > 0
    if not whole or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        raise _Unfit(_said(value), "a CONDITIONING with visual tokens", advice)
    for tokens, extra in value:
        fits = isinstance(tokens, Tensor) and tokens.is_floating_point() and tokens.ndim == 3
        if not fits or 0 in tokens.shape or not isinstance(extra, Mapping):
            came = f"a CONDITIONING with {_said(tokens)}"
            raise _Unfit(came, "visual tokens (B, Q, D), floating point", advice)
        if not all_finite(tokens):
            raise _Unfit(*_broken(tokens))
    return list(value)


def _chat(value: Any, given: Any) -> Chat:
    if not isinstance(value, Chat):
        advice = "Connect Chat Message, Load Chat, or the chat_out of another node."
        raise _Unfit(_said(value), "a chat", advice)
    return value


def _model(value: Any, given: Any) -> Any:
    """Told by what it can do: hosts and packs have several classes for one socket."""
    part, kind = present(value), str(given.get_io_type())
    if not all(hasattr(part, name) for name in ABILITIES.get(kind, ())):
        advice = "Connect the output of that kind: Load BLIP3-U and Load EVA-CLIP give them."
        raise _Unfit(_said(part), f"a {kind}", advice)
    return part


CHECKS: Mapping[str, Callable[[Any, Any], Any]] = {
    "STRING": _text,
    "COMBO": _choice,
    "INT": _whole,
    "FLOAT": _number,
    "IMAGE": _picture,
    "COMFY_AUTOGROW_V3": _pictures,
    "MASK": _mask,
    "LATENT": _latent,
    "CONDITIONING": _conditioning,
    "BLIP3U_CHAT": _chat,
}


def _floating(
    value: Any, kind: str, integers: torch.dtype | None = None, scale: float = 1
) -> Tensor:
    """A tensor of floating point numbers; of one other dtype, it is made so."""
    if not isinstance(value, Tensor):
        raise _Unfit(_said(value), f"a {kind}", f"Connect a {kind} output.")
    if integers is not None and value.dtype == integers:
        return value.float() / scale
    if not value.is_floating_point():
        raise _Unfit(_said(value), "floating point numbers", "Convert it in the step before.")
    return value.float()


def _broken(tensor: Tensor) -> tuple[str, str, str]:
    return (
        f"{_said(tensor)} with NaN or infinite values",
        "finite numbers",
        "The step that made it failed (often a model in 16 bits): run that one in another "
        "precision.",
    )


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of one output: an IMAGE, MASK, SIGMAS, LATENT or CONDITIONING."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return _tensors(value.get("samples"))
    if isinstance(value, list):
        return [pair[0] for pair in value if isinstance(pair, list) and isinstance(pair[0], Tensor)]
    return []
