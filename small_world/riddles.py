"""Riddles that need knowledge and a step of thought before they can be drawn.

"a shape with three sides in the color of grass" -> "a shape with three sides is a triangle. grass
is green." and then the caption. One in sixteen pairs of clues is kept back from training.
"""

import random
from dataclasses import dataclass, replace

from blip3u_core.language.prompt import CAPTION_MARK, QUESTION_REQUEST, REASON_REQUEST
from small_world.language import (
    BACKGROUND_PHRASES,
    NUMBERS,
    OPENINGS,
    RELATION_PHRASES,
    Names,
    ObjectWish,
    Wish,
    keeps_back,
    place_phrase,
    plural,
    random_relation,
    sample_caption,
    settle,
    typed,
    with_article,
)
from small_world.samples import Sample, assistant, dialogue_sample, user
from small_world.world import Object, Scene, relations, sample_scene, split_of

SHAPE_CLUES = {
    "circle": ("the shape of a wheel", "a shape without corners", "the shape of a full moon"),
    "square": ("a shape with four equal sides", "the shape of a chessboard", "the shape of a dice"),
    "triangle": (
        "a shape with three sides",
        "the shape of a slice of pizza",
        "a shape like a tent",
    ),
    "star": ("a shape with five points", "what twinkles in the sky", "the top of a christmas tree"),
    "cross": ("the shape of a plus sign", "the sign of a hospital", "two bars that meet"),
    "ring": ("the shape of a donut", "what a bride wears on her finger", "a shape with a hole"),
}
COLOR_CLUES = {
    "red": ("blood", "a ripe tomato", "a fire truck"),
    "green": ("grass", "a frog", "a cucumber"),
    "blue": ("the sea", "a blueberry", "a whale"),
    "yellow": ("a lemon", "a banana", "a canary"),
    "orange": ("a carrot", "a pumpkin", "a tangerine"),
    "purple": ("a plum", "lavender", "an eggplant"),
    "pink": ("a flamingo", "a pig", "bubble gum"),
    "brown": ("chocolate", "coffee", "a bear"),
}
BACKGROUND_CLUES = {
    "day": ("when roosters crow", "when the sun is high"),
    "night": ("when owls are awake", "when the moon shines"),
    "desert": ("where camels walk", "where a cactus grows"),
    "snow": ("where penguins live", "where a snowman stands"),
    "fog": ("where nobody can see far", "inside a cloud"),
}
COUNT_CLUES = {
    2: (("a bicycle", "wheels"), ("a person", "eyes"), ("a bird", "wings")),
    3: (
        ("a tricycle", "wheels"),
        ("a traffic light", "lamps"),
        ("a clover", "leaves"),
    ),
}
PLACE_CLUES = {
    (0, 1): "where a clock shows twelve",
    (1, 2): "where a clock shows three",
    (2, 1): "where a clock shows six",
    (1, 0): "where a clock shows nine",
    (1, 1): "where the hands of a clock meet",
}


@dataclass(frozen=True)
class Riddle:
    """What is asked, the thoughts and the caption that solve it, and the scene of the caption."""

    text: str
    reasoning: str
    caption: str
    wish: Wish
    scene: Scene
    names: Names

    @property
    def answer(self) -> str:
        """The whole text of the assistant."""
        return f"{self.reasoning}\n{CAPTION_MARK}{self.caption}"


def shape_and_color_clues(rng: random.Random, thing: Object, split: str) -> tuple[str, str]:
    """A pair of clues; those kept back belong to the held-out split alone."""
    while True:
        pair = rng.choice(SHAPE_CLUES[thing.shape]), rng.choice(COLOR_CLUES[thing.color])
        if split == "any" or keeps_back(" / ".join(pair)) == (split != "train"):
            return pair


def has_clues(scene: Scene, split: str) -> bool:
    """Whether every object of the scene has a pair of clues in this split."""
    if split in ("train", "any"):
        return True
    return all(
        any(keeps_back(f"{a} / {b}") for a in SHAPE_CLUES[o.shape] for b in COLOR_CLUES[o.color])
        for o in scene.objects
    )


def fitting_scene(rng: random.Random, split: str, num_objects: int) -> Scene:
    while True:
        scene = sample_scene(rng, split, num_objects)
        if has_clues(scene, split):
            return scene


def scene_of_alike(rng: random.Random, split: str, num_objects: int) -> Scene:
    """Objects of one colour and shape; waiting for them by chance took thousands of scenes."""
    while True:
        scene = sample_scene(rng, "any", num_objects)
        first = scene.objects[0]
        alike = (replace(o, color=first.color, shape=first.shape) for o in scene.objects)
        scene = replace(scene, objects=tuple(alike))
        if split in ("any", split_of(scene)) and has_clues(scene, split):
            return scene


def riddle_of_object(rng: random.Random, thing: Object, split: str) -> tuple[str, list[str]]:
    """The clue words for one object, and the thoughts on them."""
    shape, color = shape_and_color_clues(rng, thing, split)
    form = rng.choice(("{} in the color of {}", "{} colored like {}", "{} with the color of {}"))
    thoughts = [f"{shape} is {with_article(thing.shape)}.", f"{color} is {thing.color}."]
    return form.format(shape, color), thoughts


