"""Questions as people ask them, also about scenes without any object and things of other worlds."""

import random
from collections.abc import Callable
from dataclasses import replace

from small_world.free_captions import unknown_thing
from small_world.language import NUMBERS, OPPOSITE, look_words, plural, with_article
from small_world.names import reference, references
from small_world.questions import (
    Question,
    ask,
    cell_of,
    fitting,
    yes_no,
    yes_no_of_cell,
)
from small_world.wordings import RELATIONS_SAID, SCENE_WORDS, STATE_WORDS, as_typed, place_words
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, relations

SEEN = ("is there {}?", "do you see {}?", "can you see {}?", "is there {} in the picture?",
        "is {} in the picture?",
        "there is {}, isn't there?", "does it show {}?", "can i see {} here?",
        "is it {}?")  # fmt: skip
ANYTHING = ("is there anything in the picture?", "is anything there?", "do you see anything?",
            "is there something?",
            "can you see anything at all?", "are there any objects?",
            "is there anything now?")  # fmt: skip
EMPTY = ("is the picture empty?", "is it empty?", "is nothing there?", "is there nothing?")
WHAT = (
    "what do you see?",
    "what is in the picture?",
    "what is there?",
    "what can you see?",
    "what's in it?",
    "what is it?",
)


def referred(rng: random.Random, scene: Scene, thing: Object, hidden: str = "") -> str | None:
    """A name of the object that does not hold `hidden`; "it" where it is alone."""
    if len(scene.objects) == 1 and rng.random() < 0.4:
        return "it"
    names = [name for name in references(scene, thing) if not hidden or hidden not in name]
    return f"the {rng.choice(names)}" if names else None


def ask_color(rng: random.Random, scene: Scene) -> Question | None:
    thing = rng.choice(scene.objects)
    it = referred(rng, scene, thing, thing.color)
    if it is None:
        return None
    form = rng.choice(
        ("what's the color of {}?", "tell me the color of {}", "which color is {}?",
         "what color does {} have?",
         "what color has {}?", "what color is {} now?", "please tell me what color {} is",
         "{}: what color?",
         "do you know the color of {}?", "which color has {}?")
    )  # fmt: skip
    return Question(form.format(it), thing.color, cell_of(thing))


def ask_shape(rng: random.Random, scene: Scene) -> Question | None:
    thing = rng.choice(scene.objects)
    if len(scene.objects) == 1 and rng.random() < 0.6:
        form = rng.choice(("which shape is it?", "what shape is it?", "what is it?",
                           "what kind of shape do you see?",
                           "what is the shape?", "tell me the shape"))  # fmt: skip
        return Question(form, thing.shape, cell_of(thing))
    if [o.color for o in scene.objects].count(thing.color) > 1:
        return None
    form = rng.choice(("which shape is {}?", "what is {}?", "what's the {} thing?",
                       "what is the {} one?",
                       "which object is {}?", "what shape is the {} thing?"))  # fmt: skip
    return Question(form.format(thing.color), thing.shape, cell_of(thing))


def ask_size(rng: random.Random, scene: Scene) -> Question | None:
    sizes = {o.size for o in scene.objects}
    if len(scene.objects) == 2 and len(sizes) == 2 and rng.random() < 0.5:
        size = rng.choice(("big", "small"))
        thing = next(o for o in scene.objects if o.size == size)
        more = {"big": ("bigger", "larger"), "small": ("smaller",)}[size]
        form = rng.choice(
            ("which one is {}?", "which is {}?", "which of them is {}?", "what is {}?")
        )
        return Question(form.format(rng.choice(more)), look_words(thing), cell_of(thing))
    thing = rng.choice(scene.objects)
    it = referred(rng, scene, thing, thing.size)
    if it is None:
        return None
    form = rng.choice(("how big is {}?", "how large is {}?", "what's the size of {}?",
                       "tell me the size of {}",
                       "is {} big or small?", "what size has {}?",
                       "is {} large or little?"))  # fmt: skip
    return Question(form.format(it), thing.size, cell_of(thing))


