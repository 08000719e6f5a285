"""Does one compiled graph pay, in training and in decoding, and what does the compiler cost?

Both ways take turns on equal weights: whole optimiser steps of Duo, and evaluations of one row as
decoding asks for them, on a canvas that fills its graph and on one that is filled up by a third.
Run: ``python -m benchmarks.compiled training --size 320x6x5 --precision bfloat16 --out x.json``
or ``... decoding``. With TORCHINDUCTOR_COMPILE_THREADS=1 the compiler's CPU seconds are its own.
"""

import os
import time

import torch

from benchmarks import measure
from unison.denoising import RowDenoiser
from unison.engine.compiled import Buckets, Compiled, Graphs, whole
from unison.models import Transformer, TransformerConfig, View
from unison.objectives import Duo
from unison.process import Uniform, make_schedule
from unison.train import Train, optim
from unison.train.compiling import Learning
from unison.train.step import Learner, take

VOCAB, LENGTH = 2048, 128
FOREVER = 10**9


def spent():
    """Return CPU seconds of this process and its children."""
    times = os.times()
    return sum(times[:4])


def shape(size, length):
    hidden, depth, heads = map(int, size.split("x"))
    return TransformerConfig(
        vocab_size=VOCAB,
        num_states=VOCAB,
        hidden=hidden,
        depth=depth,
        heads=heads,
        max_length=length,
    )


def stirred(network):
    """Return a network away from its start, where all beliefs are uniform."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape))
    return network


def training(options):
    """Return the work of both ways, one optimiser step each."""
    made = shape(options.size, LENGTH)
    settings = Train(
        model=made, steps=FOREVER, batch_size=options.rows, precision=options.precision
    )
    process = Uniform(VOCAB, make_schedule("log_linear"))
    tokens = torch.randint(VOCAB, (options.rows, LENGTH))
    work, graphs = {}, None
    for name in ("plain", "compiled"):
        torch.manual_seed(options.seed)
        network = stirred(Transformer(made)).train()
        seen = network
        if name == "compiled":
            graphs = Graphs(network.forward, whole, print)
            seen = Learning(network, graphs, Graphs(network.features, whole, print))
        learner = Learner(seen, process, Duo(), optim.make(network, settings.optimizer))
        work[name] = step(learner, settings, tokens)
    return work, graphs


def step(learner, settings, tokens):
    numbers = iter(range(FOREVER))
    return lambda: take(learner, settings, tokens, next(numbers))


def decoding(options):
    """Return the work of both ways, one evaluation of a row each."""
    network = stirred(Transformer(shape(options.size, options.length))).eval()
    if options.precision == "bfloat16":
        network = network.bfloat16()

    def blocks(inputs, sigma, valid):
        return network.stream(inputs, sigma, valid, None, View())

    graphs = Graphs(blocks, whole, print)
    made = Compiled(network, Buckets(1, options.length), graphs)
    process = Uniform(VOCAB, make_schedule("log_linear"))
    tokens = torch.randint(VOCAB, (1, options.length))
    time_ = torch.tensor([0.5], dtype=torch.float64)
    less = options.length * 3 // 4 - options.length // 16
    work = {}
    for length, which in ((options.length, ""), (less, " of a canvas filled up")):
        for name, some in (("plain", network), ("compiled", made)):
            work[name + which] = evaluation(RowDenoiser(some, process), tokens[:, :length], time_)
    return work, graphs


def evaluation(denoiser, tokens, time_):
    return lambda: denoiser(tokens, time_)


def main():
    parser = measure.options(__doc__, 9)
    parser.add_argument("what", choices=("training", "decoding"))
    parser.add_argument("--size", default="320x6x5", help="width x blocks x heads")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    measure.one_thread(options.seed)
    work, graphs = {"training": training, "decoding": decoding}[options.what](options)
    began, wall = spent(), time.perf_counter()
    for run in work.values():
        run()
    first = {"cpu": spent() - began, "wall": time.perf_counter() - wall}
    seconds = measure.take_turns(work, options.rounds)
    ratios = [
        measure.ratio(f"plain / compiled{which}", seconds["plain" + which], seconds[name])
        for name in work
        if name.startswith("compiled")
        for which in (name.removeprefix("compiled"),)
    ]
    facts = measure.machine() | {
        "what": options.what,
        "size": options.size,
        "precision": options.precision,
        "graphs": graphs.compiled,
        "seconds_of_the_first_go": first,
    }
    measure.report(ratios, seconds, facts, options.out)
    print(f"first go, with the compiler: {first['cpu']:.1f} CPU s, {first['wall']:.1f} s")


if __name__ == "__main__":
    main()
