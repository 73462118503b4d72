"""How the scenes of the world are spoken about: words, captions, and the wish behind a caption."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from small_world.layout import settled
from small_world.things import THINGS
from small_world.world import (
    HELD_OUT_ONE_IN,
    RELATIONS,
    Object,
    Scene,
    relations,
    sample_scene,
    split_of,
    stable_hash,
)

# The first phrase is the one of every canonical description.
BACKGROUND_PHRASES = {
    "day": ("by day", "in daylight", "under a blue sky"),
    "night": ("at night", "in the dark", "under a night sky"),
    "desert": ("in the desert", "on sand", "on desert sand"),
    "snow": ("in the snow", "on white snow", "on a white background"),
    "fog": ("in the fog", "in gray fog", "on a gray background"),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
NUMBERS = ("zero", "one", "two", "three", "four")
RELATION_PHRASES = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
OPENINGS = (
    "",
    "",
    "",
    "",
    "",
    "a picture of ",
    "a photo of ",
    "an image of ",
    "draw ",
    "show ",
    "show me ",
)


@dataclass(frozen=True)
class ObjectWish:
    """What is said of one object; None is not said."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    row: int | None = None
    col: int | None = None

    def admits(self, thing: Object) -> bool:
        said = (self.shape, self.color, self.size, self.row, self.col)
        seen = (thing.shape, thing.color, thing.size, thing.row, thing.col)
        return all(word is None or word == value for word, value in zip(said, seen, strict=True))


@dataclass(frozen=True)
class Wish:
    """What a caption asks for: exactly these objects, and between the first two `relation`."""

    objects: tuple[ObjectWish, ...]
    background: str | None = None
    relation: str | None = None


Names = tuple[tuple[int, str], ...]  # (cell, the words that mean the object there)


@dataclass(frozen=True)
class Caption:
    """A text, what it asks for, and its scene, where all that is not said is as usual."""

    text: str
    scene: Scene
    wish: Wish
    names: Names = ()


def wish_of(scene: Scene) -> Wish:
    """The wish for exactly this scene."""
    things = (ObjectWish(o.shape, o.color, o.size, o.row, o.col) for o in scene.objects)
    return Wish(tuple(things), scene.background)


# ---------------------------------------------------------------- words


def with_article(words: str) -> str:
    is_vowel = words[0] in "aeiou" and not words.startswith(("ufo", "uni"))
    return ("an " if is_vowel else "a ") + words


def spaced(*words: str) -> str:
    """The words that are there, a space between them; a thing has no colour word."""
    return " ".join(word for word in words if word)


def noun(rng: random.Random, shape: str) -> str:
    """The name of a shape or thing; a thing's now and then another word for it."""
    synonyms = THINGS[shape].synonyms if shape in THINGS else ()
    return rng.choice(synonyms) if synonyms and rng.random() < 0.3 else shape


def plural(shape: str) -> str:
    if shape in THINGS and THINGS[shape].plural:
        return THINGS[shape].plural
    if shape.endswith("y") and shape[-2] not in "aeiou":
        return shape[:-1] + "ies"
    return shape + ("es" if shape.endswith(("s", "x", "ch", "sh")) else "s")


def join_list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def place_phrase(place: str) -> str:
    return "in the center" if place == "center" else f"at the {place}"


def any_place_phrase(rng: random.Random, place: str) -> str:
    if place == "center":
        return rng.choice(("in the center", "in the middle", "at the center"))
    phrases = [f"at the {place}", f"in the {place}", f"on the {place}"]
    if "middle" not in place:
        phrases.append(f"in the {place} corner")
    return rng.choice(phrases)


def look_words(thing: Object) -> str:
    return with_article(spaced(*thing.look))


def describe(scene: Scene, order: Sequence[Object] | None = None) -> str:
    """The canonical description, which determines the picture up to jitter.

    Args: order: the scene's objects as they are mentioned; in reading order without it.
    """
    things = [f"{look_words(o)} {place_phrase(o.place)}" for o in order or scene.objects]
    return f"{join_list(things) if things else 'nothing'} {BACKGROUND_PHRASES[scene.background][0]}"


def reworded_order(before: Sequence[Object], after: Scene) -> list[Object]:
    """The objects of `after` as a rewritten description mentions them.

    What stays keeps its place in the sentence, what changes takes it over, what is new comes last.
    """
    new = [thing for thing in after.objects if thing not in before]
    gone = [thing for thing in before if thing not in after.objects]
    taken_over = dict(zip(gone, new, strict=False))
    kept = [taken_over.get(o, o) for o in before if o in taken_over or o in after.objects]
    return kept + new[len(gone) :]


# ---------------------------------------------------------------- captions


def typed(rng: random.Random, text: str) -> str:
    """As a person types it: now and then a capital letter or a full stop."""
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.2 else text


def with_background(rng: random.Random, text: str, phrase: str) -> str:
    form = rng.random()
    if form < 0.2:
        return f"{phrase}, {text}"
    return f"{text}, {phrase}" if form < 0.4 else f"{text} {phrase}"


def full_caption(rng: random.Random, scene: Scene) -> Caption:
    """Everything said, in any order and in any words."""
    things = list(scene.objects)
    rng.shuffle(things)
    parts = []
    for thing in things:
        size = rng.choice(SIZE_WORDS[thing.size])
        words = with_article(spaced(size, thing.color, noun(rng, thing.shape)))
        parts.append(f"{words} {any_place_phrase(rng, thing.place)}")
    background = rng.choice(BACKGROUND_PHRASES[scene.background])
    text = with_background(rng, rng.choice(OPENINGS) + join_list(parts), background)
    return Caption(typed(rng, text), scene, wish_of(scene))


