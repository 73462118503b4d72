"""The language model: prompts together, dialogues that go on, answers together.

12 layers of width 1024, random weights; the code is what the nodes call.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blip3u_core.language.context import Context, dialogue_context, read_context
from blip3u_core.language.generate import SamplingParams, generate
from blip3u_core.language.model import LanguageModel
from blip3u_core.language.prefix_cache import PrefixCache
from blip3u_core.language.prompt import caption_text, question_text
from blip3u_core.language.visual_tokens import visual_tokens

from .measure import DTYPES, ROUNDS, Measurement, alternate
from .models import LANGUAGE, LANGUAGE_MINIMAL, language_model

NUM_TURNS = 10
NUM_PROMPTS = 8
NUM_PICTURES = 8
CACHE_BYTES = 1 << 30
REQUEST = "Now make the {} a little larger and move it to the left of the house."
REPLY = "I moved the {} to the left and made it larger, everything else stays as it was."
WORDS = ("circle", "square", "star", "cross", "ring", "tree", "cloud", "boat", "kite", "house")


@dataclass(frozen=True)
class Size:
    """What is written and looked at, beside the network's own size."""

    answer_tokens: int
    picture_side: int
    rounds: int
    rounds_without_goal: int


FULL = Size(answer_tokens=16, picture_side=224, rounds=ROUNDS, rounds_without_goal=3)
MINIMAL = Size(answer_tokens=3, picture_side=56, rounds=1, rounds_without_goal=1)


def rows(minimal: bool) -> Iterator[Measurement]:
    size = MINIMAL if minimal else FULL
    for dtype_name, dtype in DTYPES.items():
        llm = language_model(LANGUAGE_MINIMAL if minimal else LANGUAGE, dtype)
        yield prompts_row(llm, size, dtype_name)
        yield from dialogue_rows(llm, size, dtype_name)
        yield pictures_row(llm, size, dtype_name)


def prompts_row(llm: LanguageModel, size: Size, dtype: str) -> Measurement:
    """One prefill for all prompts, of different length, against one each."""
    contexts = [
        read_context(llm, caption_text(" and a ".join(WORDS[: i + 1])), for_drawing=True)
        for i in range(NUM_PROMPTS)
    ]
    times = alternate(
        {
            "together": lambda: visual_tokens(llm, contexts),
            "alone": lambda: [visual_tokens(llm, [context]) for context in contexts],
        },
        size.rounds_without_goal,
    )
    name = f"LLM {dtype}: {NUM_PROMPTS} prompts in one prefill / one by one"
    described = times.describe("together", "alone")
    return Measurement(name, times.ratio("together", "alone"), None, described)


@dataclass
class Dialogue:
    """A talk of which turn 1 or the last is read again and again."""

    llm: LanguageModel
    budget: int
    caches: dict[int, PrefixCache] = field(default_factory=dict)

    def context(self, turn: int, for_drawing: bool) -> Context:
        """All up to the user's words of that turn; these are the same in every turn."""
        turns = [*self.earlier(turn), ("user", REQUEST.format("tower"))]
        return dialogue_context(self.llm, turns, for_drawing=for_drawing)

    def earlier(self, turn: int) -> list[tuple[str, str]]:
        words = [WORDS[index % len(WORDS)] for index in range(turn - 1)]
        both = [(("user", REQUEST.format(w)), ("assistant", REPLY.format(w))) for w in words]
        return [turn for pair in both for turn in pair]

    def before(self, turn: int) -> PrefixCache:
        """What is remembered when that turn begins: all that was read, and the last reply."""
        if turn not in self.caches:
            self.caches[turn] = PrefixCache(self.budget)
            if turn > 1:
                *turns, (_, reply) = self.earlier(turn)
                context = dialogue_context(self.llm, turns, answer_start=reply)
                generate(self.llm, [context], SamplingParams(1), prefix_cache=self.caches[turn])
        return deepcopy(self.caches[turn])


def dialogue_rows(llm: LanguageModel, size: Size, dtype: str) -> Iterator[Measurement]:
    """The last turn against the first, with what the earlier turns computed and without."""

    def draw(context: Context, cache: PrefixCache) -> None:
        visual_tokens(llm, [context], cache)

    def reply(context: Context, cache: PrefixCache) -> None:
        generate(llm, [context], SamplingParams(size.answer_tokens), prefix_cache=cache)

    for budget, rounds in ((CACHE_BYTES, size.rounds), (0, size.rounds_without_goal)):
        talk = Dialogue(llm, budget)
        yield dialogue_row(talk, draw, True, f"LLM {dtype}, visual tokens", rounds)
        name = f"LLM {dtype}, {size.answer_tokens} answer tokens"
        yield dialogue_row(talk, reply, False, name, rounds)


def dialogue_row(
    talk: Dialogue, run: Callable[..., None], for_drawing: bool, name: str, rounds: int
) -> Measurement:
    ready: dict[str, tuple[Context, PrefixCache]] = {}

    def prepare(turn: str) -> None:
        ready[turn] = talk.context(int(turn), for_drawing), talk.before(int(turn))

    first, last = "1", str(NUM_TURNS)
    functions = {turn: lambda turn=turn: run(*ready[turn]) for turn in (first, last)}
    times = alternate(functions, rounds, before=prepare)
    name = f"{name}: turn {NUM_TURNS} / turn 1" + ("" if talk.budget else ", nothing kept")
    tokens = f"{len(ready[last][0])} and {len(ready[first][0])} tokens"
    goal = 1.3 if talk.budget else None
    described = f"{times.describe(last, first)}; {tokens}"
    return Measurement(name, times.ratio(last, first), goal, described)


def pictures_row(llm: LanguageModel, size: Size, dtype: str) -> Measurement:
    """The same question about several pictures: answers decoded together."""
    question = question_text("What is in this picture?", 1)
    contexts = [
        read_context(llm, question, [picture]) for picture in random_pictures(size.picture_side)
    ]
    sampling = SamplingParams(size.answer_tokens)
    times = alternate(
        {
            "together": lambda: generate(llm, contexts, sampling),
            "alone": lambda: [generate(llm, [context], sampling) for context in contexts],
        },
        size.rounds,
    )
    name = f"LLM {dtype}: {NUM_PICTURES} pictures' answers in a batch / one by one"
    described = f"{times.describe('together', 'alone')}; {len(contexts[0])} tokens each"
    return Measurement(name, times.ratio("together", "alone"), 0.5, described)


def random_pictures(side: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return list(torch.rand(NUM_PICTURES, side, side, 3, generator=generator))
