"""The rows of the meaning table that begin with a picture: edits, dialogues, stories."""

from collections.abc import Callable, Sequence

from benchmarks.meaning.by_hand import by_hand, by_other_hands
from benchmarks.meaning.converse import converse
from benchmarks.meaning.model import MeaningModel, Picture, caption_chat, request_chat, shown
from benchmarks.meaning.rows import (
    Report,
    counting,
    derived_rows,
    make_cases,
    never_seen,
    one_object,
    position,
    questions,
    read_all,
    riddles,
    several_objects,
)
from blip3u_core.language.prompt import INSTRUCTION_REQUEST, INTERLEAVE_REQUEST, fill_request
from small_world.dialogues import Story, descriptions, sample_chain, sample_story
from small_world.edits import Edit, reworded, sample_edit
from small_world.language import describe
from small_world.scorer import judge_edit, same_scene
from small_world.world import render, sample_scene

EDIT_KINDS = ("recolor", "replace", "add", "remove", "move", "background")

# ---------------------------------------------------------------- edits


def edit_cases(count: int) -> list[Edit]:
    """The six kinds in turn."""
    kinds = iter(EDIT_KINDS * (count // len(EDIT_KINDS) + 1))
    return make_cases("edit", count, lambda rng: sample_edit(rng, "held_out", next(kinds)))


def report_edits(
    report: Report, way: str, edits: Sequence[Edit], pictures: Sequence[Picture]
) -> None:
    scenes = read_all(pictures)
    pairs = [judge_edit(scene, edit) for scene, edit in zip(scenes, edits, strict=True)]
    asked, kept = [list(part) for part in zip(*pairs, strict=True)]
    both = [a and k for a, k in pairs]
    report.add(f"edit {way}: asked change right", 0.95, asked)
    report.add(f"edit {way}: all that was not asked stays", 0.95, kept)
    for kind in EDIT_KINDS:
        part = [right for right, edit in zip(both, edits, strict=True) if edit.kind == kind]
        report.add(f"  {way}: {kind}, both", None, part)
    shown_pictures = [[render(e.source), p] for e, p in zip(edits, pictures, strict=True)]
    report.show(f"edit {way}", [e.instruction for e in edits], shown_pictures, both)


def edit_in_context(model: MeaningModel, count: int, report: Report) -> None:
    edits = edit_cases(count)
    chats = [request_chat(INSTRUCTION_REQUEST, e.instruction, [render(e.source)]) for e in edits]
    report_edits(report, "a (in context)", edits, model.draw(chats, seed=3000))


def edit_by_flow(model: MeaningModel, count: int, report: Report) -> None:
    """Ways b and c: the planned edit of the features, and the same with the rest kept."""
    edits = edit_cases(count)
    sources = [render(edit.source) for edit in edits]
    before, after = model.plan_edits(sources, [edit.instruction for edit in edits])
    planned = [text == reworded(e) for text, e in zip(after, edits, strict=True)]
    report.add("  edit plan: target caption, every word", None, planned)
    features = model.encode(sources)
    edited = model.edit(features, before, after, seed=3000)
    report_edits(report, "b (feature flow)", edits, model.decode(edited, seed=3000))
    kept = model.redraw(edited, features, sources, seed=3000)
    report_edits(report, "c (flow, rest kept)", edits, kept)


def dialogue(model: MeaningModel, count: int, report: Report) -> None:
    """Draw, then three instructions in the same chat; the model sees its own pictures."""
    chains = make_cases("dialogue", count, lambda rng: sample_chain(rng, "held_out", 3))
    expected = [[chain[0].source, *(edit.target for edit in chain)] for chain in chains]
    chats = [caption_chat(describe(scenes[0])) for scenes in expected]
    stages: list[list[Picture]] = []
    for turn in range(4):
        if turn:
            texts = [fill_request(INSTRUCTION_REQUEST, c[turn - 1].instruction) for c in chains]
            chats = [chat.say("user", text) for chat, text in zip(chats, texts, strict=True)]
        stages.append(model.draw(chats, seed=4000 + 1000 * turn))
        chats = [shown(chat, p) for chat, p in zip(chats, stages[-1], strict=True)]
        scenes = [chain[turn] for chain in expected]
        right = [same_scene(a, b) for a, b in zip(read_all(stages[-1]), scenes, strict=True)]
        if turn < 3:
            report.add(f"  dialogue, all right after {turn} edits", None, right)
    report.add("three edits in a row by dialogue", 0.90, right)
    texts = ["; ".join(edit.instruction for edit in chain) for chain in chains]
    report.show("dialogue", texts, list(zip(*stages, strict=True)), right)


# ---------------------------------------------------------------- pictures


def reconstruction(model: MeaningModel, count: int, report: Report) -> None:
    scenes = make_cases("reconstruct", count, lambda rng: sample_scene(rng, "held_out"))
    sources = [render(scene) for scene in scenes]
    pictures = model.vary(sources, seed=5000)
    right = [same_scene(a, b) for a, b in zip(read_all(pictures), scenes, strict=True)]
    report.add("picture -> features -> picture keeps the scene", 0.98, right)
    report.show(
        "reconstruction",
        [describe(scene) for scene in scenes],
        list(zip(sources, pictures, strict=True)),
        right,
    )
    latents = model.vae_round_trip(sources)
    right = [same_scene(a, b) for a, b in zip(read_all(latents), scenes, strict=True)]
    report.add("  VAE alone keeps the scene", None, right)


def stories(model: MeaningModel, count: int, report: Report) -> None:
    """Interleaved text and pictures, a fifth of the cases: each is several pictures long."""
    cases = make_cases("story", max(1, count // 5), lambda rng: sample_story(rng, "held_out"))
    told, drawn, cards = [], [], []
    for number, story in enumerate(cases):
        chat = request_chat(INTERLEAVE_REQUEST, story.prompt)
        text, pictures = model.interleave(chat, max_pictures=4, seed=6000 + 10 * number)
        told.append(tells(text, story))
        scenes = read_all(pictures)
        drawn.append(
            len(scenes) == len(story.scenes)
            and all(same_scene(a, b) for a, b in zip(scenes, story.scenes, strict=True))
        )
        cards.append(pictures or [render(story.scenes[0])])
    both = [a and b for a, b in zip(told, drawn, strict=True)]
    report.add("  story: every sentence right, a picture after each", None, told)
    report.add("interleaved story, text and all pictures right", None, both)
    report.show("story", [story.prompt for story in cases], cards, both)


def tells(text: str, story: Story) -> bool:
    """Whether the text before each picture describes its scene, and the last part does not."""
    parts = text.split("[picture ")
    return len(parts) == len(story.scenes) + 1 and all(
        f"{told}." in part for told, part in zip(descriptions(story.scenes), parts, strict=False)
    )


GROUPS: dict[str, Callable[[MeaningModel, int, Report], None]] = {
    "one": one_object,
    "several": several_objects,
    "counting": counting,
    "position": position,
    "never_seen": never_seen,
    "derived": lambda model, count, report: derived_rows(report),
    "riddles": riddles,
    "questions": questions,
    "edit_a": edit_in_context,
    "edit_bc": edit_by_flow,
    "dialogue": dialogue,
    "stories": stories,
    "reconstruction": reconstruction,
    "converse": converse,
    "by_hand": by_hand,
    "by_other_hands": by_other_hands,
}
