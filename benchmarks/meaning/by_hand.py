"""The rows "by hand" of the meaning table: what people wrote, word by word, and what they expect.

The cases stand in `by_hand.txt`, which explains itself, and in `by_other_hands.txt`, whose writers
had not seen the first, nor the world's grammar. None comes from that grammar, and none was looked
at to mend it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.meaning.model import MeaningModel, Picture, caption_chat, request_chat
from benchmarks.meaning.rows import Report, read_all
from blip3u_core.chat.chat import Chat
from blip3u_core.language.prompt import INSTRUCTION_REQUEST, QUESTION_REQUEST
from small_world.language import ObjectWish, Wish
from small_world.scorer import satisfies
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    render,
)

FILE = Path(__file__).parent / "by_hand.txt"
OTHER_HANDS = FILE.with_name("by_other_hands.txt")
CELLS = {place: (row, col) for row, line in enumerate(PLACES) for col, place in enumerate(line)}
SIDES = {"top": (0, None), "bottom": (2, None), "left": (None, 0), "right": (None, 2)}
RELATION = re.compile(rf"([12]) ({'|'.join(RELATIONS)}) ([12])")


@dataclass(frozen=True)
class Case:
    """What is said about a scene (or none), and the picture or the words that are right."""

    said: str
    expected: Wish | tuple[str, ...]
    scene: Scene | None = None

    def is_right(self, answer: str, seen: Sequence[Scene]) -> bool:
        """Whether the answer is of the right kind, and right."""
        if isinstance(self.expected, Wish):
            return len(seen) == 1 and satisfies(seen[0], self.expected)
        return not seen and holds(answer, self.expected)


def holds(answer: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the answer, as a whole word."""
    return any(re.search(rf"\b{re.escape(word)}\b", answer.lower()) for word in words)


def read_wish(text: str) -> Wish:
    """Raises: ValueError, naming the part, for what is neither object nor background."""
    objects, background, relation = [], None, None
    for part in (part.strip() for part in text.split(";")):
        related = RELATION.fullmatch(part)
        if part in BACKGROUNDS:
            background = part
        elif related:
            relation = related[2]
            if related[1] == "2":
                objects.reverse()
        elif part != "nothing":
            objects.append(read_object(part))
    return Wish(tuple(objects), background, relation)


def read_object(text: str) -> ObjectWish:
    look, _, place = (part.strip() for part in text.partition("@"))
    found: dict[str, str] = {}
    for word in look.split():
        for name, known in (("shape", SHAPES), ("color", COLORS), ("size", SIZES)):
            if word in known:
                found[name] = word
                break
        else:
            raise ValueError(f"{word!r} of {text!r} is no word for an object; see by_hand.txt.")
    row, col = (CELLS | SIDES | {"": (None, None)})[place]
    return ObjectWish(**found, row=row, col=col)


def read_scene_text(text: str) -> Scene:
    """A scene that is said completely."""
    wish = read_wish(text)
    objects = (Object(o.shape, o.color, o.size, o.row, o.col) for o in wish.objects)
    return Scene(wish.background, ()).with_objects(tuple(objects))


def read_case(line: str) -> Case:
    said, _, expected = line.rpartition(" => ")
    scene = None
    if said.startswith("["):
        described, _, said = said[1:].partition("] ")
        scene = read_scene_text(described)
    expected = expected.strip()
    if expected.startswith('"'):
        return Case(said, tuple(expected.strip('"').split("|")), scene)
    return Case(said, read_wish(expected), scene)


@dataclass(frozen=True)
class ByHand:
    """All cases of the file."""

    draw: tuple[Case, ...]
    ask: tuple[Case, ...]
    edit: tuple[Case, ...]
    turns: tuple[tuple[Case, ...], ...]


def read_by_hand(file: Path = FILE) -> ByHand:
    """Raises: ValueError for a line of no known kind."""
    found: dict[str, list] = {"draw": [], "ask": [], "edit": [], "turns": []}
    for line in file.read_text(encoding="utf-8").splitlines():
        kind, _, rest = (part.strip() for part in line.partition(":"))
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("> "):
            found["turns"][-1].append(read_case(line[2:]))
        elif kind == "turns":
            found["turns"].append([])
        elif kind == "ask":
            case = read_case(rest.replace(" => ", ' => "', 1) + '"')
            found["ask"].append(case)
        elif kind in ("draw", "edit"):
            found[kind].append(read_case(rest))
        else:
            raise ValueError(f"{line!r} is no case of {file.name}; see its first lines.")
    return ByHand(**{kind: tuple(map(tuple_if_list, cases)) for kind, cases in found.items()})


