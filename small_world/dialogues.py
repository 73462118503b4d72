"""Dialogues and interleaved stories; and the mix of all that blip3u-tiny is taught."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from blip3u_core.language.prompt import (
    CAPTION_REQUEST,
    DESCRIBE_REQUEST,
    DRAWN_PICTURE,
    IMG,
    INSTRUCTION_REQUEST,
    INTERLEAVE_REQUEST,
    PICTURE,
    QUESTION_REQUEST,
)
from small_world.comparisons import compared_sample
from small_world.conversations import (
    KNOWN,
    conversation_sample,
    free_caption_sample,
    free_edit_sample,
    free_question_sample,
    related_caption_sample,
    whole_caption_sample,
)
from small_world.edits import (
    Edit,
    edit_plan_sample,
    edit_sample,
    edit_scene,
    reconstruct_sample,
)
from small_world.group_edits import group_edit_sample
from small_world.hard_cases import (
    emptied_sample,
    hard_question_sample,
    kept_sample,
    place_edit_sample,
    redrawn_sample,
)
from small_world.joined_captions import joined_caption_sample
from small_world.language import describe, make_caption, reworded_order, sample_caption, typed
from small_world.leaning import leaning_sample
from small_world.phrase_captions import phrase_caption_sample
from small_world.phrase_orders import phrase_edit_sample
from small_world.phrase_questions import phrase_question_sample
from small_world.phrase_talk import phrase_talk_sample
from small_world.questions import ask, question_sample, reply
from small_world.riddles import knowledge_sample, riddle_sample
from small_world.samples import (
    Sample,
    Turn,
    assistant,
    caption_sample,
    dialogue_sample,
    drawn_turn,
    user,
)
from small_world.terse import tersely
from small_world.typos import mistyped
from small_world.world import Object, Scene, WideRandom, WideShapesRandom, sample_scene

UNDO = ("undo that", "undo the last change", "go back one step", "take that back")
GREETINGS = (
    ("hello", "hello! tell me what to draw, or show me a picture."),
    ("hi", "hello! tell me what to draw, or show me a picture."),
    ("who are you?", "i am blip3-u tiny. i see and draw a small world of shapes."),
    ("what can you do?", "i draw shapes, answer questions about them, and change them."),
    ("thank you", "you are welcome!"),
    ("what can you draw?", "circles, squares, triangles, stars, crosses and rings."),
)
DESCRIBE_QUESTIONS = (
    "describe this picture.",
    "describe the picture.",
    "what do you see?",
    "what is in the picture?",
    "what does the picture show?",
)
FIRST_WORDS = ("once there was ", "first there was ", "in the beginning there was ")
NEXT_WORDS = ("then ", "after that ", "next ")
STORY_PROMPTS = ("a story: {}", "tell a story: {}", "a picture book: {}", "{}")


@dataclass(frozen=True)
class Story:
    """What is asked for, and sentences with the scene that each of them tells."""

    prompt: str
    sentences: tuple[str, ...]
    scenes: tuple[Scene, ...]


def chain_of_edits(rng: random.Random, scene: Scene, split: str, length: int) -> list[Edit] | None:
    """Edits one after the other, all scenes in the split."""
    edits: list[Edit] = []
    for _ in range(length):
        edit = edit_scene(rng, scene, split)
        if edit is None:
            return None
        edits.append(edit)
        scene = edit.target
    return edits


def sample_chain(rng: random.Random, split: str, length: int) -> list[Edit]:
    while True:
        edits = chain_of_edits(rng, sample_scene(rng, split), split, length)
        if edits is not None:
            return edits


def question_turns(rng: random.Random, scene: Scene, probability: float) -> Iterator[Turn]:
    if rng.random() < probability:
        question = ask(rng, scene)
        yield user(QUESTION_REQUEST, question.text)
        yield reply(question)


def dialogue_turn(rng: random.Random, instruction: str) -> Turn:
    """An instruction about the picture that the chat already holds, in whatever template."""
    request = rng.choices((INSTRUCTION_REQUEST, "{prompt}", CAPTION_REQUEST), (4, 4, 2))[0]
    return user(request, instruction)


def dialogue_of_edits(rng: random.Random, split: str = "train") -> Sample:
    """Draw, ask, edit, ask, edit, undo; cut so that it ends with a drawing or an answer."""
    num_edits = rng.choice((1, 2, 3, 3))
    edits = sample_chain(rng, split, num_edits)
    ending = rng.choices(("edit", "undo", "question"), (6, 2, 2))[0]
    if rng.random() < 0.2:  # the user brings the picture, and asks about it first
        question = ask(rng, edits[0].source)
        turns = [user(QUESTION_REQUEST, question.text, edits[0].source), reply(question)]
    else:
        caption = make_caption(rng, edits[0].source)
        turns = [user(CAPTION_REQUEST, caption.text), drawn_turn(edits[0].source)]
    for edit in edits[:-1]:
        turns += question_turns(rng, edit.source, 0.25)
        turns += [dialogue_turn(rng, edit.instruction), drawn_turn(edit.target)]
    last = edits[-1]
    turns += question_turns(rng, last.source, 0.25)
    turns.append(dialogue_turn(rng, last.instruction))
    if ending == "edit":
        return dialogue_sample("dialogue", turns, last.target, last.names)
    turns.append(drawn_turn(last.target))
    if ending == "undo":
        turns.append(dialogue_turn(rng, typed(rng, rng.choice(UNDO))))
        return dialogue_sample("dialogue", turns, last.source)
    turns += question_turns(rng, last.target, 1.0)
    return dialogue_sample("dialogue", turns)


# ---------------------------------------------------------------- stories


def sample_story(rng: random.Random, split: str = "train") -> Story:
    """A first scene and one or two changes; the prompt names them, the story tells them."""
    edits = sample_chain(rng, split, rng.choice((1, 1, 2)))
    scenes = (edits[0].source, *(edit.target for edit in edits))
    changes = [plain_instruction(edit) for edit in edits]
    prompt = rng.choice(STORY_PROMPTS).format("; ".join([describe(scenes[0]), *changes]))
    told = descriptions(scenes)
    sentences = [f"{rng.choice(FIRST_WORDS)}{told[0]}."]
    sentences += [f"{rng.choice(NEXT_WORDS)}there was {text}." for text in told[1:]]
    return Story(typed(rng, prompt), tuple(sentences), scenes)


def descriptions(scenes: Sequence[Scene]) -> list[str]:
    """Each scene as the description before it, rewritten."""
    order: Sequence[Object] = scenes[0].objects
    result = []
    for scene in scenes:
        order = reworded_order(order, scene)
        result.append(describe(scene, order))
    return result


def plain_instruction(edit: Edit) -> str:
    text = edit.instruction.rstrip(".")
    return text[0].lower() + text[1:]


def story_text(story: Story, num_pictures: int) -> str:
    """The assistant's words up to the picture after the first `num_pictures` ones."""
    return "".join(sentence + DRAWN_PICTURE for sentence in story.sentences[:num_pictures])


