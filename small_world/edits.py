"""Edit instructions: what is said, the scene before and the scene after."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from blip3u_core.language.prompt import DESCRIBE_REQUEST, INSTRUCTION_REQUEST, REWRITE_REQUEST
from small_world.kinds import colored
from small_world.language import (
    RELATION_PHRASES,
    SIZE_WORDS,
    Names,
    any_place_phrase,
    describe,
    noun,
    reworded_order,
    spaced,
    typed,
    with_article,
)
from small_world.names import reference
from small_world.samples import Sample, assistant, dialogue_sample, user
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    SHAPES,
    Object,
    Scene,
    WideRandom,
    sample_kind,
    sample_object,
    sample_scene,
    split_of,
)

BACKGROUND_EDITS = {
    "day": ("make it day", "make it a sunny day", "change the background to day", "let it be day"),
    "night": ("make it night", "make it a dark night", "turn day into night", "let night fall"),
    "desert": ("set it in the desert", "move it to the desert", "put it on sand"),
    "snow": ("set it in the snow", "make it a winter day", "let it snow", "move it to the snow"),
    "fog": ("set it in the fog", "make it foggy", "change the background to fog", "let fog come"),
}
ANY_BACKGROUND_EDITS = ("change the background to {}", "make the background {}")
STEPS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
RECOLOR = ("make {} {}", "color {} {}", "paint {} {}", "turn {} {}", "change the color of {} to {}")
REPLACE = ("replace {} with {}", "turn {} into {}", "change {} into {}", "change {} to {}")
REMOVE = ("remove {}", "delete {}", "take {} away", "erase {}", "take away {}")
MOVE = ("move {} to {}", "put {} {}", "place {} {}")


@dataclass(frozen=True)
class Edit:
    """An instruction that leads from `source` to `target`.

    `where` are its words for a new place that only another object tells: "left of the star".
    `clauses` are cells that change with the words that say so, where others say something else,
    `sources` those that take something over from an object, with its name.
    """

    kind: str
    instruction: str
    source: Scene
    target: Scene
    where: str = ""
    clauses: Names = ()
    sources: Names = ()

    @property
    def names(self) -> Names:
        """The cell that `where` means, with these words, and the clauses."""
        taken = {thing.cell for thing in self.source.objects}
        new = [3 * o.row + o.col for o in self.target.objects if o.cell not in taken]
        return (*((cell, self.where) for cell in new if self.where), *self.clauses)


def change(scene: Scene, old: Object, new: Object) -> Scene:
    return scene.with_objects(tuple(new if o is old else o for o in scene.objects))


def span(text: str, *parts: str) -> str:
    """The stretch of the text that holds all these parts."""
    start = min(text.find(part) for part in parts)
    return text[start : max(text.find(part) + len(part) for part in parts)]


def clauses(text: str, *said: tuple[Object, str, str]) -> Names:
    """For objects, what they are called and what becomes of them: where the text says so."""
    if len({how for _, _, how in said}) < len(said):
        return ()  # one word for both would be found in the wrong place
    return tuple((3 * o.row + o.col, span(text, it, how)) for o, it, how in said)


def free_cells(scene: Scene) -> list[tuple[int, int]]:
    taken = {o.cell for o in scene.objects}
    return [(row, col) for row in range(3) for col in range(3) if (row, col) not in taken]


def recolor(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(colored(scene))
    color = rng.choice([c for c in COLORS if c != old.color])
    text = rng.choice(RECOLOR).format(reference(rng, scene, old), color)
    return Edit("recolor", text, scene, change(scene, old, replace(old, color=color)))


def replace_shape(rng: random.Random, scene: Scene) -> Edit:
    """Another shape at the same place; its colour stays unless a new one is said."""
    old = rng.choice(scene.objects)
    if isinstance(rng, WideRandom):
        return replace_kind(rng, scene, old)
    shape, color, words = rng.choice([s for s in SHAPES if s != old.shape]), old.color, ""
    if rng.random() < 0.3:
        color = rng.choice(tuple(COLORS))
        words = f"{color} "
    text = rng.choice(REPLACE).format(reference(rng, scene, old), with_article(words + shape))
    return Edit("replace", text, scene, change(scene, old, replace(old, shape=shape, color=color)))


def replace_kind(rng: random.Random, scene: Scene, old: Object) -> Edit:
    """A thing or a coloured shape in the place of another: "replace the cat with a dog"."""
    shape, color = sample_kind(rng)
    while shape == old.shape:
        shape, color = sample_kind(rng)
    words = with_article(spaced(color, noun(rng, shape)))
    text = rng.choice(REPLACE).format(reference(rng, scene, old), words)
    return Edit("replace", text, scene, change(scene, old, replace(old, shape=shape, color=color)))


def neighbor_words(rng: random.Random, scene: Scene, cell: tuple[int, int]) -> str | None:
    """ "left of the star", when the cell is directly beside a single nameable object."""
    for thing in rng.sample(scene.objects, len(scene.objects)):
        for relation, (down, right) in STEPS.items():
            if (thing.row + down, thing.col + right) == cell:
                return f"{RELATION_PHRASES[relation][0]} {reference(rng, scene, thing)}"
    return None


def add(rng: random.Random, scene: Scene) -> Edit:
    """A new object, its size and place always said: at a place, or directly beside another."""
    new = sample_object(rng, rng.choice(free_cells(scene)))
    beside = neighbor_words(rng, scene, new.cell)
    relative = beside is not None and rng.random() < 0.4
    where = beside if relative else any_place_phrase(rng, new.place)
    look = with_article(spaced(rng.choice(SIZE_WORDS[new.size]), new.color, noun(rng, new.shape)))
    text = f"{rng.choice(('add', 'put', 'also draw', 'place'))} {look} {where}"
    target = scene.with_objects((*scene.objects, new))
    return Edit("add", text, scene, target, where if relative else "")


def remove(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    text = rng.choice(REMOVE).format(reference(rng, scene, old))
    left = tuple(o for o in scene.objects if o is not old)
    return Edit("remove", text, scene, scene.with_objects(left))


def move(rng: random.Random, scene: Scene) -> Edit:
    """To a named place, or one step in a direction; the jitter stays."""
    old = rng.choice(scene.objects)
    name = reference(rng, scene, old)
    row, col = rng.choice(free_cells(scene))
    steps = {(old.row + down, old.col + right): r for r, (down, right) in STEPS.items()}
    step = ""
    if (row, col) in steps and rng.random() < 0.6:
        words = {"left of": "left", "right of": "right", "above": "up", "below": "down"}
        step = f"one step {words[steps[row, col]]}"
        text = f"move {name} {step}"
    else:
        form, place = rng.choice(MOVE), PLACES[row][col]
        where = f"the {place}" if " to " in form else any_place_phrase(rng, place)
        text = form.format(name, where)
    return Edit("move", text, scene, change(scene, old, replace(old, row=row, col=col)), step)


def change_background(rng: random.Random, scene: Scene) -> Edit:
    background = rng.choice([b for b in BACKGROUNDS if b != scene.background])
    texts = [
        t for t in BACKGROUND_EDITS[background] if scene.background == "day" or "day in" not in t
    ]
    texts += [form.format(background) for form in ANY_BACKGROUND_EDITS]
    return Edit("background", rng.choice(texts), scene, replace(scene, background=background))


def resize(rng: random.Random, scene: Scene) -> Edit:
    old = rng.choice(scene.objects)
    size = "big" if old.size == "small" else "small"
    words = ("bigger", "big", "larger") if size == "big" else ("smaller", "small", "tiny")
    name = reference(rng, scene, old)
    text = f"make {name} {rng.choice(words)}"
    return Edit("size", text, scene, change(scene, old, replace(old, size=size)))


EDITS: dict[str, Callable[[random.Random, Scene], Edit]] = {
    "recolor": recolor,
    "replace": replace_shape,
    "add": add,
    "remove": remove,
    "move": move,
    "background": change_background,
    "size": resize,
}
EDIT_WEIGHTS = (2, 2, 2, 1.5, 2, 1.5, 1)


def is_possible(kind: str, scene: Scene) -> bool:
    """One to three objects must remain, and only what has a colour gets another."""
    return not (
        (kind == "recolor" and not colored(scene))
        or (kind == "add" and len(scene.objects) == 3)
        or (kind == "remove" and len(scene.objects) == 1)
    )


def edit_scene(
    rng: random.Random, scene: Scene, split: str = "any", kind: str | None = None
) -> Edit | None:
    """An edit of the scene whose target lies in the split; None where none is found."""
    for _ in range(60):
        chosen = kind or rng.choices(tuple(EDITS), EDIT_WEIGHTS)[0]
        if not is_possible(chosen, scene):
            if kind:
                return None
            continue
        edit = EDITS[chosen](rng, scene)
        if split in ("any", split_of(edit.target)):
            return replace(edit, instruction=typed(rng, edit.instruction))
    return None


def sample_edit(rng: random.Random, split: str = "train", kind: str | None = None) -> Edit:
    """An edit between two scenes of the split."""
    while True:
        edit = edit_scene(rng, sample_scene(rng, split), split, kind)
        if edit is not None:
            return edit


# ---------------------------------------------------------------- samples


def edit_sample(rng: random.Random, split: str = "train") -> Sample:
    """Way a, in context: picture and instruction, then the edited picture."""
    edit = sample_edit(rng, split)
    request = user(INSTRUCTION_REQUEST, edit.instruction, edit.source)
    return dialogue_sample("edit", [request], edit.target, edit.names)


RECONSTRUCT = (
    "keep it as it is",
    "draw this picture again",
    "show the same picture",
    "change nothing",
    "reconstruct this picture",
)


def reconstruct_sample(rng: random.Random, split: str = "train") -> Sample:
    scene = sample_scene(rng, split)
    request = user(INSTRUCTION_REQUEST, typed(rng, rng.choice(RECONSTRUCT)), scene)
    return dialogue_sample("reconstruct", [request], scene)


def reworded(edit: Edit) -> str:
    """The description of the source, rewritten for the target."""
    return describe(edit.target, reworded_order(edit.source.objects, edit.target))


def edit_plan_sample(rng: random.Random, split: str = "train") -> Sample:
    return edit_plan_of(sample_edit(rng, split))


def edit_plan_of(edit: Edit) -> Sample:
    """Way b: the description of the source, then of the target."""
    turns = [
        user(DESCRIBE_REQUEST, "", edit.source),
        assistant(describe(edit.source)),
        user(REWRITE_REQUEST, edit.instruction),
        assistant(reworded(edit)),
    ]
    return dialogue_sample("edit_plan", turns)
