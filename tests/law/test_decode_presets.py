"""Do the named presets write what the published loops write, token for token?

The published loops (``oracle/published.py``) see one row at a time, the whole of it, in every step;
ours get all rows together, ragged, and read only what they need. Random weights, temperature 0.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from oracle import published, published_revising
from tiny import randomise
from torch import Tensor

from unison.decode import Canvas, Decoded, Strategy, decode
from unison.decode.diffusion.guided import Guided
from unison.decode.presets import PRESETS
from unison.denoising import RowDenoiser
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential

VOCAB = 13
MASK = EOS = VOCAB
EOS = 3
# Prompt, answer and suffix of each row: no two rows agree, few lengths divide.
ROWS = ((3, 13, 0), (0, 16, 0), (5, 9, 2), (1, 1, 0), (7, 11, 3))
SEEDS = (0, 1, 2)

seeds = pytest.mark.parametrize("seed", SEEDS)


def network(seed: int, strength: float = 2.0, **changes) -> Transformer:
    """Random weights, sure of some positions and not of others."""
    shape = TransformerConfig(
        vocab_size=VOCAB, num_states=VOCAB + 1, hidden=16, depth=2, heads=2, max_length=32,
        time="none", **changes,
    )  # fmt: skip
    built = Transformer(shape)
    randomise(built, strength, seed)
    return built.eval()


@torch.no_grad()
def logits_of(net: Transformer) -> published.LogitsFn:
    return lambda x: net(x, torch.zeros(len(x))).detach()


def texts(seed: int, rows=ROWS) -> list[Tensor]:
    """One canvas per row, [1, length], masks between prompt and suffix."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(VOCAB, (1, sum(row)), generator=generator) for row in rows]
    for text, (prompt, answer, _) in zip(drawn, rows, strict=True):
        text[:, prompt : prompt + answer] = MASK
    return drawn


def together(strategy: Strategy, net: Transformer, rows: list[Tensor]) -> tuple[list, Decoded]:
    """Write all rows at once, and return each without its padding."""
    longest = max(row.shape[1] for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    valid = torch.zeros_like(tokens, dtype=torch.bool)
    for number, row in enumerate(rows):
        tokens[number, : row.shape[1]], valid[number, : row.shape[1]] = row[0], True
    given = (tokens != MASK) | ~valid
    process = Absorbing(VOCAB)
    key = Key(rng.rows(0, 0, len(rows)))
    canvas = Canvas(tokens, given, valid=valid)
    done = decode(strategy, process, RowDenoiser(net, process, valid), canvas, key)
    return [done.tokens[i, : row.shape[1]].tolist() for i, row in enumerate(rows)], done


Loop = Callable[[published.LogitsFn, Tensor], published.Written]


def assert_same(strategy: Strategy, seed: int, loop: Loop, rows=ROWS, **changes) -> list[int]:
    """Every row as its published loop writes it; return the loops' numbers of evaluations."""
    net, wanted = network(seed, **changes), texts(seed, rows)
    wrote, done = together(strategy, net, wanted)
    calls = []
    for number, row in enumerate(wanted):
        told = loop(logits_of(net), row)
        assert wrote[number] == told.tokens[0].tolist(), f"row {number}"
        assert done.nfe[number] <= told.calls
        calls.append(told.calls)
    return calls


@seeds
@pytest.mark.parametrize(("steps", "block"), [(16, 16), (8, 4), (7, 5), (20, 32)])
def test_llada_writes_what_the_published_loop_writes(seed, steps, block):
    """Also where lengths and steps do not divide, which public code refuses.

    The loop's steps without quota write nothing; ours leaves them out.
    """
    preset = replace(PRESETS["llada"](), steps=steps, block_length=block)

    def loop(logits, row):
        return published.llada(logits, row, MASK, steps=steps, block_length=block)

    assert_same(preset, seed, loop)


@seeds
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_fast_dllm_writes_what_the_published_loop_writes(seed, threshold):
    select = replace(PRESETS["fast-dllm"]().select, threshold=threshold)
    preset = replace(PRESETS["fast-dllm"](), select=select, block_length=5)

    def loop(logits, row):
        return published.by_block(logits, row, MASK, 5, published.above(threshold))

    assert_same(preset, seed, loop)


def judged(net: Transformer) -> RowDenoiser:
    """A causal model as guided decoding sees it."""
    return RowDenoiser(net, Sequential(VOCAB))


def judge_logits(net: Transformer) -> published.LogitsFn:
    """The same for the published loop."""

    @torch.no_grad()
    def logits(tokens):
        begun = torch.cat([torch.full_like(tokens[:, :1], VOCAB), tokens[:, :-1]], dim=1)
        return net(begun, torch.zeros(len(tokens)))

    return logits


RULES = ("deterministic", "topk", "topk_relative", "dynamic_threshold", "aggressive")


@seeds
@pytest.mark.parametrize("rule", RULES)
def test_guided_writes_what_the_published_loop_writes(seed, rule):
    judge = network(seed + 10, 1.0, attention="causal")
    strategy = Guided(rule, (EOS,), judged(judge))
    accept = published_revising.RULES[rule]

    def loop(logits, row):
        return published_revising.guided(
            logits, judge_logits(judge), row, MASK, accept=accept, eos=EOS
        )

    assert_same(strategy, seed, loop)
