"""The things of the wide world: a hundred everyday things, each an emoji, and the words for them.

Names are single words that mean nothing else in the world: no "orange" (a colour), no "ring" (a
shape), no "snowman" (a background), no "hand" (a side). What is hard to see at 25 pixels before
some background is left out: the cloud, the candle, the tornado. `emoji_art.py` draws them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """An emoji, other words for it, and its plural where that is irregular."""

    emoji: str
    synonyms: tuple[str, ...] = ()
    plural: str = ""


def thing(emoji: str, synonyms: str = "", plural: str = "") -> Thing:
    return Thing(emoji, tuple(synonyms.split()), plural)


ANIMALS = {
    "cat": thing("🐱", "kitty kitten"),
    "dog": thing("🐶", "puppy doggy"),
    "lion": thing("🦁"),
    "fox": thing("🦊"),
    "panda": thing("🐼"),
    "pig": thing("🐷", "piglet"),
    "frog": thing("🐸", "toad"),
    "monkey": thing("🐵", "ape"),
    "chick": thing("🐥", "chicken"),
    "penguin": thing("🐧"),
    "owl": thing("🦉"),
    "bee": thing("🐝", "bumblebee"),
    "butterfly": thing("🦋"),
    "ladybug": thing("🐞", "ladybird"),
    "snail": thing("🐌"),
    "spider": thing("🕷️"),
    "turtle": thing("🐢", "tortoise"),
    "snake": thing("🐍", "serpent"),
    "octopus": thing("🐙"),
    "crab": thing("🦀"),
    "fish": thing("🐠", "", "fish"),
    "whale": thing("🐳"),
    "elephant": thing("🐘"),
    "giraffe": thing("🦒"),
    "zebra": thing("🦓"),
    "horse": thing("🐎"),
    "cow": thing("🐄"),
    "dragon": thing("🐉"),
    "unicorn": thing("🦄"),
    "dinosaur": thing("🦖", "dino"),
}
PLANTS_AND_FOOD = {
    "tree": thing("🌳", "oak"),
    "palm": thing("🌴"),
    "pine": thing("🌲", "fir"),
    "cactus": thing("🌵", "", "cacti"),
    "sunflower": thing("🌻"),
    "tulip": thing("🌷"),
    "rose": thing("🌹"),
    "mushroom": thing("🍄", "toadstool"),
    "apple": thing("🍎"),
    "pear": thing("🍐"),
    "banana": thing("🍌"),
    "lemon": thing("🍋"),
    "strawberry": thing("🍓"),
    "cherry": thing("🍒"),
    "watermelon": thing("🍉", "melon"),
    "pineapple": thing("🍍", "ananas"),
    "carrot": thing("🥕"),
    "broccoli": thing("🥦", "", "broccoli"),
    "pizza": thing("🍕"),
    "burger": thing("🍔", "hamburger"),
    "donut": thing("🍩", "doughnut"),
    "cake": thing("🎂"),
    "cheese": thing("🧀"),
    "lollipop": thing("🍭", "lolly"),
}
PLACES_AND_VEHICLES = {
    "house": thing("🏠", "home"),
    "castle": thing("🏰", "fortress"),
    "car": thing("🚗", "automobile"),
    "bus": thing("🚌"),
    "truck": thing("🚚", "lorry"),
    "bicycle": thing("🚲", "bike"),
    "train": thing("🚂", "locomotive"),
    "helicopter": thing("🚁", "chopper"),
    "airplane": thing("✈️", "plane aeroplane"),
    "rocket": thing("🚀", "spaceship"),
    "ufo": thing("🛸"),
    "sailboat": thing("⛵", "boat"),
    "volcano": thing("🌋", "", "volcanoes"),
    "mountain": thing("🗻"),
    "rainbow": thing("🌈"),
    "sun": thing("🌞"),
    "moon": thing("🌜"),
    "earth": thing("🌍", "globe planet"),
    "fire": thing("🔥", "flame"),
    "umbrella": thing("☂️"),
}
OBJECTS = {
    "heart": thing("❤️"),
    "crown": thing("👑"),
    "gift": thing("🎁", "present"),
    "balloon": thing("🎈"),
    "pumpkin": thing("🎃"),
    "robot": thing("🤖"),
    "clown": thing("🤡"),
    "smiley": thing("😀"),
    "key": thing("🔑"),
    "lock": thing("🔒", "padlock"),
    "bell": thing("🔔"),
    "book": thing("📕"),
    "pencil": thing("✏️"),
    "trophy": thing("🏆"),
    "guitar": thing("🎸"),
    "drum": thing("🥁"),
    "trumpet": thing("🎺"),
    "football": thing("🏈"),
    "basketball": thing("🏀"),
    "dress": thing("👗"),
    "shoe": thing("👟", "sneaker"),
    "hat": thing("🎩"),
    "camera": thing("📷"),
    "phone": thing("☎️", "telephone"),
    "bomb": thing("💣"),
    "diamond": thing("💎", "gem"),
    "chair": thing("🪑"),
}
THINGS = ANIMALS | PLANTS_AND_FOOD | PLACES_AND_VEHICLES | OBJECTS
WORD_OF_THING = {word: name for name, it in THINGS.items() for word in (name, *it.synonyms)}
