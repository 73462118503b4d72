"""Questions about a picture with their short answers, half of the yes/no ones to be answered no."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from blip3u_core.language.prompt import QUESTION_REQUEST
from small_world.kinds import colored, random_look, random_shape
from small_world.language import (
    BACKGROUND_PHRASES,
    NUMBERS,
    OPPOSITE,
    RELATION_PHRASES,
    SIZE_WORDS,
    any_place_phrase,
    look_words,
    noun,
    place_phrase,
    plural,
    spaced,
    with_article,
)
from small_world.names import nameable, reference, references, without_color
from small_world.samples import Sample, Turn, assistant, dialogue_sample, user
from small_world.things import THINGS
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    RELATIONS,
    SIZES,
    Object,
    Scene,
    WideRandom,
    relations,
    sample_scene,
)

SETTING_CELL = 8  # every cell shows the background; the last of them has seen the whole picture


@dataclass(frozen=True)
class Question:
    """`about` is the cell that must be looked at, where it is a single one.

    `counted` are the cells of all objects that are asked for, where their number is the answer, or
    whether there are any: of those that make it a yes, but for "nothing" those that deny.
    """

    text: str
    answer: str
    about: int | None = None
    counted: tuple[int, ...] | None = None


def reply(question: Question) -> Turn:
    """The assistant's turn that answers."""
    return assistant(question.answer, about=question.about, counted=question.counted)


def cell_of(thing: Object) -> int:
    return 3 * thing.row + thing.col


def ask_color(rng: random.Random, scene: Scene) -> Question:
    if not colored(scene):
        return ask_thing(rng, scene)
    thing = rng.choice(colored(scene))
    name = rng.choice(without_color(scene, thing))
    form = rng.choice(
        ("what color is {}?", "which color does {} have?", "what is the color of {}?")
    )
    return Question(form.format(name), thing.color, cell_of(thing))


def ask_thing(rng: random.Random, scene: Scene) -> Question:
    """ "what is this?" of a lone thing, "what is the thing on the left?" of one of several."""
    thing = rng.choice(scene.objects)
    texts = [f"what is the {what} {place_phrase(thing.place)}?" for what in ("object", "thing")]
    if len(scene.objects) == 1:
        texts += ["what is this?", "what is this?", "what is it?", "what is that?"]
    elif [o.col for o in scene.objects].count(thing.col) == 1 and thing.col != 1:
        texts += [f"what is on the {'left' if thing.col == 0 else 'right'}?"] * 2
    return Question(rng.choice(texts), with_article(thing.shape), cell_of(thing))


def ask_shape(rng: random.Random, scene: Scene) -> Question:
    if not colored(scene) or (isinstance(rng, WideRandom) and rng.random() < 0.5):
        return ask_thing(rng, scene)
    thing = rng.choice(colored(scene))
    names = [f"the object {place_phrase(thing.place)}"]
    if [o.color for o in scene.objects].count(thing.color) == 1:
        names += [f"the {thing.color} object"] * 2
    if [o.size for o in scene.objects].count(thing.size) == 1:
        names.append(f"the {thing.size} object")
    form = rng.choice(
        ("what shape is {}?", "which shape does {} have?", "what is the shape of {}?")
    )
    return Question(form.format(rng.choice(names)), thing.shape, cell_of(thing))


def ask_size(rng: random.Random, scene: Scene) -> Question:
    thing = rng.choice(scene.objects)
    names = [name for name in references(scene, thing) if thing.size not in name]
    name = f"the {rng.choice(names)}" if names else f"the object {place_phrase(thing.place)}"
    form = rng.choice(("is {} big or small?", "what size is {}?"))
    return Question(form.format(name), thing.size, cell_of(thing))


def fitting(scene: Scene, color: str | None = None, shape: str | None = None) -> tuple[int, ...]:
    """Cells of all objects of that colour and that shape; None is any."""
    return tuple(
        cell_of(o) for o in scene.objects if color in (None, o.color) and shape in (None, o.shape)
    )


