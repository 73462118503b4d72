"""Text from the language model: one prefill, then a token of every answer at a time.

On a GPU the next token is chosen, embedded and read without the host, which looks only now and then
whether an answer has ended: so many tokens are the most that Cancel and the shown text lag behind,
and that are computed in vain. After the first look, a step is a CUDA graph where it can be; it
lives no longer than the answer, so nothing of it is left when the host moves weights.
"""

from collections.abc import Callable, Sequence

import torch

from .choose import SamplingParams, TokenChooser
from .context import Context, check_length
from .cuda_graph import recorder_for
from .model import LanguageModel
from .prefix_cache import PrefixCache
from .steps import PAYS, ContextReader, PlainSteps, RecordedSteps

NEVER = -1e9  # a score that is never chosen, and a number all the same: see `TokenChooser.look`
LOOK_EVERY = 8  # tokens that a GPU writes between two looks of the host

OnToken = Callable[[str, int, int], None]  # (text so far, tokens so far, most tokens)


def generate(
    llm: LanguageModel,
    contexts: Sequence[Context],
    sampling: SamplingParams | None = None,
    on_token: OnToken | None = None,
    prefix_cache: PrefixCache | None = None,
    on_cut_off: Callable[[int], object] | None = None,
    in_words: bool = False,
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
        in_words: no answer is empty: its first token is neither an end nor `[IMG]`.

    Raises: ValueError for an empty context or one longer than the model can read.
    """
    sampling = sampling or SamplingParams()

    def show(written: list[list[int]], done: int, total: int) -> None:
        if on_token is not None:
            texts = [llm.tokenizer.decode(ids, unfinished=True) for ids in written]
            on_token("\n\n".join(texts), done, total)

    def would_draw(ids: list[int]) -> bool:
        return ids[-1] == llm.tokenizer.img_token_id

    unwanted = sorted({*llm.eos_token_ids, llm.tokenizer.img_token_id}) if in_words else ()
    written = generate_tokens(llm, contexts, sampling, show, prefix_cache, would_draw, unwanted)
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
    never_first: Sequence[int] = (),
) -> list[list[int]]:
    """The token ids of each answer, without the end token.

    Args:
        stop: says of an answer's tokens so far whether it shall end with the last of them.
        never_first: tokens with which no answer begins.
    """
    for context in contexts:
        check_length(llm, context, 1)
    total = _most_tokens(llm, contexts, sampling)
    known = prefix_cache if len(contexts) == 1 else None
    reader = ContextReader(llm, contexts, known)
    answers = _Answers(len(contexts), llm.eos_token_ids, stop)
    stride = min(look_every(llm), total)
    chooser = TokenChooser(llm, contexts, sampling, stride)
    logits = llm.logits(reader.read_contexts())
    if never_first:
        logits[:, torch.tensor(never_first, device=logits.device)] = NEVER
    chooser.draw_ahead(stride)  # while a GPU reads the contexts
    steps: PlainSteps | RecordedSteps = PlainSteps(reader, chooser, chooser.choose(logits))
    record, done, count, chosen = recorder_for(llm), 0, stride, 1
    try:
        while True:
            steps.write(count - chosen, total - done - chosen)
            following = min(stride, total - done - count)
            chooser.draw_ahead(following)
            done += answers.add(chooser.look(count))
            if on_token is not None:
                on_token(answers.ids, done, total)
            if all(answers.ended) or done == total:
                break
            count, chosen = following, 0
            if isinstance(steps, PlainSteps) and record is not None and total - done >= PAYS:
                steps = RecordedSteps(steps, record)
    finally:
        steps.close()
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