def tuple_if_list(case: Case | list[Case]) -> Case | tuple[Case, ...]:
    return tuple(case) if isinstance(case, list) else case


# ---------------------------------------------------------------- measuring


def draw_by_hand(model: MeaningModel, report: Report, cases: Sequence[Case], hand: str) -> None:
    pictures = model.draw([caption_chat(case.said) for case in cases], seed=8000)
    report_pictures(report, f"{hand}: draw", cases, [[p] for p in pictures])


def edit_by_hand(model: MeaningModel, report: Report, cases: Sequence[Case], hand: str) -> None:
    sources = [render(case.scene) for case in cases]
    chats = [
        request_chat(INSTRUCTION_REQUEST, case.said, [source])
        for case, source in zip(cases, sources, strict=True)
    ]
    pictures = model.draw(chats, seed=8100)
    report_pictures(report, f"{hand}: edit", cases, list(zip(sources, pictures, strict=True)))


def report_pictures(
    report: Report, name: str, cases: Sequence[Case], shown: Sequence[Sequence[Picture]]
) -> None:
    scenes = read_all([pictures[-1] for pictures in shown])
    right = [case.is_right("", [scene]) for case, scene in zip(cases, scenes, strict=True)]
    report.add(name, 0.90, right)
    report.show(name, [case.said for case in cases], shown, right)


def ask_by_hand(model: MeaningModel, report: Report, cases: Sequence[Case], hand: str) -> None:
    chats = [request_chat(QUESTION_REQUEST, case.said, [render(case.scene)]) for case in cases]
    answers = model.reply(chats)
    right = [case.is_right(answer, ()) for case, answer in zip(cases, answers, strict=True)]
    report.add(f"{hand}: ask", 0.90, right)
    report.add(f"  {hand}: answers that are not empty", 1.0, [bool(a.strip()) for a in answers])
    empty = [i for i, case in enumerate(cases) if not case.scene.objects]
    named = [holds(answers[i], SHAPES) for i in empty]
    report.add(f"  {hand}: nothing is seen in an empty scene", 1.0, [not found for found in named])


def turns_by_hand(
    model: MeaningModel,
    report: Report,
    conversations: Sequence[Sequence[Case]],
    hand: str,
) -> None:
    """Each conversation as Converse holds it, on the model's own pictures and words."""
    right, whole, spoken, cards = [], [], [], []
    for number, conversation in enumerate(conversations):
        chat, own, pictures = Chat(), [], []
        for turn, case in enumerate(conversation):
            answer, drawn, chat = model.converse(chat, case.said, seed=8200 + 100 * number + turn)
            own.append(case.is_right(answer, read_all(drawn)))
            spoken.append(bool(answer.strip()))
            pictures += drawn
        right += own
        whole.append(all(own))
        cards.append(pictures)
    report.add(f"{hand}: turns", 0.90, right)
    report.add(f"  {hand}: whole conversations", None, whole)
    report.add(f"  {hand}: turns that are answered at all", 1.0, spoken)
    shown = [i for i, pictures in enumerate(cards) if pictures]
    texts = [" / ".join(case.said for case in conversations[i]) for i in shown]
    report.show(f"{hand}: turns", texts, [cards[i] for i in shown], [whole[i] for i in shown])


def by_hand(
    model: MeaningModel, count: int, report: Report, file: Path = FILE, hand: str = "by hand"
) -> None:
    """At most `count` cases of each kind."""
    cases = read_by_hand(file)
    draw_by_hand(model, report, cases.draw[:count], hand)
    ask_by_hand(model, report, cases.ask[:count], hand)
    edit_by_hand(model, report, cases.edit[:count], hand)
    turns_by_hand(model, report, cases.turns[:count], hand)


by_other_hands = partial(by_hand, file=OTHER_HANDS, hand="by other hands")
