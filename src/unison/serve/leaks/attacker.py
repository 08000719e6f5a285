"""How much of a hidden prompt can the best of all attackers know? Exactly, by enumeration.

The attacker knows the model, the prompts that may be hidden and how likely each is, and hears one
conversation: its tokens and what is told of each. It computes what the server would have said to
every prompt, drops those that would have looked otherwise, and weighs the rest by Bayes' rule. No
attacker does better, whatever it has learnt: not the trained inverters of Morris et al. (2023,
arXiv:2311.13647) and Nazir et al. (2025, arXiv:2506.17090).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.serve.leaks.knobs import Knobs, floored, told
from unison.serve.leaks.talk import Talk, Turn
from unison.types import Estimate

Joint = Float[np.ndarray, "X Y"]
Cells = Int[np.ndarray, "X Y"]


class Leak(NamedTuple):
    """What the best attacker knows after some tokens.

    Attributes:
        turns: Tokens it has heard.
        prompts: How often its best guess is the whole prompt.
        tokens: How often its best guess of a token is right, mean over places; ``None`` where
            prompts have no common length.
        bits: What it has learnt of the prompt on average: the mutual information.
    """

    turns: int
    prompts: Estimate
    tokens: float | None
    bits: float


def leaks(talk: Talk, knobs: Knobs, prompts: Int[Tensor, "X L"] | None = None) -> list[Leak]:
    """Return what is known after each token; exact where texts are listed, else with its error.

    Args:
        talk: What is said.
        knobs: What is told of it.
        prompts: The prompts' tokens, where they are equally long.
    """
    return [
        _leak(count, joint, cells, talk, prompts)
        for count, (joint, cells) in enumerate(heard(talk, knobs), start=1)
    ]


def heard(talk: Talk, knobs: Knobs) -> Iterator[tuple[Joint, Cells]]:
    """Yield, turn by turn, how likely each prompt is with each text, and what is heard of it.

    The second is a number for all that was heard so far: prompts of one number sound the same, and
    no number belongs to two texts.
    """
    before = talk.turns[0].belief.shape[:2]
    cells: Cells = np.zeros(before, dtype=np.int64)
    log_text = torch.zeros(before, dtype=torch.float64)
    for turn in talk.turns:
        log_text = log_text[:, turn.parent] + turn.own
        cells = _heard(cells, turn, knobs)
        yield _joint(talk, log_text), cells


def _heard(cells: Int[np.ndarray, "X P"], turn: Turn, knobs: Knobs) -> Int[np.ndarray, "X Y"]:
    """Return the numbers of what is heard after one more token."""
    parent, token = turn.parent.numpy(), turn.token.numpy()
    numbers = np.broadcast_to(parent, (len(cells), len(parent)))
    whole = _paired(cells[:, parent], numbers)  # drawn texts may repeat; each is its own
    whole = _paired(whole, np.broadcast_to(token, whole.shape))
    if knobs.top_k != 0:
        whole = _paired(whole, _spoken(turn.belief, knobs)[:, parent])
    if knobs.own:
        whole = _paired(whole, _numbered(floored(turn.own, knobs.digits).numpy()))
    return whole


def _spoken(belief: Float[Tensor, "X P V"], knobs: Knobs) -> Int[np.ndarray, "X P"]:
    """Return a number for what is told of the alternatives at each place."""
    tokens, logp = told(belief, knobs.top_k, knobs.digits)
    rows = torch.cat([tokens, logp.contiguous().view(torch.int64)], dim=-1).flatten(0, 1).numpy()
    known: dict[bytes, int] = {}
    numbers = [known.setdefault(row.tobytes(), len(known)) for row in rows]
    return np.array(numbers).reshape(belief.shape[:2])


def _numbered(values: np.ndarray) -> Cells:
    return np.unique(values, return_inverse=True)[1].reshape(values.shape)


def _paired(one: Cells, other: Cells) -> Cells:
    """Return a number for every pair of numbers, from 0 without gaps."""
    return _numbered(one * (int(other.max()) + 1) + other)


def _joint(talk: Talk, log_text: Float[Tensor, "X Y"]) -> Joint:
    """Return p(prompt, text); of drawn texts p(prompt | text), each text as likely as the others.

    The share of a text's prompts then is exact, and only the mean over texts has an error.
    """
    together = log_text + talk.prior.log()[:, None]
    if talk.drawn:
        return (together.softmax(0) / together.shape[1]).numpy()
    return together.exp().numpy()


def _leak(
    count: int, joint: Joint, cells: Cells, talk: Talk, prompts: Int[Tensor, "X L"] | None
) -> Leak:
    size = int(cells.max()) + 1
    best = np.zeros(size)
    np.maximum.at(best, cells, joint)
    whole = np.bincount(cells.ravel(), joint.ravel(), size)
    sure = np.divide(joint, whole[cells], out=np.ones_like(joint), where=joint > 0)
    bits = float((joint * np.log2(sure)).sum() - (talk.prior * talk.prior.log2()).sum())
    return Leak(
        count,
        _guessed(best, cells, talk),
        None if prompts is None else _tokens(joint, cells, prompts, size),
        max(bits, 0.0),
    )


def _guessed(best: np.ndarray, cells: Cells, talk: Talk) -> Estimate:
    """Return how often the whole prompt is guessed: the sum over all that can be heard."""
    value = float(best.sum())
    if not talk.drawn:
        return Estimate(value, 0.0, 1, "prompts")
    texts = cells.shape[1]
    column = np.zeros(len(best), dtype=np.int64)
    column[cells] = np.arange(texts)  # no cell has two texts
    shares = np.bincount(column, best, texts) * texts
    stderr = float(shares.std(ddof=1)) / math.sqrt(texts) if texts > 1 else math.nan
    return Estimate(value, stderr, texts, "prompts")


def _tokens(joint: Joint, cells: Cells, prompts: Int[Tensor, "X L"], size: int) -> float:
    """Return how often a token is guessed, place by place, mean over places."""
    vocab = int(prompts.max()) + 1
    shares: Sequence[float] = [
        float(
            np.bincount((cells * vocab + place[:, None]).ravel(), joint.ravel(), size * vocab)
            .reshape(size, vocab)
            .max(1)
            .sum()
        )
        for place in prompts.T.numpy()
    ]
    return sum(shares) / len(shares)