def ask_count(rng: random.Random, scene: Scene) -> Question:
    kind = rng.random()
    thing = rng.choice(scene.objects)
    color, shape = thing.color, thing.shape
    if rng.random() < 0.3:
        color, shape = random_look(rng)
    if kind < 0.4:
        what, found = rng.choice(("objects", "shapes", "things")), fitting(scene)
    elif kind < 0.6 or not color:
        what, found = plural(noun(rng, shape)), fitting(scene, shape=shape)
    elif kind < 0.8:
        what, found = f"{color} objects", fitting(scene, color=color)
    else:
        what, found = f"{color} {plural(shape)}", fitting(scene, color, shape)
    form = rng.choice(
        ("how many {} are there?", "how many {} do you see?", "how many {} are in the picture?")
    )
    return Question(form.format(what), NUMBERS[len(found)], counted=found)


def ask_place(rng: random.Random, scene: Scene) -> Question:
    things = nameable(scene)
    if not things:
        return ask_at_place(rng, scene)
    thing = rng.choice(things)
    form = rng.choice(("where is {}?", "in which place is {}?", "what is the position of {}?"))
    return Question(form.format(reference(rng, scene, thing)), thing.place, cell_of(thing))


def ask_at_place(rng: random.Random, scene: Scene) -> Question:
    """ "what is at the top left?", also where nothing is."""
    places = {thing.place: look_words(thing) for thing in scene.objects}
    row, col = rng.choice(scene.objects).cell
    if rng.random() < 0.2:
        row, col = rng.randrange(3), rng.randrange(3)
    place = PLACES[row][col]
    form = rng.choice(("what is {}?", "what do you see {}?"))
    text = form.format(any_place_phrase(rng, place))
    return Question(text, places.get(place, "nothing"), 3 * row + col)


def ask_relation(rng: random.Random, scene: Scene) -> Question:
    """ "what is left of the star?" where that is one object; else another question of place."""
    pairs = []
    for a in scene.objects:
        for relation in RELATIONS:
            found = [o for o in scene.objects if relation in relations(o, a)]
            if len(found) == 1:
                pairs.append((a, relation, found[0]))
    if not pairs:
        return ask_at_place(rng, scene)
    a, relation, found = rng.choice(pairs)
    text = f"what is {rng.choice(RELATION_PHRASES[relation])} {reference(rng, scene, a)}?"
    return Question(text, look_words(found), cell_of(found))


def ask_background(rng: random.Random, scene: Scene) -> Question:
    if scene.background in ("day", "night") and rng.random() < 0.3:
        return Question("is it day or night?", scene.background)
    texts = (
        "what is the background?",
        "what is in the background?",
        "where does it take place?",
        "what is the setting?",
    )
    return Question(rng.choice(texts), scene.background)


def yes_no(
    text: str,
    truth: bool,
    thing: Object | None = None,
    counted: tuple[int, ...] | None = None,
) -> Question:
    """With `thing` it is that object alone that is so or is not; "no" counts nothing then."""
    if thing is None:
        return Question(text, "yes" if truth else "no", None, counted)
    return yes_no_of_cell(text, truth, cell_of(thing))


def yes_no_of_cell(text: str, truth: bool, cell: int = SETTING_CELL) -> Question:
    return Question(text, "yes" if truth else "no", cell, (cell,) if truth else ())


def is_there(rng: random.Random, scene: Scene) -> Question:
    thing = rng.choice(scene.objects)
    color, shape = thing.color, thing.shape
    if rng.random() < 0.55:  # a lure: a word is wrong, or they belong to different objects
        color = rng.choice([o.color for o in scene.objects] + [rng.choice(tuple(COLORS))])
        shape = rng.choice([o.shape for o in scene.objects] + [random_shape(rng)] * 2)
    if shape in THINGS:
        color = ""
    elif not color:
        color = rng.choice(tuple(COLORS))
    kind = rng.random()
    form = rng.choice(("is there {}?", "do you see {}?", "does the picture show {}?"))
    if kind < 0.3:
        found, name = fitting(scene, shape=shape), with_article(noun(rng, shape))
    else:
        found, name = fitting(scene, color, shape), with_article(spaced(color, shape))
    return yes_no(form.format(name), bool(found), counted=found)


def is_color(rng: random.Random, scene: Scene) -> Question:
    if not colored(scene):
        return is_at(rng, scene)
    thing = rng.choice(colored(scene))
    color = thing.color if rng.random() < 0.45 else rng.choice(tuple(COLORS))
    name = rng.choice(without_color(scene, thing))
    return yes_no(f"is {name} {color}?", color == thing.color, thing)