def ask_count(rng: random.Random, scene: Scene) -> Question:
    color = shape = None
    kind = rng.random()
    if kind > 0.35:
        shape = rng.choice([o.shape for o in scene.objects] * 2 + [rng.choice(SHAPES)])
    if kind > 0.75 or 0.35 > kind > 0.22:
        color = rng.choice([o.color for o in scene.objects] * 2 + [rng.choice(tuple(COLORS))])
    noun = plural(shape) if shape else rng.choice(("objects", "things", "shapes"))
    what = f"{color} {noun}" if color else noun
    found = fitting(scene, color, shape)
    form = rng.choice(
        ("count the {}", "how many {} can you see?", "number of {}?", "how many {}?",
         "how many {} are in it?",
         "please count the {}", "tell me how many {} there are", "how many {} are there now?",
         "how many {} has the picture?")
    )  # fmt: skip
    return Question(form.format(what), NUMBERS[len(found)], counted=found)


def ask_place(rng: random.Random, scene: Scene) -> Question | None:
    thing = rng.choice(scene.objects)
    it = referred(rng, scene, thing)
    if it is None:
        return None
    form = rng.choice(
        ("where's {}?", "where is {}?", "please tell me where {} is", "where do you see {}?",
         "where is {} now?",
         "tell me where {} is", "in which corner is {}?", "where can i find {}?",
         "do you know where {} is?")
    )  # fmt: skip
    return Question(form.format(it), thing.place, cell_of(thing))


def ask_at(rng: random.Random, scene: Scene) -> Question | None:
    """A cell, or a side where only one object is."""
    thing = rng.choice(scene.objects)
    row, col = thing.cell
    sides = [(thing.row, None)] * (
        thing.row != 1 and [o.row for o in scene.objects].count(thing.row) == 1
    )
    sides += [(None, thing.col)] * (
        thing.col != 1 and [o.col for o in scene.objects].count(thing.col) == 1
    )
    if sides and rng.random() < 0.6:
        row, col = rng.choice(sides)
    form = rng.choice(("what's {}?", "what is {}?", "what do you see {}?", "and what is {}?",
                       "which object is {}?",
                       "what can you see {}?", "what stands {}?"))  # fmt: skip
    return Question(form.format(place_words(rng, row, col)), look_words(thing), cell_of(thing))


def is_related(rng: random.Random, scene: Scene) -> Question | None:
    if len(scene.objects) < 2:
        return None
    a, b = rng.sample(scene.objects, 2)
    relation, truth = rng.choice(relations(a, b)), rng.random() < 0.5
    of = rng.choice(RELATIONS_SAID[relation if truth else OPPOSITE[relation]])
    form = rng.choice(
        ("is {} {of} {}?", "is {} {of} {}?", "{} is {of} {}, right?", "does {} stand {of} {}?")
    )
    return yes_no(form.format(reference(rng, scene, a), reference(rng, scene, b), of=of), truth, a)


def is_there(rng: random.Random, scene: Scene) -> Question:
    if rng.random() < 0.12:
        return yes_no(rng.choice(SEEN[:6]).format(unknown_thing(rng)), False, counted=())
    thing = rng.choice(scene.objects) if scene.objects else None
    color, shape = rng.choice(tuple(COLORS)), rng.choice(SHAPES)
    if thing and rng.random() < 0.75:
        color, shape = (thing.color, thing.shape) if rng.random() < 0.6 else (thing.color, shape)
    kind = rng.random()
    if kind < 0.3:
        text, color = with_article(shape), None
    elif kind < 0.45:
        text, shape = f"{rng.choice(('something', 'anything'))} {color}", None
    else:
        text = with_article(f"{color} {shape}")
    found = fitting(scene, color, shape)
    if shape and rng.random() < 0.3:
        words = f"{color} {plural(shape)}" if color else plural(shape)
        text = rng.choice(
            ("any {}?", "are there any {}?", "do you see any {}?", "are there {}?")
        ).format(words)
        return yes_no(text, bool(found), counted=found)
    forms = SEEN if len(scene.objects) == 1 and shape else SEEN[:8]
    return yes_no(rng.choice(forms).format(text), bool(found), counted=found)


