"""How people say things: far more wordings than the world's own grammar has.

A wording never changes what is meant; `small_world/truth.py`, which shares nothing with this file,
reads the meaning back.
"""

import random
from collections.abc import Sequence

from small_world.language import NUMBERS, noun, plural, spaced, with_article
from small_world.world import Object

COLOR_WORDS = {
    "red": ("red",) * 5 + ("crimson", "scarlet"),
    "purple": ("purple",) * 4 + ("violet",) * 2,
    "brown": ("brown",),
    "pink": ("pink",) * 6 + ("rosy",),
    "orange": ("orange",),
    "green": ("green",) * 6 + ("emerald",),
    "blue": ("blue",) * 6 + ("azure",),
    "yellow": ("yellow",) * 6 + ("golden",),
}
SIZE_WORDS = {
    "small": ("small", "small", "little", "tiny", "tiny little", "very small"),
    "big": ("big", "big", "large", "huge", "very large", "giant", "very big"),
}
ROW_WORDS = {0: ("top", "upper"), 2: ("bottom", "lower")}
BACKGROUND_WORDS = {
    "day": ("by day", "in daylight", "on a sunny day", "in the sunshine", "during the day",
            "on a clear day"),
    "night": ("at night", "in the dark", "by night", "on a dark night", "at night time",
              "in the darkness"),
    "desert": ("in the desert", "on sand", "in a desert", "in a sandy desert", "in the sand"),
    "snow": ("in the snow", "in winter", "on a snowy day", "on snow", "on a winter day"),
    "fog": ("in the fog", "in fog", "on a foggy day", "in the mist", "on a gray background"),
}  # fmt: skip
SCENE_WORDS = {  # as a noun: "a foggy day", "a foggy day with a red star"
    "day": ("a sunny day", "a clear day", "daytime", "a bright day"),
    "night": ("a dark night", "night time", "night", "a night sky"),
    "desert": ("the desert", "a desert", "a sandy desert", "a desert landscape"),
    "snow": ("winter", "a snowy day", "a snowy landscape", "a winter scene", "snow"),
    "fog": ("fog", "a foggy day", "a foggy morning", "mist", "a foggy scene"),
}
STATE_WORDS = {  # after "it is"
    "day": ("day", "sunny", "daytime", "bright day"),
    "night": ("night", "dark", "nighttime"),
    "desert": ("in the desert", "in a desert"),
    "snow": ("winter", "snowy", "snowing"),
    "fog": ("foggy", "misty", "full of fog"),
}
OPENINGS = (
    "please draw {}", "draw {}", "draw me {}", "can you draw {}?", "can you draw me {}?",
    "could you please show me {}?", "i would like to see {}", "i'd like {}", "i want {}",
    "i want to see {}", "show me {}", "let me see {}", "how about {}?", "paint {}", "imagine {}",
    "a picture with {}", "make a picture of {}", "hey, draw {}", "there is {}", "give me {}",
    "i need {}", "{}, please", "{} please", "draw {} for me", "we see {}", "now draw {}",
    "ok, {}", "then {}", "a drawing of {}", "would you draw {}?", "put {} there", "next, {}",
)  # fmt: skip
RELATIONS_SAID = {
    "left of": ("left of", "to the left of", "on the left of", "on the left side of"),
    "right of": ("right of", "to the right of", "on the right of", "on the right side of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "underneath", "beneath"),
}
OF_IT = {
    "left of": ("to its left", "to the left of it", "on its left side", "left of it"),
    "right of": ("to its right", "to the right of it", "on its right side", "right of it"),
    "above": ("above it", "over it", "on top of it"),
    "below": ("below it", "under it", "underneath it", "beneath it"),
}
UNKNOWN = (
    "cat", "dog", "house", "tree", "car", "elephant", "horse", "bird", "fish", "boat", "plane",
    "apple", "banana", "pizza", "flower", "heart", "man", "woman", "rocket", "robot", "table",
    "chair", "mouse", "lion", "tiger", "castle", "train", "bike", "dragon", "cake", "cup", "king",
    "monkey", "rabbit", "duck", "cow", "pig", "bear", "snake", "spider", "book", "guitar", "phone",
    "hexagon", "spiral", "arrow", "cube", "face", "hand", "mountain", "bridge", "ship", "clown",
    "unicorn", "giraffe", "zebra", "kangaroo", "penguin", "owl", "eagle", "butterfly", "bee", "ant",
    "frog", "turtle", "whale", "shark", "dolphin", "octopus", "crab", "snail", "fox", "wolf",
    "deer", "squirrel", "hedgehog", "camel", "goat", "sheep", "chicken", "parrot", "swan", "bat",
    "dinosaur", "mermaid", "fairy", "witch", "wizard", "ghost", "vampire", "zombie", "pirate",
    "knight", "princess", "queen", "baby", "boy", "girl", "doctor", "teacher", "farmer",
    "astronaut", "soldier", "dancer", "tractor", "truck", "bus", "taxi", "motorcycle", "helicopter",
    "balloon", "submarine", "sailboat", "skateboard", "bicycle", "scooter", "tent", "tower",
    "church", "lighthouse", "barn", "hut", "skyscraper", "windmill", "fence", "gate", "door",
    "window", "bed", "sofa", "lamp", "clock", "watch", "computer", "laptop", "keyboard",
    "television", "camera", "radio", "piano", "violin", "drum", "trumpet", "ball", "kite", "doll",
    "puzzle", "hat", "shoe", "shirt", "dress", "sock", "glove", "scarf", "umbrella", "bag",
    "suitcase", "key", "hammer", "knife", "fork", "spoon", "plate", "bowl", "bottle", "pan",
    "bread", "cheese", "egg", "burger", "sandwich", "donut", "cookie", "cupcake", "lollipop",
    "lemon", "pear", "grape", "strawberry", "cherry", "pineapple", "watermelon", "carrot", "potato",
    "tomato", "mushroom", "rose", "tulip", "sunflower", "cactus", "forest", "river", "lake",
    "beach", "volcano", "island", "rainbow", "cloud", "snowman", "planet", "moon", "comet", "skull",
    "eye", "nose", "foot", "crown", "diamond", "pyramid", "cylinder", "cone", "oval", "rectangle",
    "pentagon", "octagon", "ellipse", "crescent", "flag", "coin", "candle", "present",
    "person", "city", "street", "garden", "waterfall",
)  # fmt: skip


def size_word(rng: random.Random, size: str) -> str:
    return rng.choice(SIZE_WORDS[size])


def color_word(rng: random.Random, color: str) -> str:
    word = rng.choice(COLOR_WORDS[color])
    return f"{word} colored" if rng.random() < 0.04 else word


def place_words(rng: random.Random, row: int | None, col: int | None) -> str:
    """Any words for a cell, a row or a column (the other one None)."""
    if col is None:
        side = rng.choice(ROW_WORDS[row])
        end = " edge" if side in ("upper", "lower") else rng.choice(("", "", "", " of the picture"))
        return f"{rng.choice(('at the', 'at the', 'on the', 'near the'))} {side}{end}"
    if row is None:
        side = ("left", "", "right")[col]
        forms = ("on the {}", "at the {}", "to the {}", "on the {} side", "on the {} hand side")
        return rng.choice(forms).format(side)
    if (row, col) == (1, 1):
        return rng.choice(
            ("in the center", "in the middle", "at the center", "right in the middle",
             "in the very center", "in the middle of the picture")
        )  # fmt: skip
    if col == 1:
        side = rng.choice(ROW_WORDS[row])
        return rng.choice(
            (f"at the {ROW_WORDS[row][0]} middle", f"at the {ROW_WORDS[row][0]} center",
             f"in the {side} middle")
        )  # fmt: skip
    side = ("left", "", "right")[col]
    if row == 1:
        return rng.choice(
            (f"at the middle {side}", f"in the middle {side}", f"at the center {side}")
        )
    pair = f"{rng.choice(ROW_WORDS[row])} {side}"
    forms = ("at the {}", "in the {}", "in the {} corner", "in the {} corner", "on the {}")
    return rng.choice(forms).format(pair)


def bare_place(rng: random.Random, row: int | None, col: int | None) -> str:
    """Now and then without its preposition: "top left a red ring"."""
    words = place_words(rng, row, col)
    return words.partition(" the ")[2] if " the " in words and rng.random() < 0.2 else words


def terse_place(row: int, col: int) -> tuple[str, ...]:
    """Names of a cell without preposition and article: "top left", "center"."""
    if (row, col) == (1, 1):
        return ("center", "middle", "dead center", "middle of the picture")
    side = ("left", "middle", "right")[col]
    if row == 1:
        return (f"middle {side}", f"center {side}", f"{side} middle")
    words = ROW_WORDS[row]
    if col == 1:
        return (*(f"{word} middle" for word in words), f"{words[0]} center")
    return (*(f"{word} {side}" for word in words), f"{words[0]} {side} corner")


def spot(rng: random.Random, row: int, col: int) -> str:
    """A cell as it is said, in full or tersely."""
    full = rng.random() < 0.6
    return place_words(rng, row, col) if full else rng.choice(terse_place(row, col))


def noun_phrase(rng: random.Random, thing: Object, size: bool) -> str:
    """ "a small red star", "a star in red", "red star", "a star that is small and red", ..."""
    if not thing.color:
        return thing_phrase(rng, thing, size)
    color, big = color_word(rng, thing.color), size_word(rng, thing.size) if size else ""
    form = rng.random()
    if form < 0.62:
        return with_article(f"{big} {color} {thing.shape}".strip())
    if form < 0.72:
        return f"{big} {color} {thing.shape}".strip()
    if form < 0.76:
        return f"one {big} {color} {thing.shape}".replace("  ", " ")
    noun = with_article(thing.shape)
    both = f"{big} and {color}" if big else color
    sized = with_article(f"{big} {thing.shape}".strip())
    if form < 0.82:
        return f"{sized} in {color}"
    if form < 0.88:
        return f"{noun} {rng.choice(('that is', 'which is'))} {both}"
    if form < 0.92:
        return f"{color} {thing.shape}, {big}" if big else f"{thing.shape}, {color}"
    if form < 0.96:
        return f"{noun}, {color}" + (f", {big}" if big else "")
    return f"the {thing.shape} is {both}" if rng.random() < 0.5 else f"{sized} colored {color}"


def thing_phrase(rng: random.Random, thing: Object, size: bool) -> str:
    """ "a small cat", "kitten", "one little cat", "a cat that is tiny"."""
    name, big = noun(rng, thing.shape), size_word(rng, thing.size) if size else ""
    form = rng.random()
    if form < 0.7:
        return with_article(spaced(big, name))
    if form < 0.85:
        return spaced(big, name)
    if form < 0.92 or not big:
        return spaced("one", big, name)
    return f"{with_article(name)} {rng.choice(('that is', 'which is'))} {big}"


def counted_phrase(rng: random.Random, count: int, words: str, shape: str) -> str:
    """ "two red stars", "a pair of red stars"; one has its article."""
    many = f"{words} {plural(shape)}".strip()
    if count == 1:
        return with_article(f"{words} {shape}".strip())
    forms = [NUMBERS[count], NUMBERS[count], str(count), f"exactly {NUMBERS[count]}"]
    if count == 2:
        forms += ["a pair of", "a couple of"]
    return f"{rng.choice(forms)} {many}"


def joined(rng: random.Random, parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    first, last = rng.choice((", ", ", ", " and ")), None
    last = rng.choice(
        (" and ", " and ", " and ", ", ", ", and ", " with ", " plus ", " together with ", " + ",
         ". ", "; ", " as well as ", ", also ", ". and ")
    )  # fmt: skip
    if last in (". ", "; ", ", ", " + "):
        first = last
    return first.join(parts[:-1]) + last + parts[-1]


def opened(rng: random.Random, text: str) -> str:
    """Politely, curtly, as a question: half of the time just the text."""
    text = text if rng.random() < 0.5 else rng.choice(OPENINGS).format(text)
    return rng.choice(("hi, ", "hello! ", "well, ")) + text if rng.random() < 0.03 else text


def as_typed(rng: random.Random, text: str) -> str:
    """Capitals, marks at the end: as it comes."""
    form = rng.random()
    if form < 0.25:
        text = text[0].upper() + text[1:]
    elif form < 0.3:
        text = text.upper()
    elif form < 0.35:
        text = text.title()
    if text[-1] not in "?.!":
        text += rng.choice(("", "", "", ".", ".", "!"))
    return text