def is_related(rng: random.Random, scene: Scene) -> Question:
    if len(scene.objects) < 2:
        return is_color(rng, scene)
    a, b = rng.sample(scene.objects, 2)
    relation = rng.choice(relations(a, b))
    truth = rng.random() < 0.5
    phrase = rng.choice(RELATION_PHRASES[relation if truth else OPPOSITE[relation]])
    return yes_no(f"is {reference(rng, scene, a)} {phrase} {reference(rng, scene, b)}?", truth, a)


def is_at(rng: random.Random, scene: Scene) -> Question:
    things = nameable(scene)
    if not things:
        return is_background(rng, scene)
    thing = rng.choice(things)
    place = thing.place if rng.random() < 0.5 else rng.choice(rng.choice(PLACES))
    text = f"is {reference(rng, scene, thing)} {any_place_phrase(rng, place)}?"
    return yes_no(text, place == thing.place, thing)


def is_size(rng: random.Random, scene: Scene) -> Question:
    thing = rng.choice(scene.objects)
    names = [name for name in references(scene, thing) if thing.size not in name]
    name = f"the {rng.choice(names)}" if names else f"the object {place_phrase(thing.place)}"
    size = rng.choice(tuple(SIZES))
    return yes_no(f"is {name} {rng.choice(SIZE_WORDS[size])}?", size == thing.size, thing)


def is_background(rng: random.Random, scene: Scene) -> Question:
    background = scene.background if rng.random() < 0.5 else rng.choice(tuple(BACKGROUNDS))
    phrase = rng.choice(BACKGROUND_PHRASES[background])
    return yes_no_of_cell(f"is this {phrase}?", background == scene.background)


def are_there(rng: random.Random, scene: Scene) -> Question:
    count = rng.choice((len(scene.objects), rng.randint(1, 3)))
    what = "object" if count == 1 else "objects"
    verb = "is" if count == 1 else "are"
    truth, found = count == len(scene.objects), fitting(scene)
    return yes_no(f"{verb} there {NUMBERS[count]} {what} in the picture?", truth, counted=found)


YES_NO = (is_there, is_there, is_color, is_related, is_at, is_size, is_background, are_there)


def ask_yes_no(rng: random.Random, scene: Scene) -> Question:
    """Any of the yes/no questions; a coin decides which answer it shall have."""
    wanted = rng.choice(("yes", "no"))
    while True:
        question = rng.choice(YES_NO)(rng, scene)
        if question.answer == wanted:
            return question


QUESTIONS: dict[str, Callable[[random.Random, Scene], Question]] = {
    "color": ask_color,
    "shape": ask_shape,
    "size": ask_size,
    "count": ask_count,
    "position": ask_place,
    "at_place": ask_at_place,
    "relation": ask_relation,
    "background": ask_background,
    "yes_no": ask_yes_no,
}
QUESTION_WEIGHTS = (2, 2, 1, 3, 2, 1.5, 1, 1, 5)


def ask(rng: random.Random, scene: Scene, kind: str | None = None) -> Question:
    """A question of the kind, or of any kind."""
    kind = kind or rng.choices(tuple(QUESTIONS), QUESTION_WEIGHTS)[0]
    return QUESTIONS[kind](rng, scene)


def ask_closely(rng: random.Random, scene: Scene) -> Question:
    """What is learned last: relations and settings that are not so, more than one of a kind."""
    form = rng.choice((is_related, is_related, is_background, is_at, ask_count))
    wanted = rng.choice((("yes", "two"), ("no", "two")))
    for _ in range(20):
        question = form(rng, scene)
        if question.answer in wanted:
            break
    return question


def question_sample(rng: random.Random, split: str = "train") -> Sample:
    """A picture, and one to three questions in the same chat: the later ones bring no picture."""
    scene = sample_scene(rng, split)
    questions = [
        ask_closely(rng, scene) if rng.random() < 0.45 else ask(rng, scene)
        for _ in range(rng.choice((1, 1, 2, 3)))
    ]
    first, *others = questions
    turns = [user(QUESTION_REQUEST, first.text, scene), reply(first)]
    for question in others:
        turns += [user(QUESTION_REQUEST, question.text), reply(question)]
    return dialogue_sample("question", turns)
