"""How captions of the phrase book call an object and its place. For training alone."""

import random
import re
from dataclasses import replace

from small_world.free_captions import Named
from small_world.language import ObjectWish, with_article
from small_world.wordings import color_word, noun_phrase, place_words, size_word, spot
from small_world.world import Object, Scene

Said = tuple[str, Named, str | None, bool]  # text, its objects, their relation, whether the setting


def look(rng: random.Random, thing: Object) -> tuple[str, ObjectWish]:
    """ "a star", "a red star", "small red star", "a red star, small", and what that asks for."""
    how = rng.choice(("shape", "color", "color", "color", "both", "both"))
    words, wish = thing.shape, ObjectWish(thing.shape)
    if how != "shape":
        words, wish = f"{color_word(rng, thing.color)} {words}", replace(wish, color=thing.color)
    if how == "both":
        words, wish = f"{size_word(rng, thing.size)} {words}", replace(wish, size=thing.size)
    if how != "shape" and rng.random() < 0.2:
        return noun_phrase(rng, thing, how == "both"), wish
    return words if rng.random() < 0.25 else with_article(words), wish


def said_place(rng: random.Random, row: int | None, col: int | None) -> str:
    """Words for a cell, a row or a column."""
    return place_words(rng, row, col) if None in (row, col) else spot(rng, row, col)


def in_order(text: str, named: Named) -> Named:
    """As the text mentions them: the first is the one in the centre."""
    return sorted(named, key=lambda entry: re.search(rf"\b{entry[2]}\b", text).start())


def several_looks(rng: random.Random, scene: Scene) -> Named | None:
    """The objects in any order, if their words differ: it must be known which is meant."""
    named: Named = []
    for thing in rng.sample(scene.objects, len(scene.objects)):
        words, wish = look(rng, thing)
        if any(words in other or other in words for _, _, other in named):
            return None
        named.append((thing, wish, words))
    return named
