"""Conversations that lean on what was said: "bigger", "and the other one green", "no, blue".

What was drawn, added or changed last is "it". For training alone; the benchmark's held-out
conversations do not sample from here.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from small_world.comparisons import compared
from small_world.conversations import (
    UNDO,
    Step,
    back_step,
    chat_step,
    draw_step,
    drawing,
    ended,
    refusal,
    say,
)
from small_world.edits import Edit, change, free_cells
from small_world.free_captions import unknown_thing
from small_world.free_edits import REMOVALS, add, clear, free_edit, politely
from small_world.group_edits import BIGGER, TRIES, group_edit
from small_world.joined_captions import joined_caption
from small_world.language import with_article
from small_world.more_objects import another
from small_world.names import reference
from small_world.questions import reply
from small_world.samples import Sample, assistant
from small_world.wordings import BACKGROUND_WORDS, as_typed, color_word, place_words, size_word
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, split_of

FRESH = ("start over with {}", "start again: {}", "start over: {}", "now something else: {}",
         "now draw something else: {}", "something new: {}", "forget that, draw {}",
         "a new picture: {}", "a new picture with {}", "next picture: {}", "no, draw {} instead",
         "let us start anew, {}", "throw it away and draw {}", "instead, draw {}")  # fmt: skip
INSTEAD = ("ok then {}", "then {}", "fine, draw {}", "ok, just {}", "well then, {}",
           "all right, {}", "ok, then draw {}", "then just {}")  # fmt: skip

UNKNOWN_SAID = ("draw {}", "add {}", "can you draw {}?", "{}, please", "put {} there", "{}",
                "turn it into {}", "replace it with {}", "make {} out of it", "now {}",
                "i want {}", "and {}", "show me {}", "could you add {}?", "also {}")  # fmt: skip
BRING_BACK = ("bring it back", "put it back", "i want it back", "no, put it back", "back again",
              "please bring it back", "actually, undo that", "oh no, go back")  # fmt: skip


@dataclass
class Talk:
    """What a conversation has come to: its pictures, the last one now, and what "it" is."""

    scenes: list[Scene]
    it: Object | None
    trait: str = ""  # what the last edit changed: "color", "size", "place" or ""

    @property
    def scene(self) -> Scene:
        return self.scenes[-1]


def edit_of(scene: Scene, old: Object, new: Object, text: str) -> Edit:
    return Edit("lean", text, scene, change(scene, old, new))


def recolor_it(rng: random.Random, talk: Talk) -> Edit:
    old = talk.it
    color = rng.choice([c for c in COLORS if c != old.color])
    word = color_word(rng, color)
    forms = [f"make it {word}", f"{word}", f"and now {word}", f"and {word} now", f"now in {word}",
             f"it should be {word}", f"turn it {word}", f"in {word}, please", f"paint it {word}",
             f"{word} would be nicer", f"let it be {word}", f"could it be {word}?"]  # fmt: skip
    if talk.trait == "color":
        forms += [f"no, {word}", f"no, make it {word}", f"rather {word}", f"or {word}"] * 2
    return edit_of(talk.scene, old, replace(old, color=color), rng.choice(forms))


def resize_it(rng: random.Random, talk: Talk) -> Edit:
    old = talk.it
    size = "big" if old.size == "small" else "small"
    word = rng.choice((*BIGGER[size], size_word(rng, size)))
    forms = [word, f"{word} please", f"make it {word}", f"and {word}", f"a bit {word}",
             f"it should be {word}", f"now {word}", f"{word}, please"]  # fmt: skip
    if talk.trait == "size":
        forms += [f"no, {word}", f"{word} again"] * 2
    return edit_of(talk.scene, old, replace(old, size=size), rng.choice(forms))


def reshape_it(rng: random.Random, talk: Talk) -> Edit:
    old = talk.it
    shape = rng.choice([s for s in SHAPES if s != old.shape])
    noun = with_article(shape)
    forms = (f"make it {noun}", f"swap it for {noun}", f"turn it into {noun}", f"now {noun}",
             f"it should be {noun}", f"replace it with {noun}", f"{noun} instead",
             f"no, {noun}", f"change it to {noun}", f"make {noun} out of it")  # fmt: skip
    return edit_of(talk.scene, old, replace(old, shape=shape), rng.choice(forms))


def move_it(rng: random.Random, talk: Talk) -> Edit:
    old = talk.it
    free = free_cells(talk.scene)
    row, col = rng.choice(free)
    where = place_words(rng, row, col)
    side, cell = rng.choice((("top", (0, old.col)), ("bottom", (2, old.col)),
                             ("left", (old.row, 0)), ("right", (old.row, 2))))  # fmt: skip
    if cell in free and rng.random() < 0.4:
        row, col = cell
        where = rng.choice((f"to the {side}", f"at the {side}", f"at the very {side}"))
    forms = [f"put it {where}", f"move it {where}", f"it should be {where}", f"{where}, please",
             f"now {where}", f"place it {where}", f"it belongs {where}"]  # fmt: skip
    if talk.trait == "place":
        forms += [f"no, {where}", f"no, put it {where}", f"rather {where}"] * 2
    return edit_of(talk.scene, old, replace(old, row=row, col=col), rng.choice(forms))


def remove_it(rng: random.Random, talk: Talk) -> Edit:
    scene, old = talk.scene, talk.it
    alike = [o for o in scene.objects if (o.shape, o.color) == (old.shape, old.color)]
    text = politely(rng, rng.choice(REMOVALS).format("it"))
    if len(alike) > 1:
        old = alike[-1]
        one = rng.choice(("one of them", "one", f"one {old.shape}"))
        text = rng.choice((f"remove {one}", f"take {one} away", f"too many, remove {one}",
                           f"delete {one}", "one less", "one fewer"))  # fmt: skip
    left = tuple(o for o in scene.objects if o is not old)
    return Edit("remove", text, scene, scene.with_objects(left))


def other_too(rng: random.Random, talk: Talk) -> Edit | None:
    """After "make the star pink": "and the other one green", "and the ring green"."""
    others = [o for o in talk.scene.objects if o != talk.it]
    if not others:
        return None
    old = rng.choice(others)
    it = reference(rng, talk.scene, old)
    it = rng.choice(("the other one", "the other", it)) if len(others) == 1 else it
    color = rng.choice([c for c in COLORS if c != old.color])
    word = color_word(rng, color)
    form = rng.choice(("and {} {}", "{} {}", "and {} should be {}", "now {} {}", "make {} {}",
                       "{} in {}", "and make {} {}"))  # fmt: skip
    return edit_of(talk.scene, old, replace(old, color=color), form.format(it, word))


def one_more(rng: random.Random, talk: Talk) -> Edit | None:
    return another(rng, talk.scene, talk.it, "it")


def add_one(rng: random.Random, talk: Talk) -> Edit | None:
    return add(rng, talk.scene) if len(talk.scene.objects) < 3 else None


LEANING: dict[Callable[[random.Random, Talk], Edit | None], tuple[float, str]] = {
    recolor_it: (3, "color"), resize_it: (3, "size"), reshape_it: (2, ""), move_it: (2, "place"),
    remove_it: (1.5, ""), other_too: (2, "color"), one_more: (2.5, ""), add_one: (2, ""),
}  # fmt: skip


def lean(rng: random.Random, talk: Talk, split: str) -> Edit:
    """An edit that the talk explains; with nothing to be called "it" one that explains itself.

    Where hardly any target lies in the split, all is cleared away.
    """
    if talk.it is None:
        make = group_edit if rng.random() < 0.5 else free_edit
        return make(rng, talk.scene, split)
    weights = [weight for weight, _ in LEANING.values()]
    for _ in range(TRIES):
        maker = rng.choices(tuple(LEANING), weights)[0]
        edit = maker(rng, talk)
        if edit is None:
            continue
        if not edit.target.objects or split == "any" or split_of(edit.target) == split:
            talk.trait = LEANING[maker][1]
            return replace(edit, instruction=as_typed(rng, edit.instruction))
    talk.trait, edit = "", clear(rng, talk.scene)
    return replace(edit, instruction=as_typed(rng, edit.instruction))


def meant_by_it(before: Scene, after: Scene) -> Object | None:
    """What was added or changed, if it is one; else the only object."""
    new = [o for o in after.objects if o not in before.objects]
    if len(new) == 1:
        return new[0]
    return after.objects[0] if len(after.objects) == 1 else None


def edit_step(rng: random.Random, talk: Talk, split: str) -> Step:
    edit = lean(rng, talk, split)
    several = edit.kind == "group"  # none of them is "it", even where only one looks new
    talk.it = meant_by_it(edit.target if several else edit.source, edit.target)
    talk.scenes.append(edit.target)
    anew = edit.kind == "clear"
    answer = drawing("", edit.target)
    return Step("edit", say(edit.instruction), answer, edit.target, edit.names, anew)


def fresh_step(rng: random.Random, talk: Talk, split: str, forms: tuple[str, ...]) -> Step:
    """Another picture, and that it is another one is said by one of `forms`."""
    caption = joined_caption(rng, split)
    text = caption.text.lower().rstrip(".!?")
    start(talk, caption.scene)
    answer = drawing("", caption.scene)
    message = say(as_typed(rng, rng.choice(forms).format(text)))
    return Step("draw", message, answer, caption.scene, caption.names, anew=True)


def first_step(rng: random.Random, talk: Talk, split: str) -> Step:
    if rng.random() < 0.5:
        return fresh_step(rng, talk, split, ("{}",))
    step = draw_step(rng, split, rng.random() < 0.4, False)
    start(talk, step.scene)
    return step


def unknown_step(rng: random.Random) -> Step:
    """What is of another world, in whatever words: it is said that it is not known."""
    thing = unknown_thing(rng)
    text = rng.choice(UNKNOWN_SAID).format(thing)
    if rng.random() < 0.3:
        text += " " + rng.choice(BACKGROUND_WORDS[rng.choice(tuple(BACKGROUNDS))])
    noun = with_article(thing.split(" ")[-1])
    return Step("chat", say(as_typed(rng, text)), assistant(refusal(noun)))


def undo_step(rng: random.Random, talk: Talk) -> Step:
    before, now = talk.scenes[-2:]
    step = back_step(rng, before, now)
    if rng.random() < 0.3:
        step = replace(step, message=say(as_typed(rng, politely(rng, rng.choice(UNDO)))))
    if len(before.objects) > len(now.objects) and rng.random() < 0.5:
        step = replace(step, message=say(as_typed(rng, rng.choice(BRING_BACK))))
    talk.scenes.pop()
    talk.it, talk.trait = meant_by_it(talk.scene, talk.scene), ""
    return step


def start(talk: Talk, scene: Scene) -> None:
    talk.scenes, talk.trait = [scene], ""
    talk.it = scene.objects[0] if len(scene.objects) == 1 else None


def leaning_steps(rng: random.Random, split: str, length: int) -> list[Step]:
    talk, steps = Talk([], None), []
    while len(steps) < length:
        weights = {"fresh": 0.5, "edit": 5.0, "ask": 2.0, "chat": 0.5, "refuse": 0.4, "undo": 0.6}
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        if not talk.scenes:
            step = first_step(rng, talk, split)
        elif kind == "fresh":
            step = fresh_step(rng, talk, split, FRESH)
        elif kind == "edit":
            step = edit_step(rng, talk, split)
        elif kind == "ask":
            question = compared(rng, talk.scene)
            step = Step("ask", say(question.text), reply(question))
        elif kind == "undo":
            if len(talk.scenes) < 2:
                continue
            step = undo_step(rng, talk)
        elif kind == "chat":
            step = chat_step(rng)
        else:
            steps.append(unknown_step(rng))
            step = fresh_step(rng, talk, split, INSTEAD)
        steps.append(step)
    return steps


def leaning_sample(rng: random.Random, split: str = "train") -> Sample:
    steps = leaning_steps(rng, split, rng.choice((2, 3, 3, 4, 5)))
    drawn = [i for i, step in enumerate(steps) if step.scene is not None]
    return ended(rng, steps, drawn)
