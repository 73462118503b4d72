"""The tokenizer of blip3u-tiny: Qwen2's kind, byte-level BPE, learned on the world's own texts."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from small_world.dialogues import corpus
from small_world.things import WORD_OF_THING

from .common import RUNS, WIDE, chance

COMMITTED = Path(__file__).parent.parent / "models" / "blip3u-tiny" / "tokenizer.json"
NUM_LEARNED = 2700  # at most: about what `words.py` made of the first tokenizer, which had 1,082
# Qwen2.5's special tokens in their order, then the three of BLIP3-U; True = special.
ADDED = {
    "<|endoftext|>": True,
    "<|im_start|>": True,
    "<|im_end|>": True,
    "<|object_ref_start|>": True,
    "<|object_ref_end|>": True,
    "<|box_start|>": True,
    "<|box_end|>": True,
    "<|quad_start|>": True,
    "<|quad_end|>": True,
    "<|vision_start|>": True,
    "<|vision_end|>": True,
    "<|vision_pad|>": True,
    "<|image_pad|>": True,
    "<|video_pad|>": True,
    "<tool_call>": False,
    "</tool_call>": False,
    "<|fim_prefix|>": False,
    "<|fim_middle|>": False,
    "<|fim_suffix|>": False,
    "<|fim_pad|>": False,
    "<|repo_name|>": False,
    "<|file_sep|>": False,
    "[IMG]": True,
    "[/IMG]": True,
    "<image>": True,
}
# Where Qwen2 cuts a text before byte-pair encoding.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Written as people do, read as the world speaks: in lower case and American, numbers as words.
SPELLINGS = {
    r"\bcolour": "color",
    r"\bcentre\b": "center",
    r"\bgrey\b": "gray",
    "[\u2018\u2019]": "'",
    r"\b0\b": "zero",
    r"\b1\b": "one",
    r"\b2\b": "two",
    r"\b3\b": "three",
    r"\b4\b": "four",
    r"\b5\b": "five",
}
# What the nodes write themselves keeps its capitals: the model was taught so.
KEPT = (
    "You are a helpful assistant.",
    "Please generate image based on the following caption: ",
    "Think step by step about what the picture should show, then write the final line: "
    '"Caption: " and a complete description of the picture.',
    "\nCaption: ",
    "Describe this picture completely.",
    "Rewrite the description after this edit, keeping all that the edit does not mention: ",
    "Tell it in text and pictures. Write ",
)


def people_normalizer() -> normalizers.Normalizer:
    """Lower case and one spelling for what people write; the nodes' own texts as they are."""
    spelled = [normalizers.Replace(Regex(said), read) for said, read in SPELLINGS.items()]
    kept = [normalizers.Replace(text.lower(), text) for text in KEPT]
    return normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), *spelled, *kept])


def learn_tokenizer(seed: int = 0, num_samples: int = 30_000) -> Tokenizer:
    """Byte-level BPE of `NUM_LEARNED` tokens and the added ones behind them."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = people_normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=NUM_LEARNED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (strip_added(text) for text in corpus(chance(seed), num_samples))
    tokenizer.train_from_iterator(texts, trainer)
    for name, special in ADDED.items():
        tokenizer.add_tokens([AddedToken(name, special=special, normalized=False)])
    return tokenizer


def extended(known: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """A tokenizer that cuts texts as `known` does, but for these words, each of them one token.

    Its new merges come last, so what the old ones make of other texts stays as it is. Those of one
    word may cut another one in a new way, which then gets merges of its own.
    """
    while cut := [word for word in words if len(known.encode(word, add_special_tokens=False)) > 1]:
        known = with_merges(known, cut)
    return known


def with_merges(known: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """With merges, behind the others, that put the pieces of these words together."""
    whole = json.loads(known.to_str())
    vocab = {token: i for token, i in whole["model"]["vocab"].items() if token not in ADDED}
    merges = [tuple(pair) for pair in whole["model"]["merges"]]
    known_pairs = set(merges)
    for word in words:
        pieces = known.encode(word, add_special_tokens=False).tokens
        while len(pieces) > 1:
            first, second, *rest = pieces
            pieces = [first + second, *rest]
            vocab.setdefault(pieces[0], len(vocab))
            if (first, second) not in known_pairs:
                known_pairs.add((first, second))
                merges.append((first, second))
    result = Tokenizer(BPE(vocab, merges))
    result.normalizer, result.decoder = known.normalizer, known.decoder
    result.pre_tokenizer = known.pre_tokenizer
    for name, special in ADDED.items():
        result.add_tokens([AddedToken(name, special=special, normalized=False)])
    return result


def wide_words() -> list[str]:
    """All that a thing is called, inside a text and at its beginning."""
    return [start + name for start in (" ", "") for name in sorted(WORD_OF_THING)]


def strip_added(text: str) -> str:
    for name in ADDED:
        text = text.replace(name, " ")
    return text


@cache
def load_tokenizer() -> Tokenizer:
    """The tokenizer of the run, else of the committed model, else a newly learned one.

    The wide world's is the committed one, with a token for each word for a thing.
    """
    of_run = RUNS / "tokenizer.json"
    for file in (of_run,) if WIDE else (of_run, COMMITTED):
        if file.exists():
            return Tokenizer.from_file(str(file))
    RUNS.mkdir(parents=True, exist_ok=True)
    if WIDE:
        tokenizer = extended(Tokenizer.from_file(str(COMMITTED)), wide_words())
    else:
        tokenizer = learn_tokenizer()
    tokenizer.save(str(of_run))
    return tokenizer


def tokenizer_files(tokenizer: Tokenizer, chat_template: str, max_length: int) -> dict[str, str]:
    """All files of a Qwen2 tokenizer, by name."""
    model = json.loads(tokenizer.to_str())["model"]
    added = {name: tokenizer.token_to_id(name) for name in ADDED}
    described = {
        str(number): {
            "content": name,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": ADDED[name],
        }
        for name, number in added.items()
    }
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": described,
        "additional_special_tokens": ["[IMG]", "[/IMG]", "<image>"],
        "bos_token": None,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": max_length,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }

    def plain(name: str) -> dict:
        flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
        return {"content": name, **flags}

    special = {
        "additional_special_tokens": ["[IMG]", "[/IMG]", "<image>"],
        "eos_token": plain("<|im_end|>"),
        "pad_token": plain("<|endoftext|>"),
    }
    return {
        "tokenizer.json": tokenizer.to_str(pretty=False),
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "\n".join(merges) + "\n",
        "added_tokens.json": json.dumps(dict(sorted(added.items())), indent=2),
        "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False),
        "special_tokens_map.json": json.dumps(special, indent=2),
    }
