"""A token for every word that people use: `python -m training.words` changes a run of the LLM.

The first tokenizer had cut "other" and "everything" into pieces, which a shallow model must put
together before it understands them. Each new token's embedding is fitted so that after the first
layers it stands for what the last of its pieces stood for.
"""

import re
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from blip3u_core.language.text_model import rope_table
from small_world.dialogues import corpus

from . import llm
from .common import RUNS, chance, read_safetensors, write_safetensors
from .llm_data import shared_prefix
from .tokenizer import extended, load_tokenizer, strip_added

EMBEDDINGS = "model.embed_tokens.weight"
SAMPLES, TIMES = 30_000, 15  # a word gets a token if so many samples say it so often
WORD = re.compile(r"\u0120?[a-z']+")
LAYERS = 3  # whose outputs the new embeddings are fitted to
STEPS, RATE = 300, 0.02


def people_words(known: Tokenizer) -> list[str]:
    """Words of the samples that `known` cuts into pieces, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in corpus(chance("words"), SAMPLES):
        text = known.normalizer.normalize_str(strip_added(text))
        counts.update(word for word, _ in known.pre_tokenizer.pre_tokenize_str(text))
    cut = [
        word
        for word, count in counts.most_common()
        if count >= TIMES and WORD.fullmatch(word) and len(known.model.tokenize(word)) > 1
    ]
    return [word.replace("\u0120", " ") for word in cut]


def last_states(training: llm.LlmTraining, words: Sequence[Tensor]) -> list[Tensor]:
    """Hidden states (N, D) after each of the first layers, of the last of each word's rows (L, D).

    Every word stands behind the system turn.
    """
    model, prefix = training.model, training.read_prefix()
    first, ends = len(shared_prefix()), torch.tensor([len(word) - 1 for word in words])
    x = pad_sequence(list(words), batch_first=True)
    count, length = x.shape[:2]
    positions = torch.arange(first, first + length).expand(3, count, -1)
    mask = torch.ones(length, first + length, dtype=torch.bool).tril(first)
    rope, cache, found = rope_table(positions, model.config, x.dtype), prefix.view(), []
    for number, layer in enumerate(model.layers[:LAYERS]):
        x = layer(x, rope, mask.expand(count, 1, -1, -1), cache, number)
        found.append(x[torch.arange(count), ends])
    return found


def fitted(training: llm.LlmTraining, known: Tokenizer, tokens: list[str]) -> Tensor:
    """(N, D) embeddings that stand for the pieces of these new tokens."""
    old = training.model.embed_tokens.weight.detach()
    pieces = [[piece.id for piece in known.model.tokenize(token)] for token in tokens]
    with torch.no_grad():
        wanted = last_states(training, [old[p] for p in pieces])
    own = torch.stack([old[p].mean(0) for p in pieces]).requires_grad_()
    optimizer = torch.optim.Adam([own], lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        found = last_states(training, own[:, None])
        loss = sum(F.mse_loss(a, b) / b.var() for a, b in zip(found, wanted, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == STEPS - 1:
            missed = loss.item() / LAYERS
            print(f"step {step}: {missed:.3f} of the variance is missed", flush=True)
    return own.detach()


def with_words(state: dict[str, Tensor], known: Tokenizer, more: Tokenizer) -> dict[str, Tensor]:
    """A run's tensors with embeddings for `more`; their moments begin again."""
    training = llm.LlmTraining(None)  # no tower: nothing is drawn
    own = {k.removeprefix("ema.model."): v for k, v in state.items() if k.startswith("ema.model.")}
    training.model.load_state_dict(own)
    training.requires_grad_(False)
    new = [token for token in more.get_vocab() if known.token_to_id(token) is None]
    print(f"{len(new)} new tokens, {more.get_vocab_size()} in all", flush=True)
    rows = dict(zip(new, fitted(training, known, new), strict=True))
    result = {k: v for k, v in state.items() if not k.endswith(f".{EMBEDDINGS}")}
    for kind in ("model", "ema"):
        old, name = state[f"{kind}.{EMBEDDINGS}"], f"{kind}.{EMBEDDINGS}"
        result[name] = torch.empty(more.get_vocab_size(), old.shape[1])
        for token, number in more.get_vocab().items():
            result[name][number] = rows[token] if token in rows else old[known.token_to_id(token)]
    return result


def main() -> None:
    known, file = load_tokenizer(), RUNS / "llm" / "state.safetensors"
    more = extended(known, people_words(known))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    state = with_words(read_safetensors(file), known, more)
    more.save(str(RUNS / "tokenizer.json"))
    write_safetensors(state, file, metadata)


if __name__ == "__main__":
    main()
