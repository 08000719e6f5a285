"""What could a server say to every prompt? Beliefs and texts, all of them or some drawn at random.

A hidden prompt is continued token by token, each drawn from the model's own law (temperature 1).
A turn is one such token. The texts that may stand before it form the columns of a table, the
prompts its rows: the attacker knows the model, so it can compute the whole table.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.prob import categorical, rng
from unison.prob.rng import Key

SITE_PROMPT, SITE_TEXT = 0x7FFFFE00, 0x7FFFFE01

Next = Callable[[Int[Tensor, "N L"]], Float[Tensor, "N V"]]
Beliefs = Callable[[int, Sequence[int]], Float[Tensor, "T V"]]


class Turn(NamedTuple):
    """One token of all conversations.

    Attributes:
        belief: Log-probabilities of the token, for every prompt (X) and text so far (P).
        parent: Of every text with this token (Y), which text so far it continues.
        token: And with what token.
    """

    belief: Float[Tensor, "X P V"]
    parent: Int[Tensor, " Y"]
    token: Int[Tensor, " Y"]

    @property
    def own(self) -> Float[Tensor, "X Y"]:
        """Log-probability of each text's token, for every prompt."""
        return self.belief[:, self.parent, self.token]


class Talk(NamedTuple):
    """What is said to every prompt.

    Attributes:
        turns: One per token.
        prior: Probability of each prompt; the attacker knows it.
        drawn: Whether the texts were drawn, and stand for all by their number, rather than listed.
    """

    turns: tuple[Turn, ...]
    prior: Float[Tensor, " X"]
    drawn: bool


def listed(following: Next, prompts: Int[Tensor, "X L"], turns: int) -> Talk:
    """Return all that can be said: every text of so many tokens, to every prompt.

    Args:
        following: Log-probabilities of the token after some tokens.
        prompts: Hidden ones, equally likely.
        turns: Tokens that are said.
    """
    number = len(prompts)
    said = torch.zeros(1, 0, dtype=torch.long)
    made = []
    for _ in range(turns):
        rows = [prompts.repeat_interleave(len(said), 0), said.repeat(number, 1)]
        belief = following(torch.cat(rows, dim=1)).double()
        vocab = belief.shape[-1]
        parent = torch.arange(len(said)).repeat_interleave(vocab)
        token = torch.arange(vocab).repeat(len(said))
        made.append(Turn(belief.unflatten(0, (number, -1)), parent, token))
        said = torch.cat([said[parent], token[:, None]], dim=1)
    return Talk(tuple(made), _equal(number), drawn=False)


def drawn(beliefs: Beliefs, number: int, turns: int, draws: int, seed: int) -> Talk:
    """Return what is said in some conversations, to as many prompts.

    Args:
        beliefs: From the number of a prompt and a text to the log-probabilities of each token of
            the text, and of the one after it.
        number: Of prompts, equally likely.
        turns: Tokens that are said.
        draws: Conversations with each prompt.
        seed: Names what is said.
    """
    hidden = [x for x in range(number) for _ in range(draws)]
    noise = rng.uniform(Key(rng.rows(seed, 0, len(hidden))), SITE_TEXT, turns)
    said = [_text(beliefs, x, u) for x, u in zip(hidden, noise, strict=True)]
    table = torch.stack(
        [torch.stack([beliefs(x, text[:-1]) for text in said]) for x in range(number)]
    )
    parent = torch.arange(len(said))
    made = [
        Turn(table[:, :, turn], parent, torch.tensor([text[turn] for text in said]))
        for turn in range(turns)
    ]
    return Talk(tuple(made), _equal(number), drawn=True)


def _text(beliefs: Beliefs, prompt: int, noise: Float[Tensor, " T"]) -> list[int]:
    said: list[int] = []
    for u in noise:
        said.append(int(categorical.sample(beliefs(prompt, said)[-1], u)))
    return said


def _equal(number: int) -> Float[Tensor, " X"]:
    return torch.full((number,), 1 / number, dtype=torch.float64)
