"""Conversations in the words of the phrase book. For training alone.

As in `leaning.py`, "it" is what was drawn, added or changed last.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.called import called
from small_world.conversations import Step, drawing, ended, say
from small_world.edits import STEPS, Edit, free_cells
from small_world.group_edits import TRIES, changed
from small_world.language import with_article
from small_world.layout import USUAL
from small_world.leaning import edit_of, meant_by_it, start
from small_world.phrase_adds import look_said
from small_world.phrase_captions import phrase_caption
from small_world.phrase_chat import chat_step, unknown_step
from small_world.phrase_edits import NEXT_CELL, about, bare_place, other_size
from small_world.phrase_history import (
    PhraseTalk,
    back_but,
    by_age,
    can_undo_two,
    copy_it,
    exchange,
    follow,
    other_one,
    put_it_here,
)
from small_world.phrase_likes import SIZE_KIND
from small_world.phrase_orders import phrase_edit
from small_world.phrase_questions import phrase_question
from small_world.phrase_several import same_change
from small_world.phrases import phrase
from small_world.questions import reply
from small_world.samples import Sample
from small_world.wordings import OF_IT, RELATIONS_SAID, as_typed, color_word, spot
from small_world.world import COLORS, SHAPES, SIZES, Object, Scene, sample_object, split_of


def recolor_it(rng: random.Random, talk: PhraseTalk) -> Edit:
    old = talk.it
    color = rng.choice([c for c in COLORS if c != old.color])
    kind = "not_color" if talk.trait == "color" and rng.random() < 0.5 else "color"
    text = follow(rng, kind, color=color_word(rng, color))
    return edit_of(talk.scene, old, replace(old, color=color), text)


def resize_it(rng: random.Random, talk: PhraseTalk) -> Edit:
    size = other_size(talk.it)
    text = follow(rng, SIZE_KIND[size])
    return edit_of(talk.scene, talk.it, replace(talk.it, size=size), text)


def remove_it(rng: random.Random, talk: PhraseTalk) -> Edit:
    left = tuple(o for o in talk.scene.objects if o != talk.it)
    return Edit("remove", follow(rng, "remove"), talk.scene, talk.scene.with_objects(left))


def reshape_it(rng: random.Random, talk: PhraseTalk) -> Edit:
    """Another shape, perhaps in another colour; a colour that is not said stays."""
    color, shape = talk.it.color, rng.choice([s for s in SHAPES if s != talk.it.shape])
    words = shape
    if rng.random() < 0.3:
        color = rng.choice([c for c in COLORS if c != color])
        words = f"{color_word(rng, color)} {shape}"
    text = follow(rng, "replace", new=with_article(words))
    return edit_of(talk.scene, talk.it, replace(talk.it, shape=shape, color=color), text)


def move_it(rng: random.Random, talk: PhraseTalk) -> Edit:
    row, col = rng.choice(free_cells(talk.scene))
    words = {"where": spot(rng, row, col), "place": bare_place(rng, row, col)}
    text = follow(rng, "move", **words)
    return edit_of(talk.scene, talk.it, replace(talk.it, row=row, col=col), text)


def recolor_other(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """The other one of two in another colour, or any other one in the same."""
    others = [o for o in talk.scene.objects if o != talk.it and o.color != talk.it.color]
    if not others:
        return None
    old = rng.choice(others)
    if talk.trait == "color" and rng.random() < 0.5:
        text = follow(rng, "too_color", it=called(rng, talk.scene, old))
        return edit_of(talk.scene, old, replace(old, color=talk.it.color), text)
    if len(talk.scene.objects) != 2:
        return None
    color = rng.choice([c for c in COLORS if c != old.color])
    text = follow(rng, "other_color", color=color_word(rng, color))
    return edit_of(talk.scene, old, replace(old, color=color), text)


def one_more(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    cells = [cell for cell in USUAL if cell in free_cells(talk.scene)]
    if len(talk.scene.objects) == 3 or not cells:
        return None
    new = replace(talk.it, row=cells[0][0], col=cells[0][1])
    objects = (*talk.scene.objects, new)
    return Edit("add", follow(rng, "one_more"), talk.scene, talk.scene.with_objects(objects))


def said_of_it(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    return about(rng, talk.scene, talk.it, "it")


def step_it(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    way = rng.choice(tuple(NEXT_CELL))
    row, col = talk.it.row + NEXT_CELL[way][0], talk.it.col + NEXT_CELL[way][1]
    if (row, col) not in free_cells(talk.scene):
        return None
    return edit_of(talk.scene, talk.it, replace(talk.it, row=row, col=col), follow(rng, way))


def beside_it(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """Something new next to what the talk is about."""
    relation = rng.choice(tuple(STEPS))
    cell = (talk.it.row + STEPS[relation][0], talk.it.col + STEPS[relation][1])
    if cell not in free_cells(talk.scene) or len(talk.scene.objects) == 3:
        return None
    new = sample_object(rng, cell)
    words = {"thing": look_said(rng, new, 1.0), "relation": rng.choice(RELATIONS_SAID[relation])}
    words["relation_it"] = rng.choice(OF_IT[relation])
    target = talk.scene.with_objects((*talk.scene.objects, new))
    return Edit("add", follow(rng, "add_beside", **words), talk.scene, target)


def put_there(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """Something new where the last edit took something away."""
    if talk.last is None or len(talk.scene.objects) == 3:
        return None
    taken = {o.cell for o in talk.scene.objects}
    empty = [o.cell for o in talk.last.source.objects if o.cell not in taken]
    if len(empty) != 1:
        return None
    new = sample_object(rng, empty[0])
    text = follow(rng, "there", thing=look_said(rng, new, 1.0))
    return Edit("add", text, talk.scene, talk.scene.with_objects((*talk.scene.objects, new)))


def same_for(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """The last change for another object as well."""
    if talk.last is None:
        return None
    others = [o for o in talk.scene.objects if o in talk.last.source.objects]
    edit = same_change(talk.last, rng.choice(others)) if others else None
    if edit is None:
        return None
    (old,) = [o for o in talk.last.source.objects if o not in edit.target.objects]
    new = tuple(o for o in edit.target.objects if o not in talk.last.source.objects)
    kept = tuple(o for o in talk.scene.objects if o != old)
    other = len(others) == 1 and rng.random() < 0.4
    text = follow(rng, "too", it="the other one" if other else called(rng, talk.scene, old))
    return Edit(edit.kind, text, talk.scene, talk.scene.with_objects((*kept, *new)))


def meant_other(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    """The last change undone, and done to another object."""
    if talk.last is None or len(talk.last.source.objects) < 2:
        return None
    before = talk.last.source
    wrong = [o for o in before.objects if o not in talk.last.target.objects]
    old = rng.choice(before.objects)
    edit = same_change(talk.last, old)
    if edit is None:
        return None
    words = {"it": called(rng, before, old), "other": called(rng, before, wrong[0])}
    return replace(edit, source=talk.scene, instruction=follow(rng, "meant_other", **words))


def both(rng: random.Random, talk: PhraseTalk) -> Edit | None:
    if len(talk.scene.objects) != 2:
        return None
    if rng.random() < 0.5:
        look = {"color": rng.choice(tuple(COLORS))}
        text = follow(rng, "both_color", color=color_word(rng, look["color"]))
    else:
        look = {"size": rng.choice(tuple(SIZES))}
        text = follow(rng, f"both_{SIZE_KIND[look['size']]}")
    edit = changed(talk.scene, talk.scene.objects, text, **look)
    return edit if edit.target != talk.scene else None


FOLLOWING: dict[Callable[[random.Random, PhraseTalk], Edit | None], tuple[float, str]] = {
    recolor_it: (3, "color"), resize_it: (3, "size"), remove_it: (1.5, ""), reshape_it: (2, ""),
    move_it: (2.5, "place"), recolor_other: (2.5, "color"), one_more: (2, ""),
    said_of_it: (4, ""), step_it: (2, "place"), beside_it: (2.5, ""), other_one: (3, ""),
    copy_it: (2.5, ""), put_it_here: (2.5, "place"),
}  # fmt: skip
OF_THE_LAST: dict[Callable[[random.Random, PhraseTalk], Edit | None], float] = {
    put_there: 2, same_for: 3, meant_other: 3, both: 2, by_age: 4, exchange: 2, back_but: 2,
}  # fmt: skip


def is_alike(scene: Scene, it: Object) -> bool:
    """Whether another object looks so, too: words would not tell which of them is "it"."""
    return [(o.shape, o.color) for o in scene.objects].count((it.shape, it.color)) > 1


def leaning_edit(rng: random.Random, talk: PhraseTalk) -> tuple[Edit | None, str]:
    """An edit that the talk explains, and the trait that it changes."""
    if rng.random() < 0.45:
        maker = rng.choices(tuple(OF_THE_LAST), tuple(OF_THE_LAST.values()))[0]
        return maker(rng, talk), ""
    if talk.it is None or is_alike(talk.scene, talk.it):
        return None, ""
    weights = [weight for weight, _ in FOLLOWING.values()]
    maker = rng.choices(tuple(FOLLOWING), weights)[0]
    return maker(rng, talk), FOLLOWING[maker][1]


def following(rng: random.Random, talk: PhraseTalk, split: str) -> Edit:
    """An edit that leans on the talk, or one that explains itself."""
    tries = 0 if rng.random() < 0.25 else TRIES
    for _ in range(tries):
        edit, trait = leaning_edit(rng, talk)
        if edit is None:
            continue
        if not edit.target.objects or split in ("any", split_of(edit.target)):
            talk.trait = trait
            return replace(edit, instruction=as_typed(rng, edit.instruction))
    talk.trait = ""
    return phrase_edit(rng, talk.scene, split)


def edit_step(rng: random.Random, talk: PhraseTalk, split: str) -> Step:
    edit = following(rng, talk, split)
    several = edit.kind == "group"
    talk.it = meant_by_it(edit.target if several else edit.source, edit.target)
    talk.scenes.append(edit.target)
    talk.last, talk.undone = edit, False
    anew = edit.kind == "clear"
    answer = drawing("", edit.target)
    said = say(edit.instruction)
    return Step("edit", said, answer, edit.target, edit.names, anew, edit.sources)


def undo_two_step(rng: random.Random, talk: PhraseTalk) -> Step:
    """The last two changes are taken back at once."""
    del talk.scenes[-2:]
    talk.it, talk.trait = meant_by_it(talk.scene, talk.scene), ""
    talk.last, talk.undone = None, True
    said = say(as_typed(rng, follow(rng, "undo_two")))
    return Step("undo", said, drawing("", talk.scene), talk.scene)


def undo_step(rng: random.Random, talk: PhraseTalk) -> Step:
    """The last change is taken back, perhaps by naming what was there."""
    if can_undo_two(talk.scenes) and rng.random() < 0.35:
        return undo_two_step(rng, talk)
    before, now = talk.scenes[-2:]
    gone = [o for o in before.objects if o not in now.objects]
    new = [o for o in now.objects if o not in before.objects]
    text = follow(rng, "again_undo" if talk.undone and rng.random() < 0.6 else "undo")
    if len(gone) == 1 and not new and before.background == now.background and rng.random() < 0.5:
        text = follow(rng, "put_back")
    recolored = len(gone) == len(new) == 1 and replace(new[0], color=gone[0].color) == gone[0]
    if recolored and rng.random() < 0.6:
        text = follow(rng, "back_color", color=gone[0].color)
    talk.scenes.pop()
    talk.it, talk.trait = meant_by_it(before, before), ""
    talk.last, talk.undone = None, True
    return Step("undo", say(as_typed(rng, text)), drawing("", before), before)


def undo_first_step(rng: random.Random, talk: PhraseTalk) -> Step:
    """Before the first picture there was nothing."""
    empty = talk.scene.with_objects(())
    start(talk, empty)
    talk.last, talk.undone = None, False
    said = say(as_typed(rng, follow(rng, "undo")))
    return Step("undo", said, drawing("", empty), empty, anew=True)


def draw_step(rng: random.Random, talk: PhraseTalk, split: str) -> Step:
    """A picture; where there is one, it is said that this is another one."""
    caption = phrase_caption(rng, split)
    text = caption.text
    if talk.scenes:
        text = phrase(rng, "draw", "fresh", scene=text.rstrip(".!?").lower())[0]
        text = as_typed(rng, text)
    start(talk, caption.scene)
    talk.last, talk.undone = None, False
    cells = {3 * o.row + o.col: o for o in caption.scene.objects}
    talk.order = tuple(cells[cell] for cell, _ in caption.names)
    answer = drawing("", caption.scene)
    return Step("draw", say(text), answer, caption.scene, caption.names, anew=True)


def ask_step(rng: random.Random, talk: PhraseTalk) -> Step:
    """A question; the one object that it was about is "it" then."""
    question = phrase_question(rng, talk.scene)
    about = [o for o in talk.scene.objects if 3 * o.row + o.col == question.about]
    if about and question.answer not in ("yes", "no", talk.scene.background):
        talk.it, talk.trait = about[0], ""
    return Step("ask", say(question.text), reply(question))


def phrase_steps(rng: random.Random, split: str, length: int) -> list[Step]:
    talk, steps = PhraseTalk([], None), []
    weights = {"edit": 5.0, "ask": 2.2, "draw": 0.6, "undo": 2.2, "chat": 0.6, "unknown": 0.5}
    while len(steps) < length:
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        if kind == "chat":
            steps.append(chat_step(rng))
        elif kind == "unknown":
            steps.append(unknown_step(rng))
        elif kind == "draw" or not talk.scenes:
            steps.append(draw_step(rng, talk, split))
        elif kind == "ask":
            steps.append(ask_step(rng, talk))
        elif kind == "edit":
            steps.append(edit_step(rng, talk, split))
        elif len(talk.scenes) > 1:
            steps.append(undo_step(rng, talk))
        elif talk.scene.objects and rng.random() < 0.3:
            steps.append(undo_first_step(rng, talk))
    return steps


def phrase_talk_sample(rng: random.Random, split: str = "train") -> Sample:
    steps = phrase_steps(rng, split, rng.choice((2, 3, 3, 4, 5)))
    drawn = [i for i, step in enumerate(steps) if step.scene is not None]
    return ended(rng, steps, drawn)
