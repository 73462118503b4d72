"""Pictures asked for in the words of the phrase book. For training alone."""

import random
import re
from collections.abc import Callable
from dataclasses import replace

from small_world.arranged_captions import ARRANGED
from small_world.free_captions import Named
from small_world.joined_captions import joined_caption, with_looks
from small_world.language import (
    NUMBERS,
    OPPOSITE,
    Caption,
    ObjectWish,
    Wish,
    plural,
    settle,
)
from small_world.neighbor_captions import around, chain
from small_world.phrase_looks import Said, in_order, look, said_place, several_looks
from small_world.phrases import phrase
from small_world.placed_captions import (
    adj_placed,
    anchored,
    each_corner,
    line_of_three,
    pair_placed,
    same_too,
    stretch,
    three_placed,
    two_placed,
)
from small_world.samples import Sample, caption_sample, dialogue_sample, user
from small_world.wordings import (
    BACKGROUND_WORDS,
    RELATIONS_SAID,
    as_typed,
    color_word,
    size_word,
)
from small_world.world import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    Scene,
    relations,
    sample_scene,
    split_of,
)

THINGS = ("thing", "thing2", "thing3")


def setting_words(rng: random.Random, scene: Scene) -> str:
    return rng.choice(BACKGROUND_WORDS[scene.background])


def one(rng: random.Random, scene: Scene) -> Said:
    (thing,) = scene.objects
    words = {"size": size_word(rng, thing.size), "color": color_word(rng, thing.color)}
    text, used = phrase(rng, "draw", "one", shape=thing.shape, **words)
    wish = ObjectWish(**{name: getattr(thing, name) for name in used})
    return text, [(thing, wish, text.rstrip(".!?"))], None, False


def one_placed(rng: random.Random, scene: Scene) -> Said:
    (thing,) = scene.objects
    words, wish = look(rng, thing)
    kind = rng.choice(("one_where", "one_where", "one_setting", "one_both"))
    row, col = thing.cell
    if rng.random() < 0.4 and 1 not in (row, col):
        row, col = rng.choice(((row, None), (None, col)))
    where = {"where": said_place(rng, row, col)} if kind != "one_setting" else {}
    setting = {"setting": setting_words(rng, scene)} if kind != "one_where" else {}
    text, _ = phrase(rng, "draw", kind, thing=words, **where, **setting)
    if where:
        wish = replace(wish, row=row, col=col)
    return text, [(thing, wish, words)], None, bool(setting)


def several(rng: random.Random, scene: Scene) -> Said | None:
    named = several_looks(rng, scene)
    if named is None:
        return None
    slots = {slot: words for slot, (_, _, words) in zip(THINGS, named, strict=False)}
    text, _ = phrase(rng, "draw", ("two", "three")[len(named) - 2], **slots)
    return text, in_order(text, named), None, False


def related(rng: random.Random, scene: Scene) -> Said | None:
    """ "a star above a ring", or "a ring, and above it a star"; either may be named first."""
    found = several_looks(rng, scene)
    if found is None:
        return None
    (a, _, words_a), (b, _, words_b) = found
    kind = rng.choice(("relation", "relation", "under_it"))
    relation = rng.choice(relations(a, b))
    said = relation if kind == "relation" else OPPOSITE[relation]  # of the second, to the first
    slots = {"thing": words_a, "thing2": words_b, "relation": rng.choice(RELATIONS_SAID[said])}
    text, _ = phrase(rng, "draw", kind, **slots)
    if text.find(words_a) > text.find(words_b):
        return text, found[::-1], OPPOSITE[relation], False
    return text, found, relation, False


def alike(rng: random.Random, scene: Scene) -> Said:
    """ "two red stars"."""
    first = scene.objects[0]
    scene = with_looks(scene, shape=first.shape, color=first.color)
    words, wish = plural(first.shape), ObjectWish(first.shape)
    if rng.random() < 0.75:
        words, wish = f"{color_word(rng, first.color)} {words}", replace(wish, color=first.color)
    if rng.random() < 0.3:
        scene = with_looks(scene, size=first.size)
        words, wish = f"{size_word(rng, first.size)} {words}", replace(wish, size=first.size)
    kind = rng.choice(("number", "number_setting"))
    setting = {"setting": setting_words(rng, scene)} if kind == "number_setting" else {}
    number = NUMBERS[len(scene.objects)]
    text, _ = phrase(rng, "draw", kind, number=number, things=words, **setting)
    return text, [(thing, wish, words) for thing in scene.objects], None, bool(setting)


