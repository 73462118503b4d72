"""Text from the language model: one prefill, then a token of every answer at a time.

On a GPU the next token is chosen, embedded and read without the host, which looks only now and then
whether an answer has ended: so many tokens are the most that Cancel and the shown text lag behind,
and that are computed in vain.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .choose import SamplingParams, TokenChooser
from .context import Context, check_length
from .model import LanguageModel
from .prefill import prefill
from .prefix_cache import PrefixCache
from .text_model import KeyValueCache

LOOK_EVERY = 8  # tokens that a GPU writes between two looks of the host

OnToken = Callable[[str, int, int], None]  # (text so far, tokens so far, most tokens)


def generate(
    llm: LanguageModel,
    contexts: Sequence[Context],
    sampling: SamplingParams | None = None,
    on_token: OnToken | None = None,
    prefix_cache: PrefixCache | None = None,
    on_cut_off: Callable[[int], object] | None = None,
) -> list[str]:
    """The texts that the language model writes behind each context, decoded together.

    An answer ends at the turn's end, or where the model would draw (`[IMG]`), as after a reasoning.

    Args:
        contexts: from `read_context`; each answer is as if its context came alone.
        on_token: called after every token, on a GPU after every few, with the text so far (answers
            of a batch one below the other) and once more at the end with both counts equal; may
            raise to cancel.
        prefix_cache: dialogues read before, used and added to when there is one context.
        on_cut_off: called with the number of each answer that did not end by itself.

    Raises: ValueError for an empty context or one longer than the model can read.
    """
    sampling = sampling or SamplingParams()

    def show(written: list[list[int]], done: int, total: int) -> None:
        if on_token is not None:
            texts = [llm.tokenizer.decode(ids, unfinished=True) for ids in written]
            on_token("\n\n".join(texts), done, total)

    def would_draw(ids: list[int]) -> bool:
        return ids[-1] == llm.tokenizer.img_token_id

    written = generate_tokens(llm, contexts, sampling, show, prefix_cache, would_draw)
    texts = [llm.tokenizer.decode(ids) for ids in written]
    if on_token is not None:
        on_token("\n\n".join(texts), sampling.max_new_tokens, sampling.max_new_tokens)
    if on_cut_off is not None:
        most = _most_tokens(llm, contexts, sampling)
        for index, ids in enumerate(written):
            if len(ids) == most and not would_draw(ids):
                on_cut_off(index)
    return texts


def _most_tokens(llm: LanguageModel, contexts: Sequence[Context], sampling: SamplingParams) -> int:
    """How long an answer may become: as asked, and as far as the model can read."""
    longest = llm.config.max_positions - max(len(context) for context in contexts)
    return min(sampling.max_new_tokens, longest)


@torch.no_grad()
def generate_tokens(
    llm: LanguageModel,
    contexts: Sequence[Context],
    sampling: SamplingParams,
    on_token: Callable[[list[list[int]], int, int], None] | None = None,
    prefix_cache: PrefixCache | None = None,
    stop: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """The token ids of each answer, without the end token.

    Args:
        stop: says of an answer's tokens so far whether it shall end with the last of them.
    """
    for context in contexts:
        check_length(llm, context, 1)
    total = _most_tokens(llm, contexts, sampling)
    known = prefix_cache if len(contexts) == 1 else None
    reader = ContextReader(llm, contexts, known)
    answers = _Answers(len(contexts), llm.eos_token_ids, stop)
    stride = min(look_every(llm), total)
    chooser = TokenChooser(llm, contexts, sampling, stride)
    logits, done, count = llm.logits(reader.read_contexts()), 0, stride
    chooser.draw_ahead(count)
    tokens, chosen = chooser.choose(logits), 1
    while True:
        for _ in range(count - chosen):
            tokens = chooser.choose(llm.logits(reader.read_tokens(tokens)))
        following = min(stride, total - done - count)
        chooser.draw_ahead(following)
        done += answers.add(chooser.look(count))
        if on_token is not None:
            on_token(answers.ids, done, total)
        if all(answers.ended) or done == total:
            break
        count, chosen = following, 0
    if known is not None:
        keys = (*contexts[0].keys(), *answers.ids[0])
        known.keep(keys[: reader.cache.length], reader.cache)
    return answers.ids


class _Answers:
    """The tokens of every answer so far, and which answers have ended."""

    def __init__(
        self, count: int, ends: frozenset[int], stop: Callable[[list[int]], bool] | None
    ) -> None:
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.ended = [False] * count
        self._ends = ends
        self._stop = stop

    def add(self, steps: list[list[int]]) -> int:
        """Add a token to every answer, step by step until all have ended; how many steps."""
        for number, step in enumerate(steps, 1):
            for index, token in enumerate(step):
                if not self.ended[index]:
                    self._add(index, token)
            if all(self.ended):
                return number
        return len(steps)

    def _add(self, index: int, token: int) -> None:
        if token in self._ends:
            self.ended[index] = True
            return
        self.ids[index].append(token)
        self.ended[index] = self._stop is not None and self._stop(self.ids[index])


def look_every(llm: LanguageModel) -> int:
    """How many tokens to write before the host looks at them; a processor need not wait."""
    return 1 if llm.device.type == "cpu" else LOOK_EVERY


class ContextReader:
    """Feeds contexts and then single tokens to the text model; keeps positions and padding."""

    def __init__(
        self, llm: LanguageModel, contexts: Sequence[Context], known: PrefixCache | None
    ) -> None:
        self.llm = llm
        self.contexts = contexts
        found = None if known is None else known.take(contexts[0].keys())
        self.cache = found or KeyValueCache(llm.config.num_layers)

    def read_contexts(self) -> Tensor:
        """Hidden states behind each context, (B, D)."""
        hidden, self.valid, self.next = prefill(self.llm, self.contexts, self.cache)
        return hidden[:, -1]

    def read_tokens(self, tokens: Tensor) -> Tensor:
        """Hidden states behind one more token each, (B,) to (B, D)."""
        embeds = self.llm.embed(tokens[:, None])
        if self.valid is not None:
            self.valid = torch.nn.functional.pad(self.valid, (0, 1), value=True)
        position_ids = self.next.expand(3, -1)[..., None]
        self.next = self.next + 1
        return self.llm.model(embeds, position_ids, self.valid, self.cache)[:, -1]
