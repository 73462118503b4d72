"""Text to token ids and back, from the checkpoint's own tokenizer files.

The `tokenizers` library reads them directly: no version of transformers changes what comes out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from .prompt import IMAGE_PAD, IMG, TURN_END

# Where Qwen2 cuts a text before byte-pair encoding (contractions, words, single digits, ...).
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TextTokenizer:
    """Token ids of a text with its special tokens, and the ids that mean something to us.

    Args:
        assets: texts by file name: tokenizer.json, or vocab.json + merges.txt +
            added_tokens.json.

    Raises: FileNotFoundError if neither is there; ValueError if a file is broken or `[IMG]` or
        `<|image_pad|>` is not a token.
    """

    def __init__(self, assets: Mapping[str, str]) -> None:
        self._tokenizer = _read(assets)
        self.img_token_id = self._special(IMG, "the sign to draw")
        self.image_pad_id = self._special(IMAGE_PAD, "a picture's place")
        self.turn_end_id = self._special(TURN_END, "the end of a turn")

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(
        self, ids: Sequence[int], keep_special: bool = False, unfinished: bool = False
    ) -> str:
        """The text of `ids`; of an `unfinished` one without a last character still to complete."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special)
        return text.rstrip("\N{REPLACEMENT CHARACTER}") if unfinished else text

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def _special(self, token: str, meaning: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(
                f"The tokenizer has {len(self)} tokens but not {token} ({meaning}). This is the "
                "tokenizer of another model: use the tokenizer files of the BLIP3-U checkpoint."
            )
        return number


def _read(assets: Mapping[str, str]) -> Tokenizer:
    if "tokenizer.json" in assets:
        text = assets["tokenizer.json"]
        _json("tokenizer.json", text)
        try:
            return Tokenizer.from_str(text)
        except Exception as error:
            raise ValueError(_broken("tokenizer.json", error)) from error
    if "vocab.json" in assets and "merges.txt" in assets:
        return _build(assets)
    raise FileNotFoundError(
        f"The checkpoint has no tokenizer: found {sorted(assets) or 'no text files'}, expected "
        "tokenizer.json, or vocab.json and merges.txt. Download the missing files into its folder."
    )


def _build(assets: Mapping[str, str]) -> Tokenizer:
    """Qwen2's tokenizer from the three older files."""
    lines = assets["merges.txt"].splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(_broken("merges.txt", "a line is not a pair of tokens"))
    merges = [(first, second) for first, second in pairs]
    try:
        model = BPE(vocab=_json("vocab.json", assets["vocab.json"]), merges=merges)
    except Exception as error:
        raise ValueError(_broken("vocab.json", error)) from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for name, special in _added_tokens(assets):
        tokenizer.add_tokens([AddedToken(name, special=special, normalized=False)])
    return tokenizer


def _added_tokens(assets: Mapping[str, str]) -> Iterable[tuple[str, bool]]:
    """Names of the tokens beyond the vocabulary, in the order of their ids."""
    numbers = _json("added_tokens.json", assets.get("added_tokens.json", "{}"))
    config = _json("tokenizer_config.json", assets.get("tokenizer_config.json", "{}"))
    known = config.get("added_tokens_decoder", {})
    described = {entry["content"]: entry for entry in known.values()}
    for number, entry in known.items():
        numbers.setdefault(entry["content"], int(number))
    for name in sorted(numbers, key=numbers.__getitem__):
        yield name, described.get(name, {}).get("special", True)


def _json(name: str, text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(_broken(name, error)) from error


def _broken(name: str, why: object) -> str:
    return f"{name} cannot be read ({why}). Download it again."
