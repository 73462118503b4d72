"""Visual tokens: the LLM's last hidden states at the latent queries that follow `[IMG]`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .context import Context, check_length, embed_contexts, left_pad
from .model import LanguageModel
from .prefix_cache import PrefixCache
from .text_model import KeyValueCache


@torch.no_grad()
def visual_tokens(
    llm: LanguageModel,
    contexts: Sequence[Context],
    prefix_cache: PrefixCache | None = None,
) -> Tensor:
    """Ask the language model what to draw; all contexts in one pass, no logits.

    Args:
        contexts: from `read_context(..., for_drawing=True)`, without `[IMG]`; pictures of any
            number and size.
        prefix_cache: dialogues read before, used when there is one context.

    Returns: visual tokens (B, Q, D), each row as if its context came alone.
    Raises: ValueError if a context is empty or longer than the model can read.
    Source: blip3o_qwen_inference.py, `generate_image`, of the reference at 4689ec38.
    """
    contexts = [_with_img_token(llm, context) for context in contexts]
    for context in contexts:
        check_length(llm, context, llm.num_queries)
    if prefix_cache is not None and len(contexts) == 1:
        return _with_prefix(llm, contexts[0], prefix_cache)
    queries = llm.queries()[0]
    rows = [torch.cat((row, queries)) for row in embed_contexts(llm, contexts)]
    position_ids = [_position_ids(context, llm.num_queries) for context in contexts]
    embeds, position_ids, valid = left_pad(rows, position_ids)
    hidden = llm.model(embeds, position_ids, None if valid.all() else valid)
    return hidden[:, -llm.num_queries :]


def _with_prefix(llm: LanguageModel, context: Context, known: PrefixCache) -> Tensor:
    """One context, reading only what no earlier one shares. The queries are not remembered."""
    keys = context.keys()
    cache = known.take(keys) or KeyValueCache(llm.config.num_layers)
    start = cache.length
    rows = torch.cat((embed_contexts(llm, [context], [start])[0], llm.queries()[0]))
    position_ids = _position_ids(context, llm.num_queries)[:, None, start:].to(llm.device)
    hidden = llm.model(rows[None], position_ids, cache=cache)
    known.keep(keys, cache)
    return hidden[:, -llm.num_queries :]


def _with_img_token(llm: LanguageModel, context: Context) -> Context:
    if not context.ids:
        raise ValueError("the prompt is empty, expected text to draw from. Write what to draw.")
    ids = (*context.ids, llm.tokenizer.img_token_id)
    return Context(ids, context.pictures, context.spatial, context.pad_id)


def _position_ids(context: Context, num_more: int) -> Tensor:
    """Position ids of the context and of `num_more` tokens behind it, (3, L + num_more)."""
    position_ids = context.position_ids()
    more = position_ids.max() + 1 + torch.arange(num_more).expand(3, -1)
    return torch.cat((position_ids, more), dim=1)
