"""What is said in conversations beside the pictures, in the phrase book's words.

For training alone.
"""

import random

from small_world.conversations import ABLE, HELLO, KNOWN, SELF, Step, refusal, say
from small_world.free_captions import unknown_thing
from small_world.language import with_article
from small_world.phrases import phrase
from small_world.samples import assistant
from small_world.wordings import as_typed
from small_world.world import SHAPES

PALETTE = "red, green, blue, yellow, orange, purple, pink and brown"
ANSWERS = {
    "hello": HELLO,
    "self": SELF,
    "able": ABLE,
    "shapes": f"{KNOWN}.",
    "colors": f"{PALETTE}.",
    "thanks": "you are welcome!",
    "unclear": "please tell me what to draw.",
    "how_are_you": "i am fine, thank you!",
}
OTHER_COLORS = ("black", "white", "gray", "silver", "turquoise", "cyan", "magenta", "beige",
                "teal", "navy", "maroon", "transparent", "colorless", "bronze")  # fmt: skip
COLOR_WISHES = ("draw a {color} {shape}", "a {color} {shape}", "{color} {shape}, please",
                "make it {color}", "in {color}", "{color}", "can you make it {color}?",
                "i want it in {color}", "paint the {shape} {color}", "now {color} please",
                "could you do a {color} {shape}?", "add a {color} {shape}",
                "turn it {color}", "i'd like a {color} {shape}", "{shape} in {color}",
                "use {color} for it", "change it to {color}", "the {shape} should be {color}",
                "do you have {color}?", "can you paint in {color}?")  # fmt: skip


def chat_step(rng: random.Random) -> Step:
    kind = rng.choice(tuple(ANSWERS))
    text = phrase(rng, "talk", kind)[0]
    return Step("chat", say(as_typed(rng, text)), assistant(ANSWERS[kind]))


def other_color_step(rng: random.Random) -> Step:
    """Of a colour that it does not know it is said so."""
    color = rng.choice(OTHER_COLORS)
    text = rng.choice(COLOR_WISHES).format(color=color, shape=rng.choice(SHAPES))
    return Step("chat", say(as_typed(rng, text)), assistant(f"i know {PALETTE}, not {color}."))


def unknown_step(rng: random.Random) -> Step:
    if rng.random() < 0.2:
        return other_color_step(rng)
    thing = unknown_thing(rng)
    text = phrase(rng, "talk", "unknown", noun=thing)[0]
    noun = with_article(thing.split(" ")[-1])
    return Step("chat", say(as_typed(rng, text)), assistant(refusal(noun)))