def story_sample(rng: random.Random, split: str = "train") -> Sample:
    """Most of them learn to write the story, which is harder, and more so if it is long."""
    story = sample_story(rng, split)
    if len(story.scenes) == 2 and rng.random() < 0.7:
        story = sample_story(rng, split)
    request = user(INTERLEAVE_REQUEST, story.prompt)
    if rng.random() < 0.8:
        text = story_text(story, len(story.scenes)) + "the end."
        return dialogue_sample("story", [request, assistant(text, *story.scenes)])
    drawn = rng.randrange(len(story.scenes))
    text = story_text(story, drawn) + story.sentences[drawn]
    turns = [request, assistant(text, *story.scenes[:drawn])]
    return dialogue_sample("story", turns, story.scenes[drawn])


# ---------------------------------------------------------------- the mix


def describe_sample(rng: random.Random, split: str = "train") -> Sample:
    """The canonical description, asked for as EditPlan does or as people do."""
    scene = sample_scene(rng, split)
    request = user(DESCRIBE_REQUEST, "", scene)
    if rng.random() < 0.35:
        request = user(QUESTION_REQUEST, rng.choice(DESCRIBE_QUESTIONS), scene)
    return dialogue_sample("describe", [request, assistant(describe(scene))])


def sample_text_to_image(rng: random.Random, split: str = "train") -> Sample:
    return caption_sample("caption", sample_caption(rng, split))


