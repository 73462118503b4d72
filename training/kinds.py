"""What a run of the language stage knows, kind by kind: `python -m training.kinds [--count 100]`.

Wishes and questions of the phrase book, one kind after the other, in scenes of any split. A wish
counts as right where the readers of the queries see the scene it asks for, a question where greedy
writing would give its whole answer; nothing is drawn. Cheap enough to find what is not learned yet.
"""

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from blip3u_core.language.prompt import INSTRUCTION_REQUEST, QUESTION_REQUEST
from small_world import (
    comparisons,
    phrase_adds,
    phrase_edits,
    phrase_likes,
    phrase_orders,
    phrase_questions,
    phrase_several,
)
from small_world.called import called
from small_world.edits import Edit
from small_world.phrase_orders import likened_scene
from small_world.questions import Question, reply
from small_world.samples import Sample, dialogue_sample, user
from small_world.wordings import as_typed
from small_world.world import Scene

from . import llm
from .common import Run
from .llm_data import collate
from .llm_score import same_pictures, text_exact
from .scenes import render_batch
from .sequences import encode
from .vision_encoder import FeatureTower

TRIES = 3000
BATCH = 50
Maker = Callable[[random.Random, Scene], Sample | None]


def wish(make: Callable[..., Edit | None], of_one: bool = False) -> Maker:
    def sample(rng: random.Random, scene: Scene) -> Sample | None:
        old = rng.choice(scene.objects)
        about = (old, called(rng, scene, old)) if of_one else ()
        edit = make(rng, scene, *about)
        if edit is None or not edit.target.objects:
            return None
        edit = replace(edit, instruction=as_typed(rng, edit.instruction))
        request = user(INSTRUCTION_REQUEST, edit.instruction, scene)
        return dialogue_sample("edit", [request], edit.target, edit.names, False, edit.sources)

    return sample


def asked(make: Callable[..., Question | None], of_one: bool = False) -> Maker:
    def sample(rng: random.Random, scene: Scene) -> Sample | None:
        thing, about = rng.choice(scene.objects), ()
        if of_one:
            name = phrase_questions.name_of(
                rng, scene, thing, *phrase_questions.hidden(make, thing)
            )
            about = (thing, name)
        question = make(rng, scene, *about) if all(about) else None
        if question is None:
            return None
        request = user(QUESTION_REQUEST, as_typed(rng, question.text), scene)
        return dialogue_sample("question", [request, reply(question)])

    return sample


def all_kinds() -> Iterator[tuple[str, Maker]]:
    for make in phrase_edits.OF_ONE:
        yield f"edit: {make.__name__}", wish(make, of_one=True)
    of_scene = (*phrase_edits.OF_SCENE, *phrase_adds.ADDS, *phrase_likes.LIKES)
    for make in (*of_scene, phrase_orders.two_wishes, *phrase_several.OF_TWO):
        yield f"edit: {make.__name__}", wish(make)
    for make in dict.fromkeys(phrase_questions.OF_ONE):
        yield f"ask: {make.__name__}", asked(make, of_one=True)
    for make in (*phrase_questions.OF_SCENE, *dict.fromkeys(comparisons.COMPARED)):
        yield f"ask: {make.__name__}", asked(make)


def samples_of(name: str, make: Maker, count: int) -> list[Sample]:
    """At most `count` of a kind; fewer where hardly any scene allows it."""
    rng, found = random.Random(name), []
    for _ in range(TRIES):
        if len(found) == count:
            break
        sample = make(rng, likened_scene(rng, "any", rng.choice((2, 3))))
        found += [sample] if sample is not None else []
    return found


@torch.no_grad()
def rights(training: llm.LlmTraining, samples: list[Sample]) -> list[float]:
    found, tower = [], training.frozen[0]
    for first in range(0, len(samples), BATCH):
        batch = collate([encode(sample) for sample in samples[first : first + BATCH]])
        seen = training.eyes.encode_images(render_batch(batch.shown))
        states = training.hidden(batch, seen, training.read_prefix())
        if not batch.drawn:
            found += text_exact(training, batch, states)
            continue
        wanted = tower.read(tower.features(render_batch(batch.drawn)))
        heads = {name: head(states[batch.queries]) for name, head in training.cells.items()}
        read = {name: logits.argmax(-1) for name, logits in heads.items() if name in wanted}
        found += same_pictures(read, wanted)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="cases of each kind")
    args = parser.parse_args()
    training = llm.LlmTraining(FeatureTower())
    run = Run("llm", training, llm.SCHEDULE, outer=llm.OUTER)
    if not run.resume():
        parser.error(f"no run in {run.folder}; train first, or with --from-checkpoint.")
    training.load_state_dict(run.averaged_weights(), strict=False)
    for name, make in all_kinds():
        found = rights(training, samples_of(name, make, args.count))
        if found:
            print(f"{name:28} {sum(found) / len(found):.2f} of {len(found)}", flush=True)


if __name__ == "__main__":
    main()
