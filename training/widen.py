"""Begin the wide world's model from blip3u-tiny: `BLIP3U_WORLD=wide python -m training.widen`.

What the small world taught carries over: shapes, colours, places, words. Weights whose shape is
the same are taken over whole, classes of the readers and embeddings of the tokens one by one; only
what is new (the things, the words for them, eight more latents) starts anew.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer
from torch import Tensor

from small_world.things import THINGS, WORD_OF_THING
from small_world.world import COLORS, SHAPES

from . import llm, tower, unet, vae, vision_encoder
from .common import RUNS, WIDE, chance, read_safetensors
from .export import MODEL, STATE, WEIGHTS, averaged_state
from .restore import TOWER_PREFIX, begin_run, part, training_names
from .scenes import render_batch, sample_scenes
from .tokenizer import COMMITTED, load_tokenizer


def widened(new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
    """The `old` weights where they fit, their rows where the new ones have more, else the new."""
    result = {}
    for name, value in new.items():
        known = old.get(name)
        if known is None:
            result[name] = value
        elif known.shape == value.shape:
            result[name] = known.float()
        elif known.shape[1:] == value.shape[1:] and len(known) < len(value):
            result[name] = value.clone()
            result[name][: len(known)] = known.float()
        else:
            result[name] = value
    return result


def begin_tower(published: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
    training = tower.TowerTraining()
    old = {f"tower.{k}": v for k, v in part(published, TOWER_PREFIX).items()}
    weights = widened(training.state_dict(), old | part(heads, "tower."))
    weights["spread"] = weights["spread"] * 0 + (1 - 1e-3)  # the features are standard already
    begin_run("tower", weights, 0)


def small_eyes() -> vision_encoder.VisionEncoder:
    """The committed vision tower of the small world's language model, at rest."""
    language = training_names(read_safetensors(MODEL / "model.safetensors"))
    seeing = vision_encoder.VisionEncoder()
    weights = widened(seeing.state_dict(), part(language, "eyes."))
    seeing.load_state_dict(weights)
    return seeing.requires_grad_(False).eval()


def begin_eyes(language: dict[str, Tensor]) -> None:
    seeing = vision_encoder.VisionEncoder()
    begin_run("eyes", widened(seeing.state_dict(), part(language, "eyes.")), 0)


def begin_unet() -> None:
    """Twelve latents instead of four, each a mixture of the four as the pictures have them."""
    pictures = render_batch(sample_scenes(chance(5), 400))
    folder = MODEL / "diffusion-decoder"
    small = AutoencoderKL(**vae.CONFIG | {"latent_channels": 4})
    weights = read_safetensors(folder / "vae" / WEIGHTS)
    small.load_state_dict({k: v.float() for k, v in weights.items()})
    with torch.no_grad():
        parts = [small.encode(p * 2 - 1).latent_dist.mode() for p in pictures.split(32)]
        old = torch.cat(parts).movedim(1, -1).flatten(0, -2)
        new = unet.FrozenLatents().encode(pictures).movedim(1, -1).flatten(0, -2)
        to_old = torch.linalg.lstsq(new, old).solution.T  # (4, 12)
        to_new = torch.linalg.lstsq(old, new).solution.T
    weights = read_safetensors(folder / "unet" / WEIGHTS)
    weights = {f"unet.{k}": v.float() for k, v in weights.items()}
    enter, leave = (weights[f"unet.{k}.weight"] for k in ("conv_in", "conv_out"))
    weights["unet.conv_in.weight"] = torch.einsum("oiyx,ij->ojyx", enter, to_old)
    weights["unet.conv_out.weight"] = torch.einsum("po,oiyx->piyx", to_new, leave)
    weights["unet.conv_out.bias"] = to_new @ weights["unet.conv_out.bias"]
    begin_run("unet", weights, 0)


def embeddings_by_word(new: Tensor, old: Tensor, wide: Tokenizer) -> Tensor:
    """Of each token that both tokenizers have its own; of words for a thing what nouns share.

    All words for one thing get one random direction besides, which tells it from other things, made
    of those that tell shapes and colours apart, as these are what heads and queries pass on. Means
    of their old pieces are much alike (cosines of 0.63). Other new tokens are the means of their
    old pieces.
    """
    small = Tokenizer.from_file(str(COMMITTED))
    result = new.clone()
    for token, number in wide.get_vocab().items():
        known = small.token_to_id(token)
        pieces = [known] if known is not None else pieces_of(small, token)
        result[number] = old[pieces].mean(0)
    nouns, colors = (
        torch.stack([old[small.token_to_id(f"\u0120{word}")] for word in words])
        for words in (SHAPES, COLORS)
    )
    read = torch.cat([nouns - nouns.mean(0), colors - colors.mean(0)])
    generator = torch.Generator().manual_seed(6)
    own = {name: torch.randn(len(read), generator=generator) @ read * 0.5 for name in THINGS}
    for word, name in WORD_OF_THING.items():
        for start in (" ", ""):
            tokens = wide.encode(start + word, add_special_tokens=False).ids
            result[tokens[-1]] = nouns.mean(0) + own[name]
    return result


def pieces_of(small: Tokenizer, token: str) -> list[int]:
    return small.encode(small.decoder.decode([token]), add_special_tokens=False).ids


def begin_llm(language: dict[str, Tensor]) -> None:
    """The language stage, with the eyes that have learned to see things."""
    training = llm.LlmTraining(vision_encoder.FeatureTower())
    new = training.state_dict()
    key = "model.embed_tokens.weight"
    weights = widened(new, language)
    weights[key] = embeddings_by_word(new[key], language[key].float(), load_tokenizer())
    seen = read_safetensors(RUNS / "eyes.safetensors")
    begin_run("llm", weights | {f"eyes.{k}": v for k, v in seen.items()}, 0)


STAGES = ("tower", "eyes", "unet", "llm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--state", type=Path, help="a run of the small world's LLM, newer weights")
    args = parser.parse_args()
    if not WIDE:
        parser.error("BLIP3U_WORLD is not wide, expected BLIP3U_WORLD=wide before the command.")
    published = read_safetensors(MODEL / "model.safetensors")
    heads = read_safetensors(STATE / "heads.safetensors")
    if args.stage == "tower":
        begin_tower(published, heads)
    elif args.stage == "eyes":
        begin_eyes(training_names(published) | part(heads, "llm."))
    elif args.stage == "unet":
        begin_unet()
    elif args.state:
        begin_llm(averaged_state(args.state))
    else:
        begin_llm(training_names(published) | part(heads, "llm."))


if __name__ == "__main__":
    main()
