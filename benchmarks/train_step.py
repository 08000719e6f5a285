"""How much of a training step is matrix products? And what does the curriculum add?

The reference multiplies matrices of the same shapes, operands allocated beforehand: every linear
map and both products of attention, forward once and backward twice. What a step costs beyond
that is norms, modulation, softmax, loss, optimiser and memory traffic.
Run: ``python -m benchmarks.train_step --out x.json``.
"""

import dataclasses
from itertools import count

import torch

from benchmarks import measure
from unison.models import PRESETS, Transformer
from unison.objectives import Duo
from unison.process import Uniform
from unison.train import Train, optim
from unison.train.step import Learner, take

SHAPES = ((256, 8, 16), (2048, 6, 8))  # vocabulary, blocks, rows
LENGTH, HIDDEN, HEADS = 256, 256, 8
FOREVER = 10**9


def products(vocab, depth, rows):
    """Return the matrix products of one step, alone."""
    tokens = rows * LENGTH
    linear = [
        (torch.randn(tokens, fan_in), torch.randn(fan_out, fan_in), torch.randn(tokens, fan_out), n)
        for fan_in, fan_out, n in (
            (HIDDEN, 3 * HIDDEN, depth),
            (HIDDEN, HIDDEN, depth),
            (HIDDEN, 4 * HIDDEN, depth),
            (4 * HIDDEN, HIDDEN, depth),
            (HIDDEN, vocab, 1),
        )
    ]
    q, k, v = (torch.randn(rows * HEADS, LENGTH, HIDDEN // HEADS) for _ in range(3))
    scores = torch.randn(rows * HEADS, LENGTH, LENGTH)

    def run():
        for x, weight, grad, times in linear:
            for _ in range(times):
                torch.mm(x, weight.T)
                torch.mm(grad, weight)
                torch.mm(grad.T, x)
        for _ in range(depth):
            torch.bmm(q, k.mT)
            torch.bmm(scores, v)
            torch.bmm(scores.mT, v)
            torch.bmm(v, k.mT)
            torch.bmm(scores, k)
            torch.bmm(scores.mT, q)

    return run


def training(vocab, depth, rows, objective):
    """Return whole optimiser steps, each with new noise."""
    shape = dataclasses.replace(PRESETS["tiny"], depth=depth, hidden=HIDDEN, heads=HEADS)
    config = Train(model=shape, objective=objective, batch_size=rows)
    network = Transformer(dataclasses.replace(shape, vocab_size=vocab, num_states=vocab))
    for weight in network.parameters():
        if not weight.any():  # a network past its first step, whose gradients are all there
            torch.nn.init.normal_(weight, std=0.02)
    optimizers = optim.make(network, config.optimizer)
    learner = Learner(network, Uniform(vocab), objective, optimizers)
    tokens, steps = torch.randint(vocab, (rows, LENGTH)), count()
    return lambda: take(learner, config, tokens, next(steps))


def main():
    """Measure both shapes and report."""
    arguments = measure.options(__doc__, rounds=5).parse_args()
    measure.one_thread(arguments.seed)
    ratios, seconds = [], {}
    for vocab, depth, rows in SHAPES:
        spent = measure.take_turns(
            {
                "products": products(vocab, depth, rows),
                "plain": training(vocab, depth, rows, Duo()),
                "top-k curriculum": training(vocab, depth, rows, Duo(FOREVER)),
            },
            arguments.rounds,
        )
        label = f"V={vocab} blocks={depth} batch={rows}"
        seconds |= {f"{label} {name}": s for name, s in spent.items()}
        ratios += [
            measure.ratio(
                f"{label}: products / step", spent["products"], spent["plain"], ">= 0.80"
            ),
            measure.ratio(
                f"{label}: curriculum / plain", spent["top-k curriculum"], spent["plain"], "<= 1.10"
            ),
        ]
    facts = {
        "shapes": SHAPES,
        "length": LENGTH,
        "hidden": HIDDEN,
        "heads": HEADS,
        "dtype": "float32",
        "seed": arguments.seed,
    }
    measure.report(ratios, seconds, facts, arguments.out)


if __name__ == "__main__":
    main()
