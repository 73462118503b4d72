"""What is learned last, for training alone: close questions, unusual ones, emptied pictures.

The benchmark's held-out conversations do not sample from here, so their cases stay the same.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from blip3u_core.language.prompt import INSTRUCTION_REQUEST, QUESTION_REQUEST
from small_world.conversations import (
    Step,
    ask_step,
    back_step,
    chat_step,
    draw_step,
    drawing,
    edit_step,
    ended,
    refuse_step,
    say,
)
from small_world.edits import Edit, edit_plan_of, edit_scene, sample_edit
from small_world.free_captions import whole_caption
from small_world.free_edits import CLEARINGS, KEEPING, change_background, free_edit, politely
from small_world.free_questions import (
    EMPTY,
    are_all,
    ask_count,
    ask_lists,
    ask_of_nothing,
    ask_setting,
    is_related,
    is_so,
)
from small_world.kinds import without_known
from small_world.language import describe, look_words
from small_world.questions import (
    Question,
    cell_of,
    is_at,
    is_background,
    reply,
    yes_no,
)
from small_world.questions import ask_count as ask_count_plainly
from small_world.questions import is_related as is_related_plainly
from small_world.samples import Sample, Turn, dialogue_sample, user
from small_world.wordings import UNKNOWN, as_typed
from small_world.world import BACKGROUNDS, COLORS, SHAPES, Scene, sample_scene, split_of

KINDS_OF_THINGS = ("animals", "people", "fruits", "cars", "letters", "numbers", "plants", "words")
LOOKING = ("look closely: {}", "tell me: {}", "question: {}", "one question: {}", "answer this: {}",
           "look at the picture. {}", "i wonder, {}", "and now tell me, {}", "quick: {}",
           "in one word: {}", "answer in one word: {}", "hm, {}", "so {}", "well, {}",
           "{} (one word)", "{} answer briefly.", "{} answer in one word.",
           "{} keep it short.", "{} only the answer, please.")  # fmt: skip
TAGS = ("tags, separated by commas", "list tags, separated by commas", "give me tags",
        "tags for this picture, separated by commas", "describe it with tags (comma separated)",
        "keywords, separated by commas", "write keywords for it", "comma separated tags, please",
        "tag this picture", "list what you see, separated by commas")  # fmt: skip
SENTENCES = ("describe it in one sentence", "what is going on here?", "caption this",
             "write a caption", "write a caption for this picture",
             "describe everything you see", "say what is shown", "give a short description",
             "describe the image in detail", "explain what you see")  # fmt: skip

STAYING = ("draw it again", "draw the picture again", "redraw it", "redo the picture", "once more",
           "show it again", "the same picture again", "one more time", "another try", "try again",
           "repeat the picture", "draw exactly that again", "let me see it once more",
           "keep everything", "keep it", "it can stay like this", "everything stays as it is",
           "don't touch anything", "leave it", "no changes", "i like it so, do not change it",
           "do nothing", "let all of it be as it is", "stay with this one")  # fmt: skip


# ---------------------------------------------------------------- questions


def is_nothing(rng: random.Random, scene: Scene) -> Question:
    return yes_no(rng.choice(EMPTY), not scene.objects, counted=tuple(map(cell_of, scene.objects)))


CLOSE: tuple[Callable[[random.Random, Scene], Question | None], ...] = (
    *(is_background,) * 4, *(ask_setting,) * 4, *(is_related_plainly,) * 3, *(is_related,) * 2,
    *(ask_count_plainly,) * 4, ask_count, *(ask_lists,) * 4, *(are_all,) * 2, is_at, is_so,
    is_nothing,
)  # fmt: skip


def close_question(rng: random.Random, scene: Scene) -> Question:
    """Where guessing is cheap: yes and no come as often, and so does each count."""
    if not scene.objects:
        return rng.choice((is_background, ask_setting, is_nothing, ask_of_nothing))(rng, scene)
    form, wanted = rng.choice(CLOSE), rng.choice(("yes", "no"))
    number = rng.choice(("one", "one", "two", "two", "three"))
    question = None
    for _ in range(12):
        question = form(rng, scene) or question
        if question and question.answer in (wanted, number, *COLORS, *SHAPES):  # of a list: one
            break
    return question or is_background(rng, scene)


def tags(rng: random.Random, scene: Scene) -> Question:
    return Question(
        rng.choice(TAGS), ", ".join([*map(look_words, scene.objects), scene.background])
    )


def sentence(rng: random.Random, scene: Scene) -> Question:
    return Question(rng.choice(SENTENCES), describe(scene))


def of_another_world(rng: random.Random, scene: Scene) -> Question:
    """Of what is not there it is said so, of a kind of things as of a single one."""
    if rng.random() < 0.4:
        thing = rng.choice(without_known(rng, UNKNOWN))
        form = rng.choice(("where is the {}?", "what color is the {}?", "how big is the {}?",
                           "which color does the {} have?"))  # fmt: skip
        return Question(form.format(thing), f"there is no {thing}")
    kind = rng.choice(KINDS_OF_THINGS)
    if rng.random() < 0.35:
        form = rng.choice(("how many {} are there?", "how many {} do you see?", "count the {}"))
        return Question(form.format(kind), "zero", counted=())
    if rng.random() < 0.3:
        form = rng.choice(("are there any {}?", "do you see {}?", "are there {} in the picture?"))
        return yes_no(form.format(kind), False, counted=())
    form = rng.choice(("which {} do you see?", "which {} are there?", "what {} are in it?",
                       "which {} are in the picture?", "name the {}"))  # fmt: skip
    return Question(form.format(kind), "none")


def unusual_question(rng: random.Random, scene: Scene) -> Question:
    form = rng.random()
    if form < 0.25:
        question = rng.choice((tags, sentence))(rng, scene)
    elif form < 0.55:
        question = of_another_world(rng, scene)
    else:
        question = close_question(rng, scene)
        question = replace(question, text=rng.choice(LOOKING).format(question.text))
    return question


def hard_question(rng: random.Random, scene: Scene) -> Question:
    question = (unusual_question if rng.random() < 0.3 else close_question)(rng, scene)
    return replace(question, text=as_typed(rng, question.text))


def one_color_scene(rng: random.Random, split: str) -> Scene:
    """Several objects of one colour, of which "are all ...?" is true."""
    while True:
        scene = sample_scene(rng, split, rng.choice((2, 3)))
        color = scene.objects[0].color
        scene = scene.with_objects(tuple(replace(o, color=color) for o in scene.objects))
        if split in ("any", split_of(scene)):
            return scene


def hard_question_sample(rng: random.Random, split: str = "train") -> Sample:
    """One to three questions about a picture that is shown, or was drawn just before."""
    kind = rng.choices(("any", "empty", "one color"), (7.8, 1.2, 1))[0]
    scene = sample_scene(rng, split)
    if kind == "empty":
        scene = Scene(rng.choice(tuple(BACKGROUNDS)), ())
    if kind == "one color":
        scene = one_color_scene(rng, split)
    questions = [hard_question(rng, scene) for _ in range(rng.choice((1, 1, 2, 3)))]
    if kind == "one color":
        question = are_all(rng, scene)
        questions[0] = replace(question, text=as_typed(rng, question.text))
    turns: list[Turn] = []
    if scene.objects and rng.random() < 0.4:
        turns = [say(whole_caption(rng, scene).text), drawing("", scene)]
        for question in questions:
            turns += [say(question.text), reply(question)]
        return dialogue_sample("converse", turns)
    for number, question in enumerate(questions):
        shown = () if number else (scene,)
        turns += [user(QUESTION_REQUEST, question.text, *shown), reply(question)]
    return dialogue_sample("question", turns)


# ---------------------------------------------------------------- edits


def place_edit(rng: random.Random, scene: Scene, split: str) -> Edit:
    """An edit by which something comes, goes or stands elsewhere, in whatever words."""
    while True:
        if rng.random() < 0.5:
            edit = edit_scene(rng, scene, split, rng.choice(("move", "add")))
        else:
            edit = free_edit(rng, scene, split)
        if edit is not None and edit.kind in ("move", "add", "remove", "replace"):
            return edit


def place_edit_sample(rng: random.Random, split: str = "train") -> Sample:
    """Of a picture that is shown or was drawn; or of its description, in plain words."""
    form = rng.choices(("shown", "drawn", "plan"), (3, 4, 2))[0]
    if form == "plan":
        return edit_plan_of(sample_edit(rng, split, rng.choice(("move", "move", "add"))))
    scene = sample_scene(rng, split, rng.choice((2, 3, 3)) if rng.random() < 0.8 else 1)
    edit = place_edit(rng, scene, split)
    if form == "shown":
        request = user(INSTRUCTION_REQUEST, edit.instruction, scene)
        return dialogue_sample("edit", [request], edit.target, edit.names)
    turns = [say(whole_caption(rng, scene).text), drawing("", scene)]
    if edit.target.objects and rng.random() < 0.4:
        turns += [say(edit.instruction), drawing("", edit.target)]
        edit = place_edit(rng, edit.target, split)
    turns.append(user(rng.choice((INSTRUCTION_REQUEST, "{prompt}")), edit.instruction))
    return dialogue_sample("dialogue", turns, edit.target, edit.names)


# ---------------------------------------------------------------- conversations


def cleared_step(rng: random.Random, scene: Scene) -> Step:
    words = as_typed(rng, politely(rng, rng.choice(CLEARINGS)))
    empty = scene.with_objects(())
    return Step("edit", say(words), drawing("", empty), empty, anew=True)


def background_step(rng: random.Random, scene: Scene) -> Step:
    edit = change_background(rng, scene)
    words = as_typed(rng, edit.instruction)
    return Step("edit", say(words), drawing("", edit.target), edit.target)


def picture_step(rng: random.Random, split: str, count: int | None, after_picture: bool) -> Step:
    """A new picture of so many objects, all said."""
    while True:
        step = draw_step(rng, split, True, after_picture)
        if count in (None, len(step.scene.objects)):
            return step


def emptied_sample(rng: random.Random, split: str = "train") -> Sample:
    """A picture is cleared; what was there does not come back but by undoing."""
    steps = [picture_step(rng, split, None, False)]
    if rng.random() < 0.35:
        steps.append(edit_step(rng, steps[-1].scene, split))
    scenes = [step.scene for step in steps]
    first = len(steps)
    steps.append(cleared_step(rng, scenes[-1]))
    scenes.append(steps[-1].scene)
    if rng.random() < 0.4:
        steps.append(background_step(rng, scenes[-1]))
        scenes.append(steps[-1].scene)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        kind = rng.choices(("edit", "ask", "hard", "undo", "draw", "chat"), (5, 1, 1, 0.5, 1, 0.5))
        match kind[0]:
            case "edit":
                step = edit_step(rng, scenes[-1], split)
            case "ask":
                step = ask_step(rng, scenes[-1])
            case "hard":
                question = hard_question(rng, scenes[-1])
                step = Step("ask", say(question.text), reply(question))
            case "undo" if len(scenes) > 1:
                step = back_step(rng, scenes[-2], scenes[-1])
                scenes = scenes[:-2]
            case "draw":
                step = picture_step(rng, split, None, True)
                scenes = []
            case _:
                step = chat_step(rng) if rng.random() < 0.3 else refuse_step(rng)
        if step.scene is not None:
            scenes.append(step.scene)
        steps.append(step)
    return ended(rng, steps, [i for i in range(first, len(steps)) if steps[i].scene is not None])


def redrawn_sample(rng: random.Random, split: str = "train") -> Sample:
    """After a picture another one is asked for, of which nothing was in the first."""
    steps = [picture_step(rng, split, rng.choice((1, 2, 3)), False)]
    while rng.random() < 0.4 and len(steps) < 3:
        now = next(step.scene for step in reversed(steps) if step.scene is not None)
        steps.append(edit_step(rng, now, split) if rng.random() < 0.6 else ask_step(rng, now))
    steps.append(picture_step(rng, split, rng.choice((1, 2, 2, 3, 3, 3)), True))
    return ended(rng, steps, [len(steps) - 1])


def kept_sample(rng: random.Random, split: str = "train") -> Sample:
    """The newest picture is to be drawn once more, or to stay as it is."""
    steps = [picture_step(rng, split, None, False)]
    while rng.random() < 0.55 and len(steps) < 4:
        now = next(step.scene for step in reversed(steps) if step.scene is not None)
        steps.append(edit_step(rng, now, split) if rng.random() < 0.6 else ask_step(rng, now))
    now = next(step.scene for step in reversed(steps) if step.scene is not None)
    words = as_typed(rng, politely(rng, rng.choice(rng.choice((KEEPING, STAYING)))))
    steps.append(Step("edit", say(words), drawing("", now), now))
    return ended(rng, steps, [len(steps) - 1])