def corrected(rng: random.Random, scene: Scene) -> Said | None:
    """ "a circle, no wait, a square": what is said second."""
    (thing,) = scene.objects
    words, wish = look(rng, thing)
    other, _ = look(rng, replace(thing, shape=rng.choice(SHAPES), color=rng.choice([*COLORS])))
    if words in other or other in words:
        return None
    text, _ = phrase(rng, "draw", "correct", thing=other, thing2=words)
    return text, [(thing, wish, words)], None, False


def corrected_color(rng: random.Random, scene: Scene) -> Said | None:
    """ "a green, no, sorry, orange ring"."""
    (thing,) = scene.objects
    wrong = color_word(rng, rng.choice([c for c in COLORS if c != thing.color]))
    words = {"color": wrong, "color2": color_word(rng, thing.color), "shape": thing.shape}
    text, _ = phrase(rng, "draw", "correct_adj", **words)
    named: Named = [(thing, ObjectWish(thing.shape, thing.color), text.rstrip(".!?"))]
    return text, named, None, False


def corrected_later(rng: random.Random, scene: Scene) -> Said | None:
    """ "a red square and a blue circle, wait, make the circle green"."""
    found = several_looks(rng, scene)
    if found is None or found[0][0].shape == found[1][0].shape:
        return None
    slots = {"thing": found[0][2], "thing2": found[1][2]}
    number = rng.randrange(2)
    old, wish, _ = found[number]
    thing = replace(old, color=rng.choice([c for c in COLORS if c != old.color]))
    slots |= {"name": old.shape, "color": color_word(rng, thing.color)}
    text, _ = phrase(rng, "draw", "correct_later", **slots)
    words = stretch(text, slots["name"], slots["color"])
    found[number] = (thing, replace(wish, color=thing.color), words)
    return text, found, None, False


def not_size(rng: random.Random, scene: Scene) -> Said:
    (thing,) = scene.objects
    size = "big" if thing.size == "small" else "small"
    look = {"color": color_word(rng, thing.color), "shape": thing.shape}
    text, _ = phrase(rng, "draw", "not_size", size=size_word(rng, size), **look)
    wish = ObjectWish(thing.shape, thing.color, thing.size)
    return text, [(thing, wish, text.rstrip(".!?"))], None, False


def pair_color(rng: random.Random, scene: Scene) -> Said | None:
    """ "a star and a ring, both red"."""
    a, b = with_looks(scene, color=scene.objects[0].color).objects
    if a.shape == b.shape:
        return None
    words = {"shape": a.shape, "shape2": b.shape, "color": color_word(rng, a.color)}
    text, _ = phrase(rng, "draw", "pair_color", **words)
    named = [(o, ObjectWish(o.shape, o.color), o.shape) for o in (a, b)]
    return text, in_order(text, named), None, False


def twins_and(rng: random.Random, scene: Scene) -> Said | None:
    """ "two red stars and a ring"."""
    a, b, c = rng.sample(scene.objects, 3)
    b = replace(b, shape=a.shape, color=a.color)
    words, wish = look(rng, c)
    twins, both = plural(a.shape), ObjectWish(a.shape)
    if c.shape == a.shape:
        return None
    if rng.random() < 0.7:
        twins, both = f"{color_word(rng, a.color)} {twins}", replace(both, color=a.color)
    text, _ = phrase(rng, "draw", "twins_and", number="two", things=twins, thing=words)
    named = [(a, both, twins), (b, both, twins), (c, wish, words)]
    return text, in_order(text, named), None, False


def one_each(rng: random.Random, scene: Scene) -> Said | None:
    """ "two stars, one red and one blue"."""
    a, b = with_looks(scene, shape=scene.objects[0].shape).objects
    if a.color == b.color:
        return None
    slots = {"things": plural(a.shape), "color": a.color, "color2": b.color}
    text, _ = phrase(rng, "draw", "one_each", **slots)
    named = [(o, ObjectWish(o.shape, o.color), o.color) for o in (a, b)]
    return text, in_order(text, named), None, False


