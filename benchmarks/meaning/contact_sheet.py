"""A sheet of pictures with what was asked below each; failures have a red frame."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL_WIDTH, TEXT_HEIGHT, LINE_HEIGHT, MARGIN = 150, 76, 12, 11
GOOD, BAD = (70, 160, 90), (210, 50, 50)


@dataclass(frozen=True)
class Card:
    """Pictures that belong together, left to right (source and edited, a dialogue)."""

    title: str
    text: str
    pictures: tuple[np.ndarray, ...]  # (128, 128, 3) uint8 each
    good: bool


def card_image(card: Card) -> Image.Image:
    side = card.pictures[0].shape[0]
    width = CELL_WIDTH * len(card.pictures)
    image = Image.new("RGB", (width, side + 2 * MARGIN + TEXT_HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    for index, picture in enumerate(card.pictures):
        x = index * CELL_WIDTH + MARGIN
        frame = (x - 3, MARGIN - 3, x + side + 2, MARGIN + side + 2)
        last = index == len(card.pictures) - 1
        draw.rectangle(frame, outline=(GOOD if card.good else BAD) if last else "gray", width=2)
        image.paste(Image.fromarray(picture), (x, MARGIN))
    lines = [card.title, *wrap(card.text, 26 * len(card.pictures))][: TEXT_HEIGHT // LINE_HEIGHT]
    for number, line in enumerate(lines):
        color = "gray" if number == 0 else "black"
        place = MARGIN, side + MARGIN + 8 + number * LINE_HEIGHT
        draw.text(place, line, fill=color, font=font)
    return image


def contact_sheet(cards: list[Card], columns: int = 8) -> Image.Image:
    """Lay the cards out in rows of `columns` cells; a card of several pictures takes several."""
    images = [card_image(card) for card in cards]
    rows: list[list[Image.Image]] = [[]]
    for image in images:
        if sum(other.width for other in rows[-1]) + image.width > columns * CELL_WIDTH:
            rows.append([])
        rows[-1].append(image)
    height = images[0].height
    sheet = Image.new("RGB", (columns * CELL_WIDTH, height * len(rows)), "white")
    for number, row in enumerate(rows):
        x = 0
        for image in row:
            sheet.paste(image, (x, number * height))
            x += image.width
    return sheet


def save_contact_sheet(cards: list[Card], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(cards).save(path, quality=88)
