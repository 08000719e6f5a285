"""A strategy on ragged rows next to a published loop on each of them."""

from collections.abc import Callable

import torch
from oracle import published
from tiny import randomise
from torch import Tensor

from unison.decode import Canvas, Decoded, Strategy, decode
from unison.denoising import RowDenoiser
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Denoiser

VOCAB = MASK = 13
EOS = 3
# Prompt, answer and suffix of each row: no two rows agree, few lengths divide.
ROWS = ((3, 13, 0), (0, 16, 0), (5, 9, 2), (1, 1, 0))


def network(seed: int, strength: float = 2.0, **changes) -> Transformer:
    """Random weights, sure of some positions and not of others.

    Learned places: to a shallow network with rotary ones masks alone all look alike, and ties are
    broken as the machine likes.
    """
    shape = TransformerConfig(
        vocab_size=VOCAB, num_states=VOCAB + 1, hidden=16, depth=1, heads=2, max_length=32,
        time="none", positions="learned", **changes,
    )  # fmt: skip
    built = Transformer(shape)
    randomise(built, strength, seed)
    built.head.weight.data *= 4
    return built.eval().requires_grad_(False)


def logits_of(net: Transformer) -> published.LogitsFn:
    return lambda x: net(x, torch.zeros(len(x)))


def texts(seed: int, rows=ROWS) -> list[Tensor]:
    """One canvas per row, [1, length], masks between prompt and suffix."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(VOCAB, (1, sum(row)), generator=generator) for row in rows]
    for text, (prompt, answer, _) in zip(drawn, rows, strict=True):
        text[:, prompt : prompt + answer] = MASK
    return drawn


Wrap = Callable[[Denoiser, Canvas], Denoiser]


def together(
    strategy: Strategy,
    net: Transformer,
    rows: list[Tensor],
    wrap: Wrap = lambda denoise, _: denoise,
) -> tuple[list[list[int]], Decoded]:
    """Write all rows at once, and return each without its padding."""
    longest = max(row.shape[1] for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    valid = torch.zeros_like(tokens, dtype=torch.bool)
    for number, row in enumerate(rows):
        tokens[number, : row.shape[1]], valid[number, : row.shape[1]] = row[0], True
    canvas = Canvas(tokens, (tokens != MASK) | ~valid, valid=valid)
    process = Absorbing(VOCAB)
    denoise = wrap(RowDenoiser(net, process, valid), canvas)
    done = decode(strategy, process, denoise, canvas, Key(rng.rows(0, 0, len(rows))))
    return [done.tokens[i, : row.shape[1]].tolist() for i, row in enumerate(rows)], done


Loop = Callable[[published.LogitsFn, Tensor], published.Written]


def assert_same(
    strategy: Strategy, seed: int, loop: Loop, *, rows=ROWS, idle: bool = False, **changes
) -> list[int]:
    """Every row as its published loop writes it, and in as many evaluations.

    ``idle``: the loop has steps that write nothing, and ours leaves them out. Returns the numbers.
    """
    net, wanted = network(seed, **changes), texts(seed, rows)
    wrote, done = together(strategy, net, wanted)
    calls = []
    for number, row in enumerate(wanted):
        told = loop(logits_of(net), row)
        assert wrote[number] == told.tokens[0].tolist(), f"row {number}"
        nfe = int(done.nfe[number])
        assert nfe <= told.calls if idle else nfe == told.calls
        calls.append(told.calls)
    return calls
