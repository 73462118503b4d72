"""`python -m benchmarks.meaning.wide --checkpoint ...`: the rows of the wide world.

A model of its own (`BLIP3U_WORLD=wide`, see `training/README.md`) is measured on held-out scenes
with things, by the scorer that reads them (`small_world/wide_scorer.py`). The last rows are the
ceilings: what the VAE alone, and the tower and the decoder alone, leave of a picture.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.meaning.__main__ import markdown_table
from benchmarks.meaning.contact_sheet import save_contact_sheet
from benchmarks.meaning.model import MeaningModel, Picture, caption_chat, request_chat
from benchmarks.meaning.rows import Report, make_cases
from blip3u_core.language.prompt import INSTRUCTION_REQUEST, QUESTION_REQUEST
from blip3u_core.pipeline import Pipeline
from small_world.edits import sample_edit
from small_world.language import Caption, describe, make_caption, with_article
from small_world.scorer import same_scene, satisfies
from small_world.things import THINGS
from small_world.wide_scorer import read_wide_scene
from small_world.world import Scene, WideRandom, render, sample_scene

MODEL = Path(__file__).resolve().parents[2] / "training" / "runs-wide" / "model"


def wide(rng: random.Random) -> WideRandom:
    return WideRandom(rng.getrandbits(64))


def held_out(rng: random.Random, count: int) -> Scene | None:
    """A scene of so many objects, all of them things."""
    scene = sample_scene(wide(rng), "held_out", count)
    return scene if all(thing.shape in THINGS for thing in scene.objects) else None


def captions_of(name: str, count: int, things: int, placed: bool = False) -> list[Caption]:
    """Captions of so many things; `placed` are those that say where every one of them is."""

    def make(rng: random.Random) -> Caption | None:
        scene = held_out(rng, things)
        caption = make_caption(wide(rng), scene) if scene else None
        if caption is None or (
            placed and any(None in (o.row, o.col) for o in caption.wish.objects)
        ):
            return None
        return caption

    return make_cases(name, count, make)


def drawn(
    model: MeaningModel, report: Report, title: str, captions: Sequence[Caption]
) -> list[Scene]:
    pictures = model.draw([caption_chat(caption.text) for caption in captions], seed=1000)
    scenes = read_all(pictures)
    good = [satisfies(s, c.wish) for s, c in zip(scenes, captions, strict=True)]
    report.show(title, [c.text for c in captions], [[p] for p in pictures], good)
    return scenes


def read_all(pictures: Sequence[Picture]) -> list[Scene]:
    return [read_wide_scene(picture) for picture in pictures]


def one_thing(model: MeaningModel, count: int, report: Report) -> None:
    captions = captions_of("wide one", count, 1)
    scenes = drawn(model, report, "one thing", captions)
    right = [satisfies(s, c.wish, ("shape",)) for s, c in zip(scenes, captions, strict=True)]
    report.add("one thing", 0.95, right)
    whole = [satisfies(s, c.wish) for s, c in zip(scenes, captions, strict=True)]
    report.add("  and its size, place and background", None, whole)


def two_things(model: MeaningModel, count: int, report: Report) -> None:
    captions = captions_of("wide two", count, 2)
    scenes = drawn(model, report, "two things", captions)
    right = [satisfies(s, c.wish) for s, c in zip(scenes, captions, strict=True)]
    report.add("two things, all that is said", 0.90, right)


def place(model: MeaningModel, count: int, report: Report) -> None:
    """Whether anything at all stands where it is said to, and nowhere else; and what it is."""
    captions = captions_of("wide place", count, 1, placed=True)
    scenes = drawn(model, report, "place", captions)
    cells = [
        [o.cell for o in s.objects] == [(o.row, o.col) for o in c.wish.objects]
        for s, c in zip(scenes, captions, strict=True)
    ]
    placed = [
        satisfies(s, c.wish, ("shape", "place")) for s, c in zip(scenes, captions, strict=True)
    ]
    report.add("place of a thing", 0.95, placed)
    report.add("  something stands there and nowhere else", None, cells)


def what_is_this(model: MeaningModel, count: int, report: Report) -> None:
    scenes = make_cases("wide what", count, lambda rng: held_out(rng, 1))
    chats = [request_chat(QUESTION_REQUEST, "what is this?", [render(s)]) for s in scenes]
    answers = model.reply(chats)
    right = [
        answer == with_article(scene.objects[0].shape)
        for answer, scene in zip(answers, scenes, strict=True)
    ]
    report.add('"what is this?"', 0.95, right)
    report.show("what is this?", answers, [[render(s)] for s in scenes], right)


def replacing(model: MeaningModel, count: int, report: Report) -> None:
    """In context (way a): a thing is replaced by a thing, all else stays."""

    def make(rng: random.Random):
        edit = sample_edit(wide(rng), "held_out", "replace")
        looks = {o.look for scene in (edit.source, edit.target) for o in scene.objects}
        return edit if all(shape in THINGS for _, _, shape in looks) else None

    edits = make_cases("wide replace", count, make)
    sources = [render(edit.source) for edit in edits]
    chats = [
        request_chat(INSTRUCTION_REQUEST, edit.instruction, [source])
        for edit, source in zip(edits, sources, strict=True)
    ]
    pictures = model.draw(chats, seed=2000)
    right = [same_scene(a, e.target) for a, e in zip(read_all(pictures), edits, strict=True)]
    report.add("replace by edit, all right", 0.90, right)
    texts = [edit.instruction for edit in edits]
    report.show("replace", texts, list(zip(sources, pictures, strict=True)), right)


def ceilings(model: MeaningModel, count: int, report: Report) -> None:
    def make(rng: random.Random) -> Scene:
        return sample_scene(wide(rng), "held_out")

    scenes = make_cases("wide ceiling", count, make)
    sources = [render(scene) for scene in scenes]
    for title, pictures in (
        ("VAE alone", model.vae_round_trip(sources)),
        ("picture -> features -> picture", model.vary(sources, seed=5000)),
    ):
        read = read_all(pictures)
        report.add(f"  {title}: each object", None, objects_kept(scenes, read))
        whole = [same_scene(a, b) for a, b in zip(read, scenes, strict=True)]
        report.add(f"  {title}: the scene", None, whole)
        pairs = list(zip(sources, pictures, strict=True))
        report.show(title, [describe(scene) for scene in scenes], pairs, whole)


def truth(model: MeaningModel, count: int, report: Report) -> None:
    """The scorer itself, on rendered scenes; no model takes part."""
    scenes = make_cases("wide truth", count, lambda rng: sample_scene(wide(rng), "any"))
    right = [read_wide_scene(render(scene)) == scene for scene in scenes]
    report.add("  the scorer reads rendered scenes", 0.99, right)


def objects_kept(scenes: Sequence[Scene], read: Sequence[Scene]) -> list[bool]:
    """Of every object, whether it is read at its place as it is."""
    result = []
    for scene, seen in zip(scenes, read, strict=True):
        there = {thing.cell: thing.look for thing in seen.objects}
        result += [there.get(thing.cell) == thing.look for thing in scene.objects]
    return result


ROWS: dict[str, Callable[[MeaningModel, int, Report], None]] = {
    "one": one_thing,
    "two": two_things,
    "place": place,
    "what": what_is_this,
    "replace": replacing,
    "ceilings": ceilings,
    "truth": truth,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.meaning.wide", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=MODEL)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--cases", type=int, default=200, help="held-out cases a row")
    parser.add_argument("--steps", type=int, default=30, help="of the feature sampler")
    parser.add_argument("--decoder-steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheet", type=Path, default=None, help="where the contact sheet goes")
    parser.add_argument("--table", type=Path, default=None, help="where the table goes (Markdown)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings = {"feature_steps": options.steps, "decoder_steps": options.decoder_steps}
    model = MeaningModel(Pipeline.from_checkpoint(options.checkpoint), **settings)
    report = Report()
    for name in options.rows:
        ROWS[name](model, options.cases, report)
    table = f"{markdown_table(report)}\n"
    print("\n" + table)
    if options.table is not None:
        options.table.write_text(table)
    if options.sheet is not None and report.cards:
        save_contact_sheet(report.cards, options.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
