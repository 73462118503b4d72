"""Conversations without modes, as Converse holds them: draw, ask, edit, undo, chat, in any mix.

The assistant writes `[IMG]` where it draws, and words where it speaks; what it does not know it
says.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from blip3u_core.language.prompt import (
    DRAWN_PICTURE,
    INSTRUCTION_REQUEST,
    PICTURE,
    QUESTION_REQUEST,
)
from small_world.free_captions import (
    sample_free_caption,
    sample_related_caption,
    unknown_thing,
    whole_caption,
)
from small_world.free_edits import free_edit
from small_world.free_questions import free_question
from small_world.kinds import without_known
from small_world.language import Caption, Names, sample_caption, with_article
from small_world.questions import reply
from small_world.riddles import COLOR_CLUES, SHAPE_CLUES
from small_world.samples import Sample, Turn, assistant, caption_sample, dialogue_sample, user
from small_world.wordings import UNKNOWN, as_typed, color_word, opened
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, sample_scene, split_of

KNOWN = "i know circles, squares, triangles, stars, crosses and rings"
HELLO = "hello! tell me what to draw, or show me a picture."
SELF = "i am blip3-u tiny. i see and draw a small world of shapes."
ABLE = "i draw shapes, answer questions about them, and change them."
CHAT = (
    (HELLO, ("hello", "hi", "hi there", "hey", "good morning", "hello there", "hallo", "good day")),
    (SELF, ("who are you?", "what are you?", "what is your name?", "tell me about yourself",
            "are you a robot?")),
    (ABLE, ("what can you do?", "help", "how does this work?", "what are you good at?",
            "can you help me?")),
    (KNOWN + ".", ("what can you draw?", "what do you know?", "which shapes do you know?",
                   "what shapes can you draw?",
                   "which things can you draw?", "what things do you know?")),
    ("you are welcome!", ("thank you", "thanks", "thanks a lot", "thank you very much",
                          "great, thanks", "well done",
                          "nice", "very good", "perfect", "cool", "i like it", "beautiful",
                          "great")),
    ("goodbye!", ("bye", "goodbye", "see you", "that is all", "see you later")),
    ("i know day, night, desert, snow and fog.", ("which backgrounds do you know?",
                                                  "what backgrounds can you draw?")),
    ("red, green, blue, yellow, orange, purple, pink and brown.", ("which colors do you know?",
                                                                   "what colors can you use?")),
    ("please tell me what to draw.", ("the", "a", "hm", "ok", "and", "well", "so", "what", "draw",
                                      "draw something", "?",
                                      "yes", "no", "maybe", "draw me a picture")),
)  # fmt: skip
AS_WELL = re.compile(r"\b(?:put|then)\b")
UNDO = ("undo", "undo that", "undo it", "undo the last change", "go back one step",
        "take that back", "no, back",
        "the one before, please", "no, as it was before", "go back", "revert that",
        "back to the last one")  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A message and its answer; `scene` is what the answer draws."""

    kind: str
    message: Turn
    answer: Turn
    scene: Scene | None = None
    names: Names = ()  # the words for what is at each cell of `scene`
    anew: bool = False  # nothing of the picture before is kept
    sources: Names = ()  # the words for what a cell takes over from another object


def say(text: str) -> Turn:
    return user("{prompt}", text)


def drawing(words: str, scene: Scene) -> Turn:
    return assistant(words + DRAWN_PICTURE, scene)


def refusal(thing: str) -> str:
    return f"{KNOWN}, not {thing}."


def any_caption(rng: random.Random, split: str, whole: bool) -> Caption:
    if whole or rng.random() < 0.35:
        return whole_caption(rng, sample_scene(rng, split))
    return sample_free_caption(rng, split) if rng.random() < 0.7 else sample_caption(rng, split)


def draw_step(rng: random.Random, split: str, whole: bool, after_picture: bool) -> Step:
    """A new picture; of what is not known it is said so, and what may mean "as well" is no wish."""
    while True:
        caption = any_caption(rng, split, whole)
        text = caption.text.lower()
        unknown = not caption.scene.objects and any(
            f" {thing}" in text for thing in without_known(rng, UNKNOWN)
        )
        if not unknown and not (after_picture and AS_WELL.search(text)):
            break
    answer = drawing("", caption.scene)
    return Step("draw", say(caption.text), answer, caption.scene, caption.names, anew=True)


