"""The texts that BLIP3-U is spoken to in: turns, requests and the marks of pictures.

A text names each picture it shows with `PICTURE`, in order; its one `<|image_pad|>` grows to as
many tokens as the picture has. The same constants teach blip3u-tiny (`training/`), so that it
hears what the nodes send.

Marks become special tokens, and come from here alone: what users type, what models answered and
what a file says goes through `literal` first, after which a mark in it is ordinary text.
"""

from __future__ import annotations

import re

SYSTEM_PROMPT = "You are a helpful assistant."
ROLES = ("system", "user", "assistant")

IMG = "[IMG]"  # the LLM's request for a picture; the latent queries follow it
IMAGE_PAD = "<|image_pad|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
PICTURE = f"{VISION_START}{IMAGE_PAD}{VISION_END}"  # one picture that the LLM looks at
DRAWN_PICTURE = IMG + PICTURE  # inside an interleaved answer: asked for, drawn, shown
RAW_PICTURE = "<image>"  # how a raw prompt says where a picture stands, as in the reference
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
MARKS = (IMG, IMAGE_PAD, VISION_START, VISION_END, TURN_START, TURN_END)

CAPTION_REQUEST = "Please generate image based on the following caption: {prompt}"
INSTRUCTION_REQUEST = "{pictures}\n{prompt}"
QUESTION_REQUEST = "{pictures}{prompt}"
REASON_REQUEST = (
    "{pictures}{prompt}\n"
    "Think step by step about what the picture should show, then write the final line: "
    '"Caption: " and a complete description of the picture.'
)
DESCRIBE_REQUEST = "{pictures}Describe this picture completely."
REWRITE_REQUEST = (
    "Rewrite the description after this edit, keeping all that the edit does not mention: {prompt}"
)
INTERLEAVE_ORDER = "\nTell it in text and pictures. Write [IMG] where a picture belongs."
INTERLEAVE_REQUEST = "{pictures}{prompt}" + INTERLEAVE_ORDER

MARKED_INTERLEAVE_REQUEST = (
    "{pictures}{prompt}\nTell it in text and pictures. Where a picture belongs, write a complete "
    "description of it between <picture> and </picture>."
)

CONVERSE_ORDERS = (
    "You can show pictures. To show a new picture, write a complete description of it between "
    "<picture> and </picture>. To change the last picture, write between <edit> and </edit> a "
    "complete description of the whole picture as it is after the change, repeating all that "
    "stays. Answer questions in words alone."
)

CAPTION_MARK = "Caption: "  # begins the last line of a reasoning
MARKED_CAPTION_END = "</picture>"
MARKED_EDIT_END = "</edit>"  # the same for a changed picture, `<edit>` before it


def fill_request(request: str, prompt: str = "", num_pictures: int = 0) -> str:
    """One of the `..._REQUEST` texts, with the user's words and the marks of the pictures."""
    return request.format(prompt=literal(prompt), pictures=PICTURE * num_pictures)


_JOINER = "\N{WORD JOINER}"  # invisible; inside a mark it says that the mark is text
_MARK = re.compile("(" + "|".join(map(re.escape, MARKS)) + ")")
_LITERAL_MARK = re.compile(
    "|".join(
        re.escape(mark[:place] + _JOINER + mark[place:])
        for mark in MARKS
        for place in range(1, len(mark))
    )
)
_ORDER = re.compile(f"({re.escape(INTERLEAVE_ORDER)}\\Z)")
_ORDER_OR_PICTURE = re.compile(f"{_ORDER.pattern[:-1]}|(?:{re.escape(IMG)})?{re.escape(PICTURE)})")


def literal(text: str) -> str:
    """Words in which no mark acts. Twice is the same as once."""
    return _MARK.sub(lambda mark: mark[0][0] + _JOINER + mark[0][1:], text)


def readable(text: str) -> str:
    """Literal words as they were typed."""
    return _LITERAL_MARK.sub(lambda mark: mark[0].replace(_JOINER, ""), text)


def literal_turn(text: str, num_pictures: int) -> str:
    """A turn of a file: marks act where its pictures stand and in our own request for a story."""
    pieces = (_ORDER_OR_PICTURE if num_pictures else _ORDER).split(text)
    return "".join(piece if i % 2 else literal(piece) for i, piece in enumerate(pieces))


def join_words(before: str, after: str) -> str:
    """Two texts as one, with no new mark where they meet."""
    for mark in MARKS:
        for place in range(1, len(mark)):
            if before.endswith(mark[:place]) and after.startswith(mark[place:]):
                return before + _JOINER + after
    return before + after


def split_marks(text: str) -> list[str]:
    """Words and marks by turns, words first and last (maybe empty), still literal."""
    return _MARK.split(text)


def open_turn_text(role: str, text: str = "") -> str:
    """A turn that the LLM goes on writing: no end mark."""
    return f"{TURN_START}{role}\n{text}"


def turn_text(role: str, text: str) -> str:
    """A whole turn, as the chat template writes it."""
    return f"{open_turn_text(role, text)}{TURN_END}\n"


def dialogue_text(turns: list[tuple[str, str]], answer_start: str | None = "") -> str:
    """The text of a dialogue up to where the LLM goes on.

    Args:
        turns: (role, text) in order; the usual system turn comes first unless they bring their own.
        answer_start: the first words of the assistant's new turn; None opens no turn.
    """
    if not turns or turns[0][0] != "system":
        turns = [("system", SYSTEM_PROMPT), *turns]
    opened = "" if answer_start is None else open_turn_text("assistant", answer_start)
    return "".join(turn_text(role, text) for role, text in turns) + opened


def caption_text(prompt: str) -> str:
    """The text before `IMG` for a caption.

    Source: inference.py of the reference at 4689ec38 (the prompt it wraps each caption in).
    """
    return dialogue_text([("user", fill_request(CAPTION_REQUEST, prompt))])


def instruction_text(instruction: str, num_pictures: int) -> str:
    """The text before `IMG` for an instruction about pictures (the reference's Mode C)."""
    return dialogue_text([("user", fill_request(INSTRUCTION_REQUEST, instruction, num_pictures))])


def question_text(question: str, num_pictures: int) -> str:
    """The text before the answer to a question about pictures."""
    return dialogue_text([("user", fill_request(QUESTION_REQUEST, question, num_pictures))])
