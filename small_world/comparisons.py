"""Questions that choose, compare and look at more than one object; and what was drawn.

For training alone; the benchmark's held-out questions do not sample from here.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from blip3u_core.language.prompt import QUESTION_REQUEST
from small_world.language import NUMBERS, describe, plural, with_article
from small_world.names import nameable, reference, without_color
from small_world.questions import (
    Question,
    cell_of,
    fitting,
    reply,
    yes_no,
    yes_no_of_cell,
)
from small_world.samples import Sample, dialogue_sample, user
from small_world.wordings import SCENE_WORDS, as_typed, color_word, size_word
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Object,
    Scene,
    sample_scene,
)

DRAWN = ("what did you draw?", "what have you drawn?", "what is it now?", "what is in it now?",
         "what is left?", "what is left in the picture?", "what is there now?",
         "tell me what you drew", "say what you drew", "what does it show?",
         "what can be seen?", "what is in there?", "what is on it?")  # fmt: skip
SETTINGS_ASKED = ("tell me the background please", "tell me the background", "name the background",
                  "say where it is", "which background is it?", "which background is that?",
                  "what is the weather like?", "what time or place is it?")  # fmt: skip


def either(rng: random.Random, right: str, wrong: str) -> str:
    return " or ".join(rng.sample((right, wrong), 2))


def choose(rng: random.Random, scene: Scene) -> Question | None:
    """ "is the cross red or blue?": one of the two words is right."""
    if not nameable(scene):
        return None
    thing = rng.choice(nameable(scene))
    kind = rng.choice(("color", "color", "shape", "size"))
    if kind == "color":
        other = rng.choice([color for color in COLORS if color != thing.color])
        it = rng.choice(without_color(scene, thing))
        if len(scene.objects) == 1 and rng.random() < 0.4:
            it = "it"
        form = rng.choice(("is {} {}?", "is {} {}?", "{}: {}?", "does {} look {}?"))
        return Question(form.format(it, either(rng, thing.color, other)), thing.color,
                        cell_of(thing))  # fmt: skip
    if kind == "shape":
        other = rng.choice([shape for shape in SHAPES if shape != thing.shape])
        same = [o for o in scene.objects if o.color == thing.color]
        it = "it" if len(scene.objects) == 1 else f"the {thing.color} one"
        if len(same) > 1:
            return None
        words = either(rng, with_article(thing.shape), with_article(other))
        return Question(f"is {it} {words}?", with_article(thing.shape), cell_of(thing))
    other = next(size for size in SIZES if size != thing.size)
    it = reference(rng, scene, thing)
    if thing.size in it or other in it:
        return None
    return Question(f"is {it} {either(rng, thing.size, other)}?", thing.size, cell_of(thing))


def choose_setting(rng: random.Random, scene: Scene) -> Question:
    other = rng.choice([name for name in BACKGROUNDS if name != scene.background])
    form = rng.choice(("is it {}?", "is this {}?", "is the background {}?", "{}?"))
    return Question(form.format(either(rng, scene.background, other)), scene.background)


def choose_count(rng: random.Random, scene: Scene) -> Question | None:
    """ "how many squares are there, two or three?"."""
    shape = rng.choice(scene.objects).shape
    found = fitting(scene, shape=shape)
    what = plural(shape)
    if rng.random() < 0.4:
        found, what = fitting(scene), rng.choice(("objects", "things", "shapes"))
    right = NUMBERS[len(found)]
    wrong = rng.choice([number for number in NUMBERS[1:4] if number != right])
    form = rng.choice(("how many {} are there, {}?", "how many {}: {}?", "are there {1} {0}?"))
    return Question(form.format(what, either(rng, right, wrong)), right, counted=found)


def count_of_size(rng: random.Random, scene: Scene) -> Question:
    size = rng.choice(tuple(SIZES))
    found = tuple(cell_of(o) for o in scene.objects if o.size == size)
    noun = rng.choice(("objects", "things", "shapes"))
    if rng.random() < 0.3:
        shape = rng.choice(scene.objects).shape
        noun = plural(shape)
        found = tuple(cell_of(o) for o in scene.objects if (o.size, o.shape) == (size, shape))
    form = rng.choice(("how many {} {} are there?", "count the {} {}", "how many {} {}",
                       "how many {} {} do you see?"))  # fmt: skip
    return Question(form.format(size_word(rng, size), noun), NUMBERS[len(found)], counted=found)


def count_freely(rng: random.Random, scene: Scene) -> Question:
    """Counts as they are typed in talk: of what is there now, of what is left."""
    thing = rng.choice(scene.objects)
    color = rng.choice((thing.color, rng.choice(tuple(COLORS)), None))
    shape = thing.shape if color is None or rng.random() < 0.6 else None
    what = plural(shape) if shape else rng.choice(("objects", "things"))
    what = f"{color_word(rng, color)} {what}" if color else what
    found = fitting(scene, color, shape)
    form = rng.choice(("how many {} are there now?", "how many {} are left?", "how many {}",
                       "and how many {}?", "how many {} does it have?", "how many {} now?",
                       "how many of them are {}?" if color and not shape else "number of {}",
                       "how many {} can you see?"))  # fmt: skip
    noun = color if form.endswith("are {}?") and color else what
    return Question(form.format(noun), NUMBERS[len(found)], counted=found)


def alike(a: Object, b: Object, truth: bool) -> tuple[int, ...]:
    """The cells that make it a yes, for the head that is taught to find it."""
    return (cell_of(a), cell_of(b)) if truth else ()


def same(rng: random.Random, scene: Scene) -> Question | None:
    """ "are both stars the same size?", "do the two objects have the same color?"."""
    if len(scene.objects) != 2:
        return None
    a, b = scene.objects
    trait = rng.choice(("color", "size", "shape"))
    truth = getattr(a, trait) == getattr(b, trait)
    them = plural(a.shape) if a.shape == b.shape and trait != "shape" else "objects"
    form = rng.choice(("are both {0} the same {1}?", "do the {0} have the same {1}?",
                       "are the {0} of the same {1}?", "do both {0} have the same {1}?",
                       "have the two {0} the same {1}?"))  # fmt: skip
    if rng.random() < 0.2:
        them = f"{a.shape} and the {b.shape}" if a.shape != b.shape else them
    return yes_no(form.format(them, trait), truth, counted=alike(a, b, truth))


def more(rng: random.Random, scene: Scene) -> Question | None:
    """ "are there more triangles than circles?"."""
    a = rng.choice(scene.objects).shape
    b = rng.choice([shape for shape in SHAPES if shape != a])
    if rng.random() < 0.5:
        b = rng.choice(scene.objects).shape
    if a == b:
        return None
    first, second = rng.sample((a, b), 2)
    counts = [len(fitting(scene, shape=shape)) for shape in (first, second)]
    word = rng.choice(("more", "more", "fewer"))
    truth = counts[0] > counts[1] if word == "more" else counts[0] < counts[1]
    counted = fitting(scene, shape=first if word == "more" else second) if truth else ()
    return yes_no(f"are there {word} {plural(first)} than {plural(second)}?", truth, None, counted)


def corner(rng: random.Random, scene: Scene) -> Question | None:
    found = [o for o in nameable(scene) if 1 not in o.cell]
    if not found:
        return None
    thing = rng.choice(found)
    form = rng.choice(("which corner is {} in?", "in which corner is {}?",
                       "what corner is {} in?"))  # fmt: skip
    return Question(form.format(reference(rng, scene, thing)), thing.place, cell_of(thing))


def place_empty(rng: random.Random, scene: Scene) -> Question:
    row, col = rng.randrange(3), rng.randrange(3)
    if rng.random() < 0.5:
        row, col = rng.choice(scene.objects).cell
    place = PLACES[row][col]
    where = f"{place} corner" if 1 not in (row, col) and rng.random() < 0.5 else place
    taken = tuple(cell_of(o) for o in scene.objects if o.cell == (row, col))
    if rng.random() < 0.5:
        form = rng.choice(("is the {} empty?", "is the {} free?", "is there nothing in the {}?"))
        return yes_no(form.format(where), not taken, counted=taken)
    form = rng.choice(("is there anything in the {}?", "is there something in the {}?",
                       "is anything in the {}?"))  # fmt: skip
    return yes_no(form.format(where), bool(taken), counted=taken)


def just_so_many(rng: random.Random, scene: Scene) -> Question:
    number = rng.choice((len(scene.objects), rng.randint(1, 3)))
    thing = "thing" if number == 1 else "things"
    are = "is" if number == 1 else "are"
    only = rng.choice(("just", "only", "exactly"))
    form = rng.choice(("there {are} {only} {n} {thing} in it, right?",
                       "{are} there {only} {n} {thing}?",
                       "do you see {only} {n} {thing}?"))  # fmt: skip
    text = form.format(are=are, only=only, n=NUMBERS[number], thing=thing)
    return yes_no(text, number == len(scene.objects), counted=fitting(scene))


def still_there(rng: random.Random, scene: Scene) -> Question:
    """After a change: "is there still a star?", "is the circle green now?"."""
    thing = rng.choice(scene.objects)
    if rng.random() < 0.5 and nameable(scene):
        thing = rng.choice(nameable(scene))
        names = [n for n in without_color(scene, thing) if thing.shape in n]
        if names:
            color = rng.choice((thing.color, rng.choice(tuple(COLORS))))
            text = f"is {rng.choice(names)} {color_word(rng, color)} now?"
            return yes_no(text, color == thing.color, thing)
    shape = rng.choice((thing.shape, rng.choice(SHAPES)))
    found = fitting(scene, shape=shape)
    form = rng.choice(("is there still {}?", "do you still see {}?", "is {} still there?",
                       "is there {} now?", "is there {} left?"))  # fmt: skip
    return yes_no(form.format(with_article(shape)), bool(found), counted=found)


def drawn(rng: random.Random, scene: Scene) -> Question:
    return Question(rng.choice(DRAWN), describe(scene))


def setting(rng: random.Random, scene: Scene) -> Question:
    if rng.random() < 0.5:
        return Question(rng.choice(SETTINGS_ASKED), scene.background)
    background = rng.choice((scene.background, rng.choice(tuple(BACKGROUNDS))))
    words = rng.choice(SCENE_WORDS[background])
    text = rng.choice(("is the background {}?", "does it show {}?", "is that {}?")).format(words)
    return yes_no_of_cell(text, background == scene.background)


COMPARED: tuple[Callable[[random.Random, Scene], Question | None], ...] = (
    choose, choose, choose_setting, choose_count, count_of_size, count_freely,
    count_freely, same, same, same, same, more, more, more, corner, place_empty, place_empty,
    just_so_many, still_there, still_there, drawn, setting,
)  # fmt: skip


def compared(rng: random.Random, scene: Scene) -> Question:
    """One of these questions as it is typed; of an empty scene what was drawn."""
    question = None if scene.objects else drawn(rng, scene)
    while question is None:
        question = rng.choice(COMPARED)(rng, scene)
    return replace(question, text=as_typed(rng, question.text))


def compared_sample(rng: random.Random, split: str = "train") -> Sample:
    """One to three of them about a picture; the later ones bring none."""
    scene, turns = sample_scene(rng, split), []
    for number in range(rng.choice((1, 2, 3))):
        question = compared(rng, scene)
        shown = () if number else (scene,)
        turns += [user(QUESTION_REQUEST, question.text, *shown), reply(question)]
    return dialogue_sample("question", turns)