def refuse_step(rng: random.Random) -> Step:
    thing = unknown_thing(rng)
    noun = with_article(thing.split(" ")[-1])
    return Step("chat", say(as_typed(rng, opened(rng, thing))), assistant(refusal(noun)))


def ask_step(rng: random.Random, scene: Scene) -> Step:
    question = free_question(rng, scene)
    return Step("ask", say(question.text), reply(question))


def edit_step(rng: random.Random, scene: Scene, split: str) -> Step:
    edit = free_edit(rng, scene, split)
    cleared = edit.kind == "clear"
    answer = drawing("", edit.target)
    return Step("edit", say(edit.instruction), answer, edit.target, anew=cleared)


def back_step(rng: random.Random, before: Scene, now: Scene) -> Step:
    """Undo by name, or by what is to be again: "no, red again"."""
    text = rng.choice(UNDO)
    gone = [o for o in before.objects if o not in now.objects]
    new = [o for o in now.objects if o not in before.objects]
    if len(gone) == len(new) == 1 and before.background == now.background and rng.random() < 0.6:
        old, changed = gone[0], new[0]
        if (old.shape, old.size, old.cell) == (changed.shape, changed.size, changed.cell):
            text = rng.choice(
                ("no, {} again", "{} again", "no, make it {} again", "back to {}")
            ).format(old.color)
        elif (old.color, old.size, old.cell) == (changed.color, changed.size, changed.cell):
            text = rng.choice(("no, {} again", "{} again, please")).format(with_article(old.shape))
    return Step("undo", say(as_typed(rng, text)), drawing("", before), before)


def chat_step(rng: random.Random) -> Step:
    if rng.random() < 0.25:
        color, shape = rng.choice(tuple(COLOR_CLUES)), rng.choice(tuple(SHAPE_CLUES))
        question, answer = rng.choice(
            ((f"what color is {rng.choice(COLOR_CLUES[color])}?", color),
             (f"what is {rng.choice(SHAPE_CLUES[shape])}?", with_article(shape)))
        )  # fmt: skip
        return Step("chat", say(as_typed(rng, question)), assistant(answer))
    answer, sayings = rng.choice(CHAT)
    return Step("chat", say(as_typed(rng, rng.choice(sayings))), assistant(answer))


def clue_steps(rng: random.Random, split: str) -> list[Step]:
    """ "what has three sides?" and then "draw one in orange"."""
    while True:
        thing = Object(
            rng.choice(SHAPES), rng.choice(tuple(COLORS)), rng.choice(("big", "small")), 1, 1
        )
        scene = Scene(rng.choice(tuple(BACKGROUNDS)), (thing,))
        if split in ("any", split_of(scene)):
            break
    question = f"what is {rng.choice(SHAPE_CLUES[thing.shape])}?"
    color = color_word(rng, thing.color)
    wish = rng.choice(
        (
            "draw one in {}",
            "draw a {} one",
            "show me one in {}",
            "draw it in {}",
            "a {} one, please",
        )
    )
    return [
        Step("chat", say(as_typed(rng, question)), assistant(with_article(thing.shape))),
        Step("draw", say(as_typed(rng, wish.format(color))), drawing("", scene), scene),
    ]


def sample_conversation(
    rng: random.Random, split: str, length: int, whole: bool = False
) -> list[Step]:
    """Steps in any order; what is asked or edited is always there.

    Args: whole: captions say everything, so that every later scene is known; what is hard to
        learn (undoing, chatting) then comes as rarely as people say it.
    """
    steps: list[Step] = []
    scenes: list[Scene] = []
    if not whole and rng.random() < 0.05:
        steps = clue_steps(rng, split)
        scenes = [steps[-1].scene]
    while len(steps) < length:
        weights = {"draw": 1.0 if scenes else 4.0}
        weights |= {"chat": 0.7, "refuse": 0.35} if whole else {"chat": 1.0, "refuse": 0.9}
        if scenes:
            weights |= {"ask": 3.0, "edit": 3.2}
        if len(scenes) > 1:
            weights["undo"] = 0.6 if whole else 1.2
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        if kind == "draw":
            step = draw_step(rng, split, whole, bool(scenes))
            scenes = [step.scene]
        elif kind == "ask":
            step = ask_step(rng, scenes[-1])
        elif kind == "edit":
            step = edit_step(rng, scenes[-1], split)
            scenes.append(step.scene)
        elif kind == "undo":
            step = back_step(rng, scenes[-2], scenes[-1])
            scenes = scenes[:-1]
        else:
            step = chat_step(rng) if kind == "chat" else refuse_step(rng)
        steps.append(step)
    return steps