def object_words(
    rng: random.Random, thing: Object, size: bool, place: bool
) -> tuple[str, ObjectWish]:
    """A partial description of one object and what it says."""
    words = spaced(thing.color, noun(rng, thing.shape))
    if size:
        words = f"{rng.choice(SIZE_WORDS[thing.size])} {words}"
    text, row, col = with_article(words), None, None
    if place and rng.random() < 0.25 and 1 not in (thing.row, thing.col):
        if rng.random() < 0.5:
            row = thing.row
            text += " at the top" if row == 0 else " at the bottom"
        else:
            col = thing.col
            text += " on the left" if col == 0 else " on the right"
    elif place:
        row, col = thing.cell
        text += " " + any_place_phrase(rng, thing.place)
    return text, ObjectWish(thing.shape, thing.color, thing.size if size else None, row, col)


def settle(
    scene: Scene,
    named: Sequence[tuple[Object, ObjectWish, str]],
    relation: str | None = None,
) -> tuple[Scene, Names]:
    """The scene with every object where it is said to be or usually is, and what names its cell.

    `named` are object, wish and words in the order of their mention.
    """
    things, wishes, words = zip(*named, strict=True)
    placed = settled(things, [(wish.row, wish.col) for wish in wishes], relation)
    names = tuple((3 * o.row + o.col, text) for o, text in zip(placed, words, strict=True))
    return scene.with_objects(tuple(placed)), names


def finish_caption(
    rng: random.Random,
    text: str,
    scene: Scene,
    named: Sequence[tuple[Object, ObjectWish, str]],
    relation: str | None = None,
) -> Caption:
    """Add an opening and, more often than not, the background; settle what is not said."""
    text, background = rng.choice(OPENINGS) + text, None
    if rng.random() < 0.6:
        background = scene.background
        text = with_background(rng, text, rng.choice(BACKGROUND_PHRASES[background]))
    wish = Wish(tuple(wish for _, wish, _ in named), background, relation)
    scene, names = settle(scene, named, relation)
    return Caption(typed(rng, text), scene, wish, names)


def listing_caption(rng: random.Random, scene: Scene) -> Caption:
    """ "a red circle and a small blue star in the center": some of it said."""
    things = list(scene.objects)
    rng.shuffle(things)
    size, place = rng.random() < 0.35, rng.random() < 0.4
    named = []
    for thing in things:
        words, wish = object_words(rng, thing, size, place)
        named.append((thing, wish, words))
    return finish_caption(rng, join_list([words for _, _, words in named]), scene, named)


def relation_caption(rng: random.Random, scene: Scene) -> Caption:
    """ "a red circle left of a blue star", for a scene of two objects."""
    a, b = rng.sample(scene.objects, 2)
    relation = rng.choice(relations(a, b))
    size = rng.random() < 0.3
    words_a, wish_a = object_words(rng, a, size, place=False)
    words_b, wish_b = object_words(rng, b, size, place=False)
    text = f"{words_a} {rng.choice(RELATION_PHRASES[relation])} {words_b}"
    named = [(a, wish_a, words_a), (b, wish_b, words_b)]
    return finish_caption(rng, text, scene, named, relation)


def is_countable(scene: Scene) -> bool:
    """Two or three objects, at least two of them alike in colour and shape."""
    return len({(o.color, o.shape) for o in scene.objects}) < len(scene.objects)


def counting_caption(rng: random.Random, scene: Scene) -> Caption:
    """ "two red circles and a star": groups of alike objects, counted."""
    groups = Counter((o.color, o.shape) for o in scene.objects)
    sizes = {o.size for o in scene.objects}
    size = sizes.pop() if len(sizes) == 1 and rng.random() < 0.4 else None
    parts, named = [], []
    for (color, shape), count in rng.sample(list(groups.items()), len(groups)):
        words = spaced(rng.choice(SIZE_WORDS[size]) if size else "", color)
        name = noun(rng, shape)
        many = spaced(NUMBERS[count], words, plural(name))
        parts.append(with_article(spaced(words, name)) if count == 1 else many)
        alike = [o for o in scene.objects if (o.color, o.shape) == (color, shape)]
        named += [(thing, ObjectWish(shape, color, size), parts[-1]) for thing in alike]
    return finish_caption(rng, join_list(parts), scene, named)


def shape_counting_caption(rng: random.Random, scene: Scene) -> Caption:
    """ "three circles": the colours are free."""
    shape = scene.objects[0].shape
    text = f"{NUMBERS[len(scene.objects)]} {plural(shape)}"
    named = [(thing, ObjectWish(shape), text) for thing in scene.objects]
    return finish_caption(rng, text, scene, named)


def make_caption(rng: random.Random, scene: Scene) -> Caption:
    """Any caption that fits the scene; about half of them determine it up to jitter."""
    form = rng.random()
    if form < 0.3:
        return Caption(describe(scene), scene, wish_of(scene))
    if form < 0.52:
        return full_caption(rng, scene)
    if is_countable(scene) and form < 0.9:
        return counting_caption(rng, scene)
    if len(scene.objects) > 1 and len({o.shape for o in scene.objects}) == 1 and form < 0.95:
        return shape_counting_caption(rng, scene)
    if len(scene.objects) == 2 and form < 0.8:
        return relation_caption(rng, scene)
    return listing_caption(rng, scene)


def sample_caption(rng: random.Random, split: str = "train") -> Caption:
    """A caption whose scene, as it is settled, lies in the split."""
    while True:
        caption = make_caption(rng, sample_scene(rng, split))
        if split in ("any", split_of(caption.scene)):
            return caption


def keeps_back(text: str) -> bool:
    """True for one in sixteen texts, which only the held-out split uses."""
    return stable_hash(text) % HELD_OUT_ONE_IN == 0


def random_relation(rng: random.Random) -> str:
    return rng.choice(RELATIONS)
