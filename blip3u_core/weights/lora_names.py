"""How trainers name the LoRA of a weight: PEFT, diffusers, kohya, LyCORIS, OneTrainer."""

from collections.abc import Iterable, Iterator

# Wrappers that a trainer's model had around the network; the published checkpoint's is the last.
WRAPPERS = ("", "diffusion_model.", "transformer.", "unet.", "dit.", "model.dit.model.")
PEFT_WRAPPER = "base_model.model."
FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")  # dots become underscores behind

# What follows a module's name in a LoRA file.
SUFFIXES = (".lora_", "_lora.", ".lora.", ".alpha", ".dora_scale")
SUFFIXES += (".hada_", ".lokr_", ".oft_", ".diff")  # LyCORIS and full differences


def lora_names(module: str) -> Iterator[str]:
    """Every name of a module, "layers.0.attn1.to_q", that a LoRA file may use."""
    for wrapper in WRAPPERS:
        yield wrapper + module
        yield PEFT_WRAPPER + wrapper + module
        for prefix in FLAT_PREFIXES:
            yield prefix + (wrapper + module).replace(".", "_")
    yield "unet." + PEFT_WRAPPER + module


def modules_of(keys: Iterable[str]) -> list[str]:
    """The modules that a LoRA file changes, by its own names, sorted."""
    found = set()
    for key in keys:
        ends = [key.find(suffix) for suffix in SUFFIXES if suffix in key]
        found.add(key[: min(ends)] if ends else key)
    return sorted(found)
