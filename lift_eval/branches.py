"""Greedy decoding of prompts that begin alike, as branches of one row.

What they begin with stands in the cache once, and every step reads it once for all of them. Side by side in a batch it
would be copied for each prompt, and again with every new token. A branch that is finished leaves the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

_PLAIN = {
    "_from_model_config", "bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens",
    "output_attentions", "output_hidden_states", "pad_token_id", "temperature", "top_k", "top_p",
    "transformers_version", "use_cache",
}  # fmt: skip
"""Settings of generation that do not change what greedy decoding chooses."""


def decodes_plainly(model: Any, options: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether generation takes the most probable token each time, as it is.

    Args:
        model: Whose generation config may ask for more, such as a repetition penalty.
        options: Arguments of ``generate`` in force.
    """
    asked = {**model.generation_config.to_diff_dict(), **options}
    return not options.get("do_sample") and all(
        key in _PLAIN or value is None for key, value in asked.items()
    )


def decode_branches(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    prompts: Sequence[Sequence[int]],
    shared: int,
    *,
    max_new_tokens: int,
    ends: Sequence[int],
    stopped: Callable[[list[int]], bool],
) -> list[list[int]]:
    """Decode prompts that begin with the same tokens.

    Args:
        model: In evaluation mode, with full attention in every layer.
        prompts: Token ids.
        shared: How many of them all prompts begin with, fewer than the shortest has.
        max_new_tokens: Most tokens of an answer.
        ends: Tokens that end an answer.
        stopped: Whether an answer is ended by its tokens so far.

    Returns:
        The new tokens of each prompt, the one that ended it included.
    """
    device = model.device
    cache = DynamicCache(config=model.config)
    model(
        input_ids=torch.tensor([list(prompts[0][:shared])], device=device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    answers: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    fed = [list(prompt[shared:]) for prompt in prompts]
    seen = [shared] * len(prompts)
    columns = torch.full((shared,), -1, device=device)  # the branch of each column of the cache; -1 for all
    for _ in range(max_new_tokens):
        rows = torch.tensor([branch for branch in alive for _ in fed[branch]], device=device)
        columns = torch.cat([columns, rows])
        logits = model(
            input_ids=torch.tensor([[token for branch in alive for token in fed[branch]]], device=device),
            attention_mask=_mask(model, rows, columns),
            position_ids=torch.tensor(
                [[seen[branch] + place for branch in alive for place in range(len(fed[branch]))]],
                device=device,
            ),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=torch.tensor([len(fed[branch]) for branch in alive], device=device).cumsum(0) - 1,
        ).logits[0]
        chosen = logits.float().argmax(dim=-1).tolist()
        for branch, token in zip(alive, chosen, strict=True):
            seen[branch] += len(fed[branch])
            fed[branch] = [token]
            answers[branch].append(token)
        alive = [
            branch for branch in alive if answers[branch][-1] not in ends and not stopped(answers[branch])
        ]
        if not alive:
            break
    return answers


def _mask(model: Any, rows: Tensor, columns: Tensor) -> Tensor:  # noqa: ANN401
    """What the newest columns, of these branches, may see, shape (1, 1, new, all)."""
    seen = (columns[None, :] == -1) | (columns[None, :] == rows[:, None])
    new = len(rows)
    causal = torch.ones(new, len(columns), dtype=torch.bool, device=rows.device).tril(len(columns) - new)
    mask = (seen & causal)[None, None]
    if model.config._attn_implementation != "eager":
        return mask
    # Eager attention adds its mask to the scores; SDPA takes a boolean one.
    return torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(
        ~mask, torch.finfo(model.dtype).min
    )