def small_talk_sample(rng: random.Random, split: str = "train") -> Sample:
    if rng.random() < 0.75:
        return knowledge_sample(rng)
    said, answer = rng.choice(GREETINGS)
    return dialogue_sample("talk", [user(QUESTION_REQUEST, typed(rng, said)), assistant(answer)])


SAMPLERS: dict[str, Callable[[random.Random, str], Sample]] = {
    "caption": sample_text_to_image,
    "edit": edit_sample,
    "reconstruct": reconstruct_sample,
    "question": question_sample,
    "describe": describe_sample,
    "edit_plan": edit_plan_sample,
    "riddle": riddle_sample,
    "dialogue": dialogue_of_edits,
    "story": story_sample,
    "talk": small_talk_sample,
    "free_caption": free_caption_sample,
    "free_edit": free_edit_sample,
    "free_question": free_question_sample,
    "converse": conversation_sample,
    "related": related_caption_sample,
    "whole_caption": whole_caption_sample,
    "hard_question": hard_question_sample,
    "emptied": emptied_sample,
    "redrawn": redrawn_sample,
    "kept": kept_sample,
    "place_edit": place_edit_sample,
    "joined": joined_caption_sample,
    "group_edit": group_edit_sample,
    "compared": compared_sample,
    "leaning": leaning_sample,
    "phrase_caption": phrase_caption_sample,
    "phrase_edit": phrase_edit_sample,
    "phrase_question": phrase_question_sample,
    "phrase_talk": phrase_talk_sample,
}
MIX = {
    "caption": 7.0,
    "edit": 16.0,
    "reconstruct": 0.3,
    "question": 7.0,
    "describe": 0.7,
    "edit_plan": 9.0,
    "riddle": 5.0,
    "dialogue": 14.0,
    "story": 7.0,
    "talk": 0.3,
    "free_caption": 6.0,
    "free_edit": 8.0,
    "free_question": 5.0,
    "converse": 22.0,
    "related": 3.0,
    "whole_caption": 4.0,
    "hard_question": 8.0,
    "emptied": 3.0,
    "redrawn": 3.0,
    "kept": 7.0,
    "place_edit": 6.0,
    "joined": 12.0,
    "group_edit": 24.0,
    "compared": 12.0,
    "leaning": 32.0,
    "phrase_caption": 90.0,
    "phrase_edit": 130.0,
    "phrase_question": 46.0,
    "phrase_talk": 100.0,
}


SLIPS, TELEGRAMS = 0.12, 0.12
TYPED_FREELY = frozenset(
    ("free_caption", "free_edit", "free_question", "converse", "joined", "group_edit", "leaning",
     "phrase_caption", "phrase_edit", "phrase_question", "phrase_talk")
)  # fmt: skip


# In the wide world the other kinds stay with the shapes: they would paint a cat red.
SPEAKS_OF_THINGS = frozenset(
    ("caption", "edit", "reconstruct", "question", "describe", "edit_plan", "dialogue",
     "free_caption", "related", "whole_caption")
)  # fmt: skip


def sample_any(
    rng: random.Random, split: str = "train", mix: dict[str, float] | None = None
) -> Sample:
    """One sample of the mix (kind -> weight; `MIX` by default)."""
    mix = mix or MIX
    kind = rng.choices(tuple(mix), tuple(mix.values()))[0]
    if isinstance(rng, WideRandom) and kind not in SPEAKS_OF_THINGS:
        rng = WideShapesRandom(rng.getrandbits(64))
    sample = SAMPLERS[kind](rng, split)
    if kind in TYPED_FREELY and rng.random() < TELEGRAMS:
        sample = tersely(rng, sample)
    slips = kind in TYPED_FREELY and KNOWN not in sample.text and rng.random() < SLIPS
    return mistyped(rng, sample) if slips else sample


def corpus(rng: random.Random, num_samples: int = 30_000) -> Iterator[str]:
    """The texts that the tokenizer learns from, without the marks that are tokens of their own."""
    for _ in range(num_samples):
        text = sample_any(rng).text
        yield text.replace(PICTURE, " ").replace(IMG, " ")