def single_riddle(rng: random.Random, split: str) -> Riddle:
    """One object; perhaps where, perhaps when."""
    scene = fitting_scene(rng, split, 1)
    thing = scene.objects[0]
    text, thoughts = riddle_of_object(rng, thing, split)
    name = caption = with_article(f"{thing.color} {thing.shape}")
    row = col = background = None
    if thing.cell in PLACE_CLUES and rng.random() < 0.6:
        row, col = thing.cell
        clue = PLACE_CLUES[thing.cell]
        text += f" {clue}"
        thoughts.append(f"{clue} is {place_phrase(thing.place)}.")
        caption += f" {place_phrase(thing.place)}"
    if rng.random() < 0.6:
        background = scene.background
    wish = Wish((ObjectWish(thing.shape, thing.color, None, row, col),), background)
    scene, names = settle(scene, [(thing, wish.objects[0], name)])
    return finish_riddle(rng, text, thoughts, caption, wish, scene, names)


def counting_riddle(rng: random.Random, split: str) -> Riddle:
    """As many alike objects as a tricycle has wheels."""
    count = rng.choice(tuple(COUNT_CLUES))
    scene = scene_of_alike(rng, split, count)
    thing = scene.objects[0]
    bearer, parts = rng.choice(COUNT_CLUES[count])
    words, thoughts = riddle_of_object(rng, thing, split)
    text = f"{words}, as many as {bearer} has {parts}"
    thoughts.append(f"{bearer} has {NUMBERS[count]} {parts}.")
    caption = f"{NUMBERS[count]} {thing.color} {plural(thing.shape)}"
    background = scene.background if rng.random() < 0.5 else None
    wish = Wish((ObjectWish(thing.shape, thing.color),) * count, background)
    named = [(thing, wish.objects[0], caption) for thing in scene.objects]
    scene, names = settle(scene, named)
    return finish_riddle(rng, text, thoughts, caption, wish, scene, names)


def pair_riddle(rng: random.Random, split: str) -> Riddle:
    """Two objects and their relation."""
    relation = random_relation(rng)
    while True:
        scene = fitting_scene(rng, split, 2)
        a, b = rng.sample(scene.objects, 2)
        if relation in relations(a, b):
            break
    words_a, thoughts_a = riddle_of_object(rng, a, split)
    words_b, thoughts_b = riddle_of_object(rng, b, split)
    text = f"{words_a} {rng.choice(RELATION_PHRASES[relation])} {words_b}"
    name_a, name_b = (with_article(f"{o.color} {o.shape}") for o in (a, b))
    caption = f"{name_a} {relation} {name_b}"
    wishes = ObjectWish(a.shape, a.color), ObjectWish(b.shape, b.color)
    background = scene.background if rng.random() < 0.4 else None
    wish = Wish(wishes, background, relation)
    named = [(a, wishes[0], name_a), (b, wishes[1], name_b)]
    scene, names = settle(scene, named, relation)
    return finish_riddle(rng, text, thoughts_a + thoughts_b, caption, wish, scene, names)


def finish_riddle(
    rng: random.Random,
    text: str,
    thoughts: list[str],
    caption: str,
    wish: Wish,
    scene: Scene,
    names: Names,
) -> Riddle:
    """Add the clue of the background when it is wished for, and an opening."""
    if wish.background:
        clue = rng.choice(BACKGROUND_CLUES[wish.background])
        phrase = BACKGROUND_PHRASES[wish.background][0]
        text += f", {clue}"
        thoughts = [*thoughts, f"{clue} means {phrase}."]
        caption += f" {phrase}"
    text = typed(rng, rng.choice(("", "", "draw ", "show ")) + text)
    return Riddle(text, " ".join(thoughts), caption, wish, scene, names)


def sample_riddle(rng: random.Random, split: str = "train") -> Riddle:
    form = rng.choices((single_riddle, counting_riddle, pair_riddle), (5, 2, 3))[0]
    while True:
        riddle = form(rng, split)
        if split in ("any", split_of(riddle.scene)):
            return riddle


def plain_reasoning(rng: random.Random, split: str = "train") -> Riddle:
    """Reasoning about a prompt that is no riddle: it is said again, and taken as it is."""
    caption = sample_caption(rng, split)
    words = caption.text.rstrip(".")
    words = words[0].lower() + words[1:]
    words = words.removeprefix(next(o for o in OPENINGS[::-1] if words.startswith(o)))
    count = len(caption.scene.objects)
    thought = f"the picture shows {NUMBERS[count]} object{'s' if count > 1 else ''}."
    return Riddle(caption.text, thought, words, caption.wish, caption.scene, caption.names)


def riddle_sample(rng: random.Random, split: str = "train") -> Sample:
    """The reasoning, and the picture drawn with the whole reasoning in context."""
    make = plain_reasoning if rng.random() < 0.15 else sample_riddle
    riddle = make(rng, split)
    turns = [user(REASON_REQUEST, riddle.text), assistant(riddle.answer)]
    if rng.random() < 0.3:
        return dialogue_sample("riddle", turns)
    return dialogue_sample("riddle", turns, riddle.scene, riddle.names)


def knowledge_sample(rng: random.Random) -> Sample:
    """What the riddles need to know, asked without a picture."""
    kind = rng.random()
    if kind < 0.6:
        color = rng.choice(tuple(COLOR_CLUES))
        question, answer = f"what color is {rng.choice(COLOR_CLUES[color])}?", color
    elif kind < 0.9:
        shape = rng.choice(tuple(SHAPE_CLUES))
        question = f"what is {rng.choice(SHAPE_CLUES[shape])}?"
        answer = with_article(shape)
    else:
        count = rng.choice(tuple(COUNT_CLUES))
        bearer, parts = rng.choice(COUNT_CLUES[count])
        question, answer = f"how many {parts} does {bearer} have?", NUMBERS[count]
    return dialogue_sample("knowledge", [user(QUESTION_REQUEST, question), assistant(answer)])
