"""Text to token ids and back, from the checkpoint's own tokenizer files.

The `tokenizers` library reads them directly: no version of transformers changes what comes out.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TypeVar

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from ..weights.config import STRICT, part_of, read_config, read_value
from ..weights.json_files import ADVICE, parse_json, shown
from .config import TokenId, asset_name
from .prompt import IMAGE_PAD, IMG, MARKS, TURN_END, readable, split_marks

# Where Qwen2 cuts a text before byte-pair encoding (contractions, words, single digits, ...).
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


_TOKEN_ID = TypeAdapter(TokenId, config=STRICT)
_TOKEN_IDS = TypeAdapter(dict[str, TokenId], config=STRICT)
_TEXTS_KEPT = 1024  # a dialogue's turns are read again with every message
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)

Made = TypeVar("Made")


@dataclass(frozen=True, config=STRICT)
class _AddedToken:
    """One entry of `added_tokens_decoder` in tokenizer_config.json."""

    content: str
    special: bool = True


class TextTokenizer:
    """Token ids of a text with its special tokens, and the ids that mean something to us.

    Args:
        assets: texts by file name: tokenizer.json, or vocab.json + merges.txt +
            added_tokens.json.

    Raises: FileNotFoundError if neither is there; ValueError if a file is broken or `[IMG]` or
        `<|image_pad|>` is not a token.
    """

    def __init__(self, assets: Mapping[str, str]) -> None:
        whole = "tokenizer.json" in assets
        self.file = asset_name(assets, "tokenizer.json" if whole else "vocab.json")
        self._tokenizer = _read(assets)
        words = _without_special_tokens(self._tokenizer)

        def ids_of(text: str) -> tuple[int, ...]:
            return tuple(words.encode(text, add_special_tokens=False).ids)

        self._ids_of = lru_cache(_TEXTS_KEPT)(ids_of)
        self.img_token_id = self._special(IMG, "the token that asks for a picture")
        self.image_pad_id = self._special(IMAGE_PAD, "a picture's place")
        self.turn_end_id = self._special(TURN_END, "the end of a turn")
        found = {mark: self._tokenizer.token_to_id(mark) for mark in MARKS}
        self._marks = {mark: number for mark, number in found.items() if number is not None}

    def encode(self, text: str) -> list[int]:
        """Token ids. Only the marks of `prompt` become special tokens, and no literal one does."""
        ids: list[int] = []
        for piece in split_marks(text):
            if piece in self._marks:
                ids.append(self._marks[piece])
            elif piece:
                ids += self._ids_of(readable(piece))
        return ids

    def decode(
        self, ids: Sequence[int], keep_special: bool = False, unfinished: bool = False
    ) -> str:
        """The text of `ids`; of an `unfinished` one without a last character still to complete."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special)
        return text.rstrip("\N{REPLACEMENT CHARACTER}") if unfinished else text

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    @cached_property
    def num_ids(self) -> int:
        """One more than the largest id that a text can become."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def is_special(self, number: int) -> bool:
        """Whether this id is no part of a text but a mark, such as the end of a turn."""
        token = self._tokenizer.get_added_tokens_decoder().get(number)
        return token is not None and token.special

    def _special(self, token: str, meaning: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(
                f"{self.file} has {len(self)} tokens but not {token} ({meaning}). This is the "
                "tokenizer of another model: use the tokenizer files of the BLIP3-U checkpoint."
            )
        return number


def _without_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary (not a copy), for words alone."""
    words = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        words.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        words.pre_tokenizer = tokenizer.pre_tokenizer
    return words


def _read(assets: Mapping[str, str]) -> Tokenizer:
    if "tokenizer.json" in assets:
        where = asset_name(assets, "tokenizer.json")
        text = assets["tokenizer.json"]
        parse_json(text, where)
        return _made(lambda: Tokenizer.from_str(text), where)
    if "vocab.json" in assets and "merges.txt" in assets:
        return _build(assets)
    raise FileNotFoundError(
        f"The checkpoint has no tokenizer: found {sorted(assets) or 'no text files'}, expected "
        "tokenizer.json, or vocab.json and merges.txt. Download the missing files into its folder."
    )


def _made(make: Callable[[], Made], where: str) -> Made:
    """What the library makes of a file. Raises ValueError for whatever it refuses."""
    try:
        return make()
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{where} cannot be read ({str(error)[:200]}). {ADVICE}") from error


def _build(assets: Mapping[str, str]) -> Tokenizer:
    """Qwen2's tokenizer from the three older files."""
    where = asset_name(assets, "merges.txt")
    lines = assets["merges.txt"].splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    odd = next((pair for pair in pairs if len(pair) != 2), None)
    if odd is not None:
        raise ValueError(f"{where} says {shown(odd)}, expected a pair of tokens a line. {ADVICE}")
    merges = [(first, second) for first, second in pairs]
    vocab = _token_ids(assets, "vocab.json")
    model = _made(lambda: BPE(vocab=vocab, merges=merges), where)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = list(_added_tokens(assets, len(vocab)))
    for name, number, special in added:
        tokenizer.add_tokens([AddedToken(name, special=special, normalized=False)])
        if tokenizer.token_to_id(name) != number:
            raise ValueError(
                f"{asset_name(assets, 'added_tokens.json')} says {shown(name)} is token {number}, "
                f"expected {tokenizer.token_to_id(name)}: ids follow vocab.json one by one. "
                f"{ADVICE}"
            )
    return tokenizer


def _token_ids(assets: Mapping[str, str], name: str) -> dict[str, int]:
    where = asset_name(assets, name)
    return read_value(_TOKEN_IDS, dict(parse_json(assets.get(name, "{}"), where)), where)


def _added_tokens(assets: Mapping[str, str], first: int) -> Iterable[tuple[str, int, bool]]:
    """Names of the tokens beyond the vocabulary, in the order of their ids."""
    numbers = _token_ids(assets, "added_tokens.json")
    where = asset_name(assets, "tokenizer_config.json")
    config = parse_json(assets.get("tokenizer_config.json", "{}"), where)
    special = {}
    decoder = part_of(config, "added_tokens_decoder", where)
    for key in decoder:
        token = read_config(_AddedToken, part_of(decoder, key, where), where)
        number = read_value(_TOKEN_ID, int(key) if _DIGITS.fullmatch(key) else key, where)
        special[token.content] = token.special
        if number >= first:  # others stand in the vocabulary
            numbers.setdefault(token.content, number)
    for name in sorted(numbers, key=numbers.__getitem__):
        yield name, numbers[name], special.get(name, True)
