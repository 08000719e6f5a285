"""How are thoughts after every token had at once? Chains that hang on a text, side by side.

Quiet-STaR (Zelikman et al., 2024, arXiv:2403.09629): step s of all thoughts is one column as long
as the text. A token of a thought sees the text up to its own place and its own thought so far.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.models import remember, stepping
from unison.models.stepping import Step
from unison.models.transformer import Transformer
from unison.prob.rng import Key
from unison.thoughts.mind import Mind, said

START, END = -1, -2  # probes


class Aftermath(NamedTuple):
    """What the output layer reads without thoughts and with them, places first.

    Attributes:
        before: At each place of the text, without.
        logp: Log-probability of each token of each thought, [batch, tokens, places].
        after: At the end of each thought, and at the text's own tokens fed after it; entry j
            speaks of the token j + 1 places on.
    """

    before: Float[Tensor, "B L D"]
    logp: Float[Tensor, "B T L"]
    after: Float[Tensor, "B K L D"]


def sees(length: int, first: int, last: int, device: torch.device) -> Bool[Tensor, "M N"]:
    """Return what columns ``first`` .. ``last`` - 1 see of all columns before ``last``.

    Column 0 is the text; token i of column c hangs on token i of column c - 1.
    """
    slot = torch.arange(last * length, device=device)
    column, place = slot // length, slot % length
    own = slice(first * length, None)
    text = (column == 0) & (place <= place[own, None])
    chain = (place == place[own, None]) & (column <= column[own, None])
    return text | chain


def places(network: Transformer, length: int, first: int, last: int, rows: int) -> Tensor:
    """Return where the tokens of some columns stand, for each row; learned places end."""
    device = next(network.parameters()).device
    own = torch.arange(last - first, device=device)[:, None] + first
    at = (own + torch.arange(length, device=device)).flatten()
    return within(network, at).expand(rows, -1)


def within(network: Transformer, at: Tensor) -> Tensor:
    """Return places a network has: past the last one it learned, that one."""
    return at if network.places is None else at.clamp(max=network.config.max_length - 1)


@torch.no_grad()
def think(
    network: Transformer, mind: Mind, inputs: Int[Tensor, "B L"], key: Key
) -> Int[Tensor, "B T L"]:
    """Draw a thought after every input, all at once: T evaluations of L tokens, and one of 2 L.

    Args:
        network: Reads the text.
        mind: Knows how.
        inputs: Begin tokens first.
        key: Token s of the thought at place i has a number of its own.
    """
    rows, length = inputs.shape
    count = mind.thinking.tokens
    memory = remember(network.config, rows, length * (count + 1), next(network.parameters()))
    at = torch.arange(length, device=inputs.device).expand(rows, -1)
    new = torch.cat([inputs, torch.full_like(inputs, START)], dim=1)
    told: list[Tensor] = []
    for number in range(count):
        first = number + 1 if number else 0
        step = _step(network, new, first, number + 2)
        h = stepping.read(network, step, memory, probes=mind.embeddings)[:, -length:]
        new = mind.drawn(stepping.logits(network, h), key, number, at)
        told.append(new)
    if not told:
        return inputs.new_zeros(rows, 0, length)
    return torch.stack(told, dim=1)


def ponder(
    network: Transformer,
    mind: Mind,
    inputs: Int[Tensor, "B L"],
    thoughts: Int[Tensor, "B T L"],
    talk: int = 1,
    temperature: float = 1.0,
) -> Aftermath:
    """Read a text with a thought after every token, in one evaluation; gradients flow.

    Args:
        network: Reads.
        mind: Has the marks.
        inputs: Begin tokens first.
        thoughts: Tokens of each thought, one column each.
        talk: K; K - 1 tokens of the text are fed after each thought, as if it had been had there
            and nowhere else. Past the end of the text the last token is repeated.
        temperature: Of the log-probabilities of the thoughts' tokens.
    """
    length, count = inputs.shape[1], thoughts.shape[1]
    own = torch.arange(length, device=inputs.device)
    fed = own + torch.arange(1, talk, device=inputs.device)[:, None]
    marks = [torch.full_like(inputs, mark) for mark in (START, END)]
    texts = inputs[:, fed.clamp(max=length - 1)].flatten(1)
    tokens = torch.cat([inputs, marks[0], thoughts.flatten(1), marks[1], texts], dim=1)
    step = _step(network, tokens, 0, count + 2 + talk)
    h = stepping.read(network, step, None, probes=mind.embeddings)
    columns = h.unflatten(1, (-1, length))
    drawn = said(network, columns[:, 1 : count + 1]) / temperature
    logp = drawn.log_softmax(-1).gather(-1, thoughts[..., None])[..., 0]
    return Aftermath(columns[:, 0], logp, columns[:, count + 2 :])


def _step(network: Transformer, tokens: Tensor, first: int, last: int) -> Step:
    """Return the reading of some columns, which are kept in slots by column and place."""
    rows, length = len(tokens), tokens.shape[1] // (last - first)
    slots = torch.arange(first * length, last * length, device=tokens.device)
    mask = sees(length, first, last, tokens.device)
    at = places(network, length, first, last, rows)
    return Step(tokens, at, slots.expand(rows, -1), mask.expand(rows, -1, -1))
