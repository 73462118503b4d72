"""Conversations in the words of the phrase book. For training alone.

As in `leaning.py`, "it" is what was drawn, added or changed last.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.conversations import ABLE, HELLO, KNOWN, SELF, Step, drawing, ended, refusal, say
from small_world.edits import Edit, free_cells
from small_world.free_captions import unknown_thing
from small_world.group_edits import TRIES
from small_world.language import with_article
from small_world.layout import USUAL
from small_world.leaning import Talk, edit_of, meant_by_it, start
from small_world.names import reference
from small_world.phrase_captions import phrase_caption
from small_world.phrase_edits import (
    SIZE_KIND,
    about,
    bare_place,
    other_size,
    phrase_edit,
)
from small_world.phrase_questions import phrase_question
from small_world.phrases import phrase
from small_world.questions import reply
from small_world.samples import Sample, assistant
from small_world.wordings import as_typed, color_word, place_words
from small_world.world import COLORS, SHAPES, Object, Scene, split_of

ANSWERS = {
    "hello": HELLO,
    "self": SELF,
    "able": ABLE,
    "shapes": f"{KNOWN}.",
    "colors": "red, green, blue, yellow, orange, purple, pink and brown.",
    "thanks": "you are welcome!",
    "unclear": "please tell me what to draw.",
}


def follow(rng: random.Random, kind: str, **words: str) -> str:
    return phrase(rng, "follow", kind, **words)[0]


def recolor_it(rng: random.Random, talk: Talk) -> Edit:
    old = talk.it
    color = rng.choice([c for c in COLORS if c != old.color])
    kind = "not_color" if talk.trait == "color" and rng.random() < 0.5 else "color"
    text = follow(rng, kind, color=color_word(rng, color))
    return edit_of(talk.scene, old, replace(old, color=color), text)


def resize_it(rng: random.Random, talk: Talk) -> Edit:
    size = other_size(talk.it)
    text = follow(rng, SIZE_KIND[size])
    return edit_of(talk.scene, talk.it, replace(talk.it, size=size), text)


def remove_it(rng: random.Random, talk: Talk) -> Edit:
    left = tuple(o for o in talk.scene.objects if o != talk.it)
    return Edit("remove", follow(rng, "remove"), talk.scene, talk.scene.with_objects(left))


def reshape_it(rng: random.Random, talk: Talk) -> Edit:
    shape = rng.choice([s for s in SHAPES if s != talk.it.shape])
    text = follow(rng, "replace", new=with_article(shape))
    return edit_of(talk.scene, talk.it, replace(talk.it, shape=shape), text)


def move_it(rng: random.Random, talk: Talk) -> Edit:
    row, col = rng.choice(free_cells(talk.scene))
    words = {"where": place_words(rng, row, col), "place": bare_place(rng, row, col)}
    text = follow(rng, "move", **words)
    return edit_of(talk.scene, talk.it, replace(talk.it, row=row, col=col), text)


def recolor_other(rng: random.Random, talk: Talk) -> Edit | None:
    """The other one of two in another colour, or any other one in the same."""
    others = [o for o in talk.scene.objects if o != talk.it and o.color != talk.it.color]
    if not others:
        return None
    old = rng.choice(others)
    if talk.trait == "color" and rng.random() < 0.5:
        text = follow(rng, "too_color", it=reference(rng, talk.scene, old))
        return edit_of(talk.scene, old, replace(old, color=talk.it.color), text)
    if len(talk.scene.objects) != 2:
        return None
    color = rng.choice([c for c in COLORS if c != old.color])
    text = follow(rng, "other_color", color=color_word(rng, color))
    return edit_of(talk.scene, old, replace(old, color=color), text)


def one_more(rng: random.Random, talk: Talk) -> Edit | None:
    cells = [cell for cell in USUAL if cell in free_cells(talk.scene)]
    if len(talk.scene.objects) == 3 or not cells:
        return None
    new = replace(talk.it, row=cells[0][0], col=cells[0][1])
    objects = (*talk.scene.objects, new)
    return Edit("add", follow(rng, "one_more"), talk.scene, talk.scene.with_objects(objects))


def said_of_it(rng: random.Random, talk: Talk) -> Edit | None:
    return about(rng, talk.scene, talk.it, "it")


FOLLOWING: dict[Callable[[random.Random, Talk], Edit | None], tuple[float, str]] = {
    recolor_it: (3, "color"), resize_it: (3, "size"), remove_it: (1.5, ""), reshape_it: (2, ""),
    move_it: (2.5, "place"), recolor_other: (3, "color"), one_more: (2, ""), said_of_it: (4, ""),
}  # fmt: skip


def is_alike(scene: Scene, it: Object) -> bool:
    """Whether another object looks so, too: words would not tell which of them is "it"."""
    return [(o.shape, o.color) for o in scene.objects].count((it.shape, it.color)) > 1


def following(rng: random.Random, talk: Talk, split: str) -> Edit:
    """An edit that leans on the talk, or one that explains itself."""
    if talk.it is None or is_alike(talk.scene, talk.it) or rng.random() < 0.35:
        talk.trait = ""
        return phrase_edit(rng, talk.scene, split)
    weights = [weight for weight, _ in FOLLOWING.values()]
    for _ in range(TRIES):
        maker = rng.choices(tuple(FOLLOWING), weights)[0]
        edit = maker(rng, talk)
        if edit is None:
            continue
        if not edit.target.objects or split in ("any", split_of(edit.target)):
            talk.trait = FOLLOWING[maker][1]
            return replace(edit, instruction=as_typed(rng, edit.instruction))
    talk.trait = ""
    return phrase_edit(rng, talk.scene, split)


def edit_step(rng: random.Random, talk: Talk, split: str) -> Step:
    edit = following(rng, talk, split)
    several = edit.kind == "group"
    talk.it = meant_by_it(edit.target if several else edit.source, edit.target)
    talk.scenes.append(edit.target)
    anew = edit.kind == "clear"
    return Step("edit", say(edit.instruction), drawing("", edit.target), edit.target, anew=anew)


def undo_step(rng: random.Random, talk: Talk) -> Step:
    """The last change is taken back, perhaps by naming what was there."""
    before, now = talk.scenes[-2:]
    gone = [o for o in before.objects if o not in now.objects]
    new = [o for o in now.objects if o not in before.objects]
    text = follow(rng, "undo")
    if len(gone) == 1 and not new and before.background == now.background and rng.random() < 0.5:
        text = follow(rng, "put_back")
    recolored = len(gone) == len(new) == 1 and replace(new[0], color=gone[0].color) == gone[0]
    if recolored and rng.random() < 0.6:
        text = follow(rng, "back_color", color=gone[0].color)
    talk.scenes.pop()
    talk.it, talk.trait = meant_by_it(before, before), ""
    return Step("undo", say(as_typed(rng, text)), drawing("", before), before)


def draw_step(rng: random.Random, talk: Talk, split: str) -> Step:
    """A picture; where there is one, it is said that this is another one."""
    caption = phrase_caption(rng, split)
    text = caption.text
    if talk.scenes:
        text = phrase(rng, "draw", "fresh", scene=text.rstrip(".!?").lower())[0]
        text = as_typed(rng, text)
    start(talk, caption.scene)
    answer = drawing("", caption.scene)
    return Step("draw", say(text), answer, caption.scene, caption.names, anew=True)


def chat_step(rng: random.Random) -> Step:
    kind = rng.choice(tuple(ANSWERS))
    text = phrase(rng, "talk", kind)[0]
    return Step("chat", say(as_typed(rng, text)), assistant(ANSWERS[kind]))


def unknown_step(rng: random.Random) -> Step:
    thing = unknown_thing(rng)
    text = phrase(rng, "talk", "unknown", noun=thing)[0]
    noun = with_article(thing.split(" ")[-1])
    return Step("chat", say(as_typed(rng, text)), assistant(refusal(noun)))


def phrase_steps(rng: random.Random, split: str, length: int) -> list[Step]:
    talk, steps = Talk([], None), []
    weights = {"edit": 5.0, "ask": 2.2, "draw": 0.6, "undo": 1.0, "chat": 0.6, "unknown": 0.5}
    while len(steps) < length:
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        if kind == "chat":
            steps.append(chat_step(rng))
        elif kind == "unknown":
            steps.append(unknown_step(rng))
        elif kind == "draw" or not talk.scenes:
            steps.append(draw_step(rng, talk, split))
        elif kind == "ask":
            question = phrase_question(rng, talk.scene)
            steps.append(Step("ask", say(question.text), reply(question)))
        elif kind == "edit":
            steps.append(edit_step(rng, talk, split))
        elif len(talk.scenes) > 1:
            steps.append(undo_step(rng, talk))
    return steps


def phrase_talk_sample(rng: random.Random, split: str = "train") -> Sample:
    steps = phrase_steps(rng, split, rng.choice((2, 3, 3, 4, 5)))
    drawn = [i for i, step in enumerate(steps) if step.scene is not None]
    return ended(rng, steps, drawn)
