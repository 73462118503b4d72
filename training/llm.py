"""Stage 4: language model, latent queries and DiT together, on features of the frozen tower.

Learned at once: the text that the model writes, the velocity of the features that it draws, and
(for training only) what every picture token and every query says of its cell.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip3u_core.features.nextdit import NextDiT
from blip3u_core.language.config import TextConfig
from blip3u_core.language.text_model import TextModel, rope_table, rotate_halves
from small_world.dialogues import MIX
from small_world.world import Scene

from .common import RUNS, WIDE, Schedule, StepRng, read_safetensors
from .dit_routing import DitRoutes, SharedPrefix
from .llm_config import DIT, NUM_QUERIES, language_config
from .llm_data import EMPTY, Batch, blank_sequence, collate, sample_sequences, shared_prefix
from .scenes import (
    augment,
    render_batch,
)
from .vision_encoder import FeatureTower, VisionEncoder, cell_heads, cell_loss

SCHEDULE = Schedule(
    steps=46000, lr=9e-4, batch=36, warmup=60, ema=0.97, flat=0.97, save_every=20, muon=True
)
if WIDE:
    SCHEDULE = replace(SCHEDULE, steps=2600, lr=9e-4, flat=0.5)
OUTER = ("embed_tokens", "heads.", "cells.", "kept.", "regress.")

# The first steps teach the short forms, which cost least, those from LONG_FROM on all of them.
SHORT_MIX = {
    "caption": 10.0,
    "edit": 11.0,
    "reconstruct": 1.0,
    "question": 8.0,
    "describe": 5.0,
    "edit_plan": 2.0,
    "riddle": 4.0,
    "dialogue": 1.0,
    "story": 0.5,
    "talk": 0.5,
}
LONG_FROM = 1500
# What the wide world asks of a model that begins as blip3u-tiny (`widen.py`): things, most of all.
WIDE_MIX = {
    "caption": 14.0,
    "free_caption": 6.0,
    "whole_caption": 6.0,
    "related": 5.0,
    "edit": 16.0,
    "reconstruct": 1.0,
    "question": 14.0,
    "describe": 4.0,
    "edit_plan": 3.0,
    "dialogue": 6.0,
    "free_edit": 3.0,
    "free_question": 3.0,
    "converse": 6.0,
    "hard_question": 3.0,
    "emptied": 1.5,
    "redrawn": 1.5,
    "story": 1.0,
    "riddle": 1.0,
    "talk": 0.3,
}
AGAIN_FROM = 45200  # a restored model goes on from here
WEIGHTS = {"text": 1.0, "flow": 1.0, "regress": 1.0, "cells": 0.4, "seen": 0.3, "kept": 0.5}
WEIGHTS |= {"copied": 0.15, "routed": 0.2, "described": 0.15, "meant": 0.15}
WEIGHTS |= {
    "grounded": 0.15,
    "compared": 0.15,
    "aimed": 0.6,
    "repeated": 0.15,
    "touched": 0.5,
    "counted": 2.0,
    "told": 0.15,
    "named": 0.3,
    "settled": 0.4,
    "aimed_late": 0.6,
    "touched_late": 0.5,
    "settled_late": 0.4,
}
if WIDE:
    WEIGHTS["cells"] = 1.0
CHANGED_WEIGHT = 4.0  # of the cells that an edit changes, against 1 for empty ones
OBJECT_WEIGHT = 2.5  # of all others that hold something
# (layer, head) of the text model whose attention is taught where to look
HEADS = {
    "grounded": (1, 1),
    "told": (1, 2),
    "compared": (1, 4),
    "copied": (3, 0),
    "meant": (3, 3),
    "aimed": (3, 4),
    "described": (4, 0),
    "touched": (4, 1),
    "counted": (4, 2),
    "named": (4, 3),
    "settled": (5, 3),
    "repeated": (6, 1),
    # the same once more, for what takes longer to find: "two cells right of the lower ring"
    "aimed_late": (4, 4),
    "touched_late": (5, 4),
    "settled_late": (6, 3),
}
LATE = "_late"
OF_QUERIES = ("copied", "named", "touched", "settled")  # targets of a drawing's queries
NULL_SHARE = 0.1
NOISE_DRAWS = 2
CHUNKS = 6  # parts of a step, each of samples of about one length


class LlmTraining(nn.Module):
    """All that is trained; names as published, but for the heads and `eyes`, the encoder."""

    def __init__(self, tower: FeatureTower, config: dict | None = None):
        super().__init__()
        config = config or language_config()
        self.text = TextConfig.from_dict(config)
        width = self.text.hidden_size
        self.model = TextModel(self.text)
        self.eyes = VisionEncoder(config)
        self.latent_queries = nn.Parameter(torch.randn(1, NUM_QUERIES, width) * 0.1)
        self.dit = NextDiT(DIT)
        self.regress = nn.Linear(width, DIT.in_channels)
        self.kept = nn.Linear(width, DIT.in_channels)
        self.cells = cell_heads(width)
        self.frozen = (tower,)  # not a child: it is not trained
        nn.init.normal_(self.model.embed_tokens.weight, std=0.06)
        begin_dit(self.dit)
        self.routes = DitRoutes(self.dit)
        self.watched: dict[int, tuple[Tensor, tuple[Tensor, Tensor], Tensor]] = {}
        for layer in {layer for layer, _ in HEADS.values()}:
            self.model.layers[layer].self_attn.register_forward_pre_hook(
                lambda _, arguments, layer=layer: self.watched.update({layer: arguments[:3]})
            )

    def attention(self, name: str, rows: Tensor, columns: Tensor) -> Tensor:
        """Logarithms of one of the `HEADS`' attention in the last pass, (N, K, L).

        Args: rows: (N,) of the batch; columns: (N, K), the tokens that look.
        """
        layer, head = HEADS[name]
        attention = self.model.layers[layer].self_attn
        x, (cos, sin), mask = self.watched[layer]
        size = attention.head_dim
        group = self.text.num_heads // self.text.num_kv_heads

        def part(linear: nn.Linear, index: int) -> Tensor:
            span = slice(index * size, (index + 1) * size)
            y = F.linear(x, linear.weight[span], linear.bias[span])
            return rotate_halves(y, cos[:, :, 0], sin[:, :, 0])

        # of all tokens at once: cheaper than the keys of a row once for each that looks
        scores = part(attention.q_proj, head) @ part(attention.k_proj, head // group).mT
        scores = scores[rows[:, None], columns] / size**0.5
        seen = mask[rows[:, None], 0, columns, -x.shape[1] :]
        return scores.masked_fill(~seen, -1e4).log_softmax(-1)

    def attention_loss(self, name: str, rows: Tensor, columns: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropies of that attention where `wanted` (N, K), a place in the row, is one."""
        known = wanted >= 0
        attention = self.attention(name, rows, columns)[known]
        return -attention.gather(1, wanted[known][:, None])[:, 0]

    def attention_losses(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Losses of the taught heads in the last pass, where the batch has targets for them."""
        found = defaultdict(list)
        if len(batch.counts):
            row, token = batch.counts.T
            attention = self.attention("counted", row, token[:, None])[:, 0]
            found["counted"].append(F.cross_entropy(attention, batch.counted, reduction="none"))
        rows = batch.queries[:, 0] // batch.ids.shape[1]
        columns = batch.queries % batch.ids.shape[1]
        for name in HEADS:
            target = name.removesuffix(LATE)
            if target in OF_QUERIES and batch.drawn:
                wanted = getattr(batch, target)
                found[name].append(self.attention_loss(name, rows, columns, wanted))
            elif target in batch.attention_targets:
                row, token, place = batch.attention_targets[target].T
                found[name].append(self.attention_loss(name, row, token[:, None], place[:, None]))
        return found

    def begin(self, folder=RUNS) -> None:
        self.eyes.load_state_dict(read_safetensors(folder / "eyes.safetensors"))

    def read_prefix(self) -> "SharedPrefix":
        """The system turn, which begins every sample, is read once for all of a step."""
        ids = shared_prefix()
        cache = SharedPrefix()
        positions = torch.arange(len(ids)).expand(3, 1, -1)
        self.model(self.model.embed_tokens(ids)[None], positions, cache=cache)
        return cache

    def hidden(self, batch: Batch, seen: Tensor, prefix: "SharedPrefix") -> Tensor:
        """Hidden states (B * L, D); `seen` are the image embeddings (P, 9, D)."""
        embeds = self.model.embed_tokens(batch.ids)
        shape = embeds.shape
        flat = embeds.flatten(0, 1)
        if len(batch.shown):
            flat = flat.index_copy(0, batch.pads.flatten(), seen.flatten(0, 1))
        if len(batch.drawn):
            queries = self.latent_queries.expand(len(batch.drawn), -1, -1).flatten(0, 1)
            flat = flat.index_copy(0, batch.queries.flatten(), queries)
        cache = prefix.view() if batch.skipped else None
        return self.read(flat.view(shape), batch.positions, batch.mask, cache).flatten(0, 1)

    def read(
        self, embeds: Tensor, positions: Tensor, mask: Tensor, cache: "SharedPrefix | None"
    ) -> Tensor:
        """`TextModel.forward` under a mask of our own."""
        x, rope = embeds, rope_table(positions, self.text, embeds.dtype)
        for number, layer in enumerate(self.model.layers):
            x = layer(x, rope, mask, cache, number)
        return self.model.norm(x)

    def losses(self, rng: StepRng, step: int = 0, count: int = SCHEDULE.batch) -> dict[str, Tensor]:
        mix = WIDE_MIX if WIDE else SHORT_MIX if step < LONG_FROM else MIX
        sequences = sample_sequences(rng.python, count, mix=mix)
        size = -(-count // CHUNKS)
        batches = [collate(sequences[i : i + size]) for i in range(0, count, size)]
        batches.append(collate([blank_sequence()], skip=False))
        prefix = self.read_prefix()
        shown = [scene for batch in batches for scene in batch.shown]
        drawn = [scene for batch in batches for scene in batch.drawn]
        pictures = render_batch(shown + drawn)
        features = self.frozen[0].features(pictures)
        blank = [scene is EMPTY for scene in drawn]
        features[len(shown) :][torch.tensor(blank, dtype=torch.bool)] = 0
        seen = self.eyes.encode_images(augment(pictures[: len(shown)], rng))
        terms = {"seen": cell_loss(self.eyes.heads, seen, shown)}
        parts = seen.split([len(batch.shown) for batch in batches])
        states, missed = [], defaultdict(list)
        for part, own in zip(batches, parts, strict=True):
            states.append(self.hidden(part, own, prefix))
            for name, own_losses in self.attention_losses(part).items():
                missed[name] += own_losses
        for name in HEADS:
            terms[name] = torch.cat([*missed[name], torch.zeros(1)]).mean()
        terms |= self.text_terms(batches, states)
        kept = torch.cat([s[b.pads] for s, b in zip(states, batches, strict=True)])
        terms["kept"] = F.mse_loss(self.kept(kept), features[: len(shown)])
        tokens = torch.cat([s[b.queries] for s, b in zip(states, batches, strict=True)])
        told = torch.tensor([not empty for empty in blank])
        changed = torch.cat([batch.changed for batch in batches])
        weights = torch.where(occupied(drawn), OBJECT_WEIGHT, 1.0)
        weights = torch.where(changed, CHANGED_WEIGHT, weights)
        terms |= self.drawing_terms(tokens, features[len(shown) :], drawn, told, weights, rng)
        loss = sum(weight * terms[name] for name, weight in WEIGHTS.items())
        return {"loss": loss, **terms}

    def text_terms(self, batches: Sequence[Batch], states: Sequence[Tensor]) -> dict[str, Tensor]:
        picked, targets, weights = [], [], []
        for batch, state in zip(batches, states, strict=True):
            flat = batch.targets.flatten()
            places = (flat >= 0).nonzero().flatten()
            picked.append(state[places])
            targets.append(flat[places])
            weights.append(batch.weights.flatten()[places])
        target, weight = torch.cat(targets), torch.cat(weights)
        logits = self.model.embed_tokens.project(torch.cat(picked))
        right = (logits.detach().argmax(-1) == target).float().mean()
        missed = F.cross_entropy(logits, target, reduction="none")
        return {"text": (missed * weight).sum() / weight.sum(), "token_accuracy": right}

    def drawing_terms(
        self,
        tokens: Tensor,
        features: Tensor,
        drawn: Sequence[Scene],
        told: Tensor,
        weights: Tensor,
        rng: StepRng,
    ) -> dict[str, Tensor]:
        missed = (self.regress(tokens) - features).square().mean(-1)
        terms = {"regress": (missed * weights).sum() / weights.sum()}
        scenes = [scene for scene, is_told in zip(drawn, told.tolist(), strict=True) if is_told]
        terms["cells"] = cell_loss(self.cells, tokens[told], scenes, weights[told])
        null = rng.uniform(len(tokens), 1, 1) < NULL_SHARE
        context = torch.where(null, 0.0, tokens).repeat(NOISE_DRAWS, 1, 1)
        clean = features.transpose(1, 2).unflatten(2, (3, 3)).repeat(NOISE_DRAWS, 1, 1, 1)
        timestep = torch.randint(1, 1001, (len(clean),), generator=rng.torch)
        sigma = (timestep / 1000)[:, None, None, None]
        noise = rng.normal(*clean.shape)
        velocity = self.dit((1 - sigma) * clean + sigma * noise, timestep, context)
        terms["flow"] = F.mse_loss(velocity, noise - clean)
        terms["routed"] = self.routes.loss(~null.flatten().repeat(NOISE_DRAWS))
        return terms


def occupied(scenes: Sequence[Scene]) -> Tensor:
    """(N, 9) bool."""
    found = torch.zeros(len(scenes), 9, dtype=torch.bool)
    for row, scene in zip(found, scenes, strict=True):
        row[[3 * thing.row + thing.col for thing in scene.objects]] = True
    return found


@torch.no_grad()
def begin_dit(dit: NextDiT) -> None:
    """Open gates and a silent output, so that the first steps already move."""
    for layer in dit.layers:
        layer.gate.fill_(1.0)
        layer.norm1.linear.weight.mul_(0.1)
        layer.norm1.linear.bias.zero_()
        _, gate_attn, _, gate_ffn = layer.norm1.linear.bias.chunk(4)
        gate_attn.fill_(0.7)
        gate_ffn.fill_(0.7)
    dit.norm_out.linear_2.weight.zero_()
    dit.norm_out.linear_2.bias.zero_()