def is_so(rng: random.Random, scene: Scene) -> Question | None:
    """Colour, size or place of one object."""
    thing = rng.choice(scene.objects)
    it = referred(rng, scene, thing, thing.color)
    if it is None:
        return None
    color = thing.color if rng.random() < 0.5 else rng.choice(tuple(COLORS))
    form = rng.choice(
        (
            "is {} {}?",
            "is {} {} now?",
            "{} is {}, right?",
            "is the color of {} {}?",
            "{} is {}, isn't it?",
        )
    )
    return yes_no(form.format(it, color), color == thing.color, thing)


def are_all(rng: random.Random, scene: Scene) -> Question | None:
    if len(scene.objects) < 2:
        return None
    color = rng.choice(scene.objects).color
    them = "both" if len(scene.objects) == 2 else "all"
    form = rng.choice(("are {} of them {}?", "are they {} {}?", "are {} objects {}?"))
    others = tuple(cell_of(o) for o in scene.objects if o.color != color)
    return yes_no(form.format(them, color), not others, counted=others)


def ask_setting(rng: random.Random, scene: Scene) -> Question:
    if rng.random() < 0.4:
        form = rng.choice(("where is this?", "what's the background?",
                           "what kind of weather is it?", "what is the scene?",
                           "where are we?", "what background is it?", "how is the weather?",
                           "what's behind it?"))  # fmt: skip
        return Question(form, scene.background)
    background = scene.background if rng.random() < 0.5 else rng.choice(tuple(BACKGROUNDS))
    words = rng.choice((rng.choice(STATE_WORDS[background]), rng.choice(SCENE_WORDS[background])))
    form = rng.choice(("is it {}?", "is it {} now?", "is this {}?", "is it {} in the picture?"))
    return yes_no_of_cell(form.format(words), background == scene.background)


def ask_lists(rng: random.Random, scene: Scene) -> Question:
    """All colours or shapes, in reading order."""
    colors = list(dict.fromkeys(o.color for o in scene.objects))
    shapes = list(dict.fromkeys(o.shape for o in scene.objects))
    name, values = rng.choice((("color", colors), ("shape", shapes)))
    form = rng.choice(
        (
            "which {}s do you see?",
            "what {}s are there?",
            "which {}s are in the picture?",
            "name the {}s",
        )
    )
    return Question(form.format(name), " and ".join(values) or "none")


def ask_anything(rng: random.Random, scene: Scene) -> Question:
    cells = tuple(cell_of(o) for o in scene.objects)
    if rng.random() < 0.6:
        return yes_no(rng.choice(ANYTHING), bool(cells), counted=cells)
    return yes_no(rng.choice(EMPTY), not cells, counted=cells)


def ask_of_nothing(rng: random.Random, scene: Scene) -> Question:
    form = rng.random()
    if form < 0.3:
        return Question(rng.choice(WHAT), "nothing")
    if form < 0.5:
        noun = rng.choice([plural(shape) for shape in SHAPES] + ["objects", "things", "shapes"] * 2)
        return Question(
            rng.choice(("how many {} are there?", "count the {}", "how many {}?")).format(noun),
            "zero",
            counted=(),
        )
    if form < 0.65:
        name = with_article(rng.choice(SHAPES))[2:].strip()
        return Question(
            rng.choice(("where is the {}?", "what color is the {}?")).format(name),
            f"there is no {name}",
        )
    if form < 0.8:
        row, col = rng.randrange(3), rng.randrange(3)
        return Question(f"what is {place_words(rng, row, col)}?", "nothing", 3 * row + col)
    return rng.choice((is_there, ask_anything, ask_setting))(rng, scene)


FREE_QUESTIONS: tuple[Callable[[random.Random, Scene], Question | None], ...] = (
    ask_color, ask_color, ask_shape, ask_shape, ask_size, ask_count, ask_count, ask_place,
    ask_place, ask_at, ask_at,
    is_related, is_related, is_there, is_there, is_so, is_so, are_all, ask_setting, ask_setting,
    ask_lists, ask_anything,
)  # fmt: skip


def free_question(rng: random.Random, scene: Scene) -> Question:
    """A question in any wording; one in five as the world's own grammar asks."""
    question = None
    while question is None:
        if not scene.objects:
            question = ask_of_nothing(rng, scene)
        elif rng.random() < 0.2:
            question = ask(rng, scene)
        else:
            question = rng.choice(FREE_QUESTIONS)(rng, scene)
    return replace(question, text=as_typed(rng, question.text))
