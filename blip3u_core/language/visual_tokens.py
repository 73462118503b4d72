"""Visual tokens: the LLM's last hidden states at the latent queries that follow `[IMG]`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .context import Context, check_length
from .model import LanguageModel
from .prefill import prefill
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
    known = prefix_cache if len(contexts) == 1 else None
    cache = None
    if known is not None:
        cache = known.take(contexts[0].keys()) or KeyValueCache(llm.config.num_layers)
    hidden = prefill(llm, contexts, cache, llm.queries()[0]).hidden
    if known is not None and cache is not None:
        known.keep(contexts[0].keys(), cache)  # of the context alone: queries are not remembered
    return hidden[:, -llm.num_queries :]


def _with_img_token(llm: LanguageModel, context: Context) -> Context:
    if not context.ids:
        raise ValueError("the prompt is empty, expected text to draw from. Write what to draw.")
    ids = (*context.ids, llm.tokenizer.img_token_id)
    return Context(ids, context.pictures, context.spatial, context.pad_id)