def brought_picture(rng: random.Random, split: str, length: int) -> list[Step]:
    """The user shows a picture of their own and asks, or wants it changed."""
    scene = sample_scene(rng, split)
    step = ask_step(rng, scene) if rng.random() < 0.5 else edit_step(rng, scene, split)
    first = Turn("user", PICTURE + step.message.text, (scene,))
    steps = [Step(step.kind, first, step.answer, step.scene)]
    now = step.scene or scene
    while len(steps) < length:
        step = ask_step(rng, now) if rng.random() < 0.5 else edit_step(rng, now, split)
        now = step.scene or now
        steps.append(step)
    return steps


def conversation_sample(rng: random.Random, split: str = "train") -> Sample:
    """Two of five learn all the answers, three draw one of the pictures."""
    make = brought_picture if rng.random() < 0.15 else sample_conversation
    steps = make(rng, split, rng.choice((1, 2, 3, 3, 4, 5, 5)))
    drawn = [i for i, step in enumerate(steps) if step.scene is not None]
    return ended(rng, steps, drawn)


def ended(rng: random.Random, steps: list[Step], drawn: list[int]) -> Sample:
    """Two of five learn all the answers, three draw the last of `drawn` and the pictures before."""
    if drawn and rng.random() < 0.6:
        *before, last = drawn
        plain = (number for number in before if steps[number].answer.text == DRAWN_PICTURE)
        return replace(up_to(steps, last), earlier=tuple(up_to(steps, n) for n in plain))
    turns = [turn for step in steps for turn in (step.message, step.answer)]
    return dialogue_sample("converse", turns)


def up_to(steps: Sequence[Step], number: int) -> Sample:
    """The talk until this step draws."""
    turns = [turn for step in steps[:number] for turn in (step.message, step.answer)]
    end = steps[number]
    turns.append(end.message)
    return dialogue_sample("converse", turns, end.scene, end.names, end.anew, end.sources)


# ---------------------------------------------------------------- the same in the nodes' own forms


def free_caption_sample(rng: random.Random, split: str = "train") -> Sample:
    return caption_sample("caption", sample_free_caption(rng, split))


def whole_caption_sample(rng: random.Random, split: str = "train") -> Sample:
    """As Text to Image or as Converse asks for it."""
    caption = whole_caption(rng, sample_scene(rng, split))
    if rng.random() < 0.5:
        return caption_sample("caption", caption)
    return dialogue_sample("caption", [say(caption.text)], caption.scene, caption.names)


def related_caption_sample(rng: random.Random, split: str = "train") -> Sample:
    return caption_sample("caption", sample_related_caption(rng, split))


def scene_to_look_at(rng: random.Random, split: str) -> Scene:
    if rng.random() < 0.12:
        return Scene(rng.choice(tuple(BACKGROUNDS)), ())
    return sample_scene(rng, split)


def free_edit_sample(rng: random.Random, split: str = "train") -> Sample:
    scene = scene_to_look_at(rng, split)
    edit = free_edit(rng, scene, split)
    return dialogue_sample(
        "edit", [user(INSTRUCTION_REQUEST, edit.instruction, scene)], edit.target
    )


def free_question_sample(rng: random.Random, split: str = "train") -> Sample:
    """One to three questions about a picture; the later ones bring none."""
    scene = scene_to_look_at(rng, split)
    turns: list[Turn] = []
    for number in range(rng.choice((1, 1, 2, 3))):
        question = free_question(rng, scene)
        shown = () if number else (scene,)
        turns += [user(QUESTION_REQUEST, question.text, *shown), reply(question)]
    return dialogue_sample("question", turns)
