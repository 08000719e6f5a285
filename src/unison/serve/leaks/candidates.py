"""What does a real model say to some prompts, one of which is hidden? For the exact attacker.

An attacker seldom knows all prompts there may be; one that suspects a few is the case to fear, and
can be tried on any model.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unison.language_model import LanguageModel
from unison.process import Absorbing, Sequential
from unison.serve.leaks.talk import Beliefs, Talk, drawn

_LARGEST = 200_000_000  # numbers of a talk: 0.8 GB


def talk(
    model: LanguageModel,
    candidates: Sequence[str],
    *,
    turns: int = 3,
    draws: int = 4,
    visible: str = "",
    seed: int = 0,
) -> Talk:
    """Return what a model says to prompts, in conversations drawn at random.

    Args:
        model: Continues them token by token, at temperature 1.
        candidates: Prompts that may be hidden, equally likely.
        turns: Tokens that are heard.
        draws: Conversations with each prompt.
        visible: What everybody knows to stand after the hidden prompt.
        seed: Names what is said.

    Raises:
        ValueError: There are fewer than two candidates, two are the same to the model, one is too
            long, a number is too small, or the model has no law of the next token.
    """
    if min(turns, draws) < 1:
        raise ValueError(f"turns and draws must be at least 1, got {turns} and {draws}.")
    ids = _encoded(model, [prompt + visible for prompt in candidates], turns)
    size = len(ids) ** 2 * draws * turns * model.process.vocab_size
    if size > _LARGEST:
        raise ValueError(
            f"{len(ids)} candidates, {draws} draws and {turns} turns of a vocabulary of "
            f"{model.process.vocab_size} make {size:,} numbers, more than {_LARGEST:,}; give fewer."
        )
    return drawn(_beliefs(model, ids, turns), len(ids), turns, draws, seed)


def _encoded(model: LanguageModel, prompts: Sequence[str], turns: int) -> list[list[int]]:
    if len(prompts) < 2:
        raise ValueError(f"there must be at least 2 candidates, got {len(prompts)}.")
    ids = model.tokenizer.encode_batch(list(prompts))
    if len(set(map(tuple, ids))) < len(ids):
        raise ValueError("two candidates are the same tokens; nothing could tell them apart.")
    longest = max(map(len, ids)) + turns
    if longest > model.max_length:
        raise ValueError(
            f"a candidate and {turns} tokens after it are {longest} tokens, and the model reads "
            f"{model.max_length}; shorten it."
        )
    return ids


def _beliefs(model: LanguageModel, ids: Sequence[list[int]], turns: int) -> Beliefs:
    process = model.process
    if isinstance(process, Sequential):
        return lambda prompt, said: _causal(model, ids[prompt], list(said), process.mask_id)
    if not isinstance(process, Absorbing):
        raise ValueError(
            f"a model of process {type(process).__name__} has no law of the next token; audit an "
            "autoregressive or a masked one."
        )
    masks = [process.mask_id] * turns
    return lambda prompt, said: _masked(model, ids[prompt], list(said), masks)


def _causal(
    model: LanguageModel, prompt: list[int], said: list[int], undecided: int
) -> Float[Tensor, "T V"]:
    """Return the law of each token said, and of the next: one evaluation."""
    canvas = [*prompt, *said, undecided]
    return _evaluated(model, canvas, 1.0)[len(prompt) :]


def _masked(
    model: LanguageModel, prompt: list[int], said: list[int], masks: list[int]
) -> Float[Tensor, "T V"]:
    """Return the same of a masked model that writes from the left: an evaluation for each."""
    rows = []
    for count in range(len(said) + 1):
        rest = masks[count:]
        canvas = [*prompt, *said[:count], *rest]
        rows.append(_evaluated(model, canvas, len(rest) / len(masks))[len(prompt) + count])
    return torch.stack(rows)


def _evaluated(model: LanguageModel, canvas: list[int], time: float) -> Float[Tensor, "L V"]:
    xt = torch.tensor([canvas], device=model.device)
    when = torch.tensor([time], dtype=torch.float64, device=model.device)
    return model.denoiser()(xt, when)[0].cpu()