def big_small(rng: random.Random, scene: Scene) -> Said:
    """ "a big star and a small one"."""
    first = scene.objects[0]
    a, b = with_looks(scene, shape=first.shape, color=first.color).objects
    a, b = replace(a, size="big"), replace(b, size="small")
    words = {"color": color_word(rng, a.color), "shape": a.shape}
    text, _ = phrase(rng, "draw", "big_small", **words)
    sizes = {"big": "big|large|huge|giant", "small": "small|little|tiny|wee|mini"}
    named: Named = []
    for thing in (a, b):
        found = re.search(rf"\b(?:{sizes[thing.size]})\w*", text)
        word = found[0] if found else words["shape"]
        named.append((thing, ObjectWish(thing.shape, thing.color, thing.size), word))
    return text, in_order(text, named), None, False


FORMS: dict[Callable[[random.Random, Scene], Said | None], tuple[int, ...]] = {
    one: (1,), one_placed: (1,), several: (2, 2, 3), related: (2,), two_placed: (2,),
    alike: (2, 2, 3), corrected: (1,), not_size: (1,), pair_color: (2,), twins_and: (3,),
    one_each: (2,), big_small: (2,), three_placed: (3,), adj_placed: (2,), pair_placed: (2,),
    anchored: (2,), same_too: (2,), line_of_three: (3,), each_corner: (2,),
    corrected_color: (1,), corrected_later: (2,), chain: (3,), around: (3,),
}  # fmt: skip
WEIGHTS = (4, 6, 4, 8, 13, 3, 2, 3, 2, 3, 2.5, 2, 9, 4, 3, 5, 2, 2, 1.5, 3, 3, 5, 5)
FORMS |= {form: (count,) for form, (count, _) in ARRANGED.items()}
WEIGHTS += tuple(weight for _, weight in ARRANGED.values())


def framed(rng: random.Random, text: str) -> str:
    """Some description inside of what somebody says around it."""
    return phrase(rng, "draw", "ask", scene=text)[0]


def nothing(rng: random.Random) -> Caption:
    background = rng.choice(tuple(BACKGROUNDS))
    if rng.random() < 0.2:
        text, _ = phrase(rng, "draw", "nothing")
        return Caption(as_typed(rng, text), Scene("day", ()), Wish((), None))
    text, _ = phrase(rng, "draw", f"nothing_{background}")
    return Caption(as_typed(rng, text), Scene(background, ()), Wish((), background))


def form_caption(rng: random.Random, form: Callable, scene: Scene) -> Caption | None:
    said = form(rng, scene)
    if said is None:
        return None
    text, named, relation, has_setting = said
    background = scene.background if has_setting else None
    if background is None and rng.random() < 0.3:
        background = scene.background
        text = f"{text.rstrip('.!?')}{rng.choice((' ', ', ', ', '))}{setting_words(rng, scene)}"
    things = tuple(thing for thing, _, _ in named)
    wish = Wish(tuple(wish for _, wish, _ in named), background, relation)
    settled, names = settle(scene.with_objects(things), named, relation)
    return Caption(text, settled, wish, names)


def phrase_caption(rng: random.Random, split: str = "train") -> Caption:
    """A caption of the book whose scene, as it is settled, lies in the split; as it is typed."""
    if rng.random() < 0.07:
        return nothing(rng)
    while True:
        if rng.random() < 0.2:
            caption = joined_caption(rng, split)
            text = caption.text.rstrip(".!?").lower()
            return replace(caption, text=as_typed(rng, framed(rng, text)))
        form = rng.choices(tuple(FORMS), WEIGHTS)[0]
        scene = sample_scene(rng, split, rng.choice(FORMS[form]))
        caption = form_caption(rng, form, scene)
        if caption is not None and split in ("any", split_of(caption.scene)):
            return replace(caption, text=as_typed(rng, caption.text))


def phrase_caption_sample(rng: random.Random, split: str = "train") -> Sample:
    """As Text to Image or as Converse asks for it."""
    caption = phrase_caption(rng, split)
    if rng.random() < 0.5:
        return caption_sample("caption", caption)
    message = user("{prompt}", caption.text)
    return dialogue_sample("caption", [message], caption.scene, caption.names)
