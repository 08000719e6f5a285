"""What does each cache save, and what does it cost? Seconds, positions computed, drift.

A masked-diffusion transformer of random weights writes half of a canvas block by block, a fixed
number of tokens at each evaluation, on one thread. Every evaluation is made twice, without the
cache and with it, on the canvas that decoding with the cache visits: the ratio of CPU seconds is
theirs, block by block. Random weights listen to their neighbours far more than trained ones do:
drift ranks the caches and promises nothing about a trained model.
Run: ``python -m benchmarks.caches --out x.json``.
"""

import time
from dataclasses import replace

import torch

from benchmarks import measure
from unison.decode import decode, start
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Random
from unison.engine import CACHES, cached, check, drift
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential

VOCAB, LENGTH, PROMPT, BLOCK, PER_STEP = 4096, 512, 256, 32, 8
SHAPE = TransformerConfig(
    vocab_size=VOCAB,
    num_states=VOCAB + 1,
    hidden=384,
    depth=6,
    heads=6,
    kv_heads=3,
    max_length=LENGTH,
    time="none",
    norm="rms",
    mlp="swiglu",
)
BLOCKS = Composed(block_length=BLOCK, steps=BLOCK // PER_STEP, per_block=True)
# Cache, its settings, strategy, changes to the network.
RUNS = {
    "prefix": ("prefix", {}, BLOCKS, {}),
    "dual": ("dual", {}, BLOCKS, {}),
    "free": ("free", {}, BLOCKS, {}),
    "free, as published": ("free", {"settle": False}, BLOCKS, {}),
    "dkv": ("dkv", {}, BLOCKS, {}),
    "dkv_greedy": ("dkv_greedy", {}, replace(BLOCKS, order=Random()), {}),
    "exact, causal blocks": (
        "exact",
        {},
        BLOCKS,
        {"attention": "block_causal", "block_length": BLOCK},
    ),
    "exact, causal": ("exact", {}, LeftToRight(), {"attention": "causal"}),
}


class Timed:
    """A denoiser and the CPU seconds of each evaluation."""

    def __init__(self, denoise, seconds):
        self.denoise, self.seconds = denoise, seconds

    def keep(self, rows):
        """Go on with some rows."""
        return Timed(self.denoise.keep(rows), self.seconds)

    def __call__(self, *question):
        """Answer, and note how long it took."""
        began = time.process_time()
        answer = self.denoise(*question)
        self.seconds.append(time.process_time() - began)
        return answer


def network(seed, **changes):
    """Random weights strong enough to have opinions."""
    made = Transformer(replace(SHAPE, **changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for weight in made.parameters():
        if weight.ndim > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return made


def by_block(seconds):
    """Return the seconds of as many evaluations as a block takes, summed."""
    each = BLOCK // PER_STEP
    return [sum(seconds[i : i + each]) for i in range(0, len(seconds), each)]


def measured(run, seed, texts):
    """Return CPU seconds without and with one cache, the share it computes, and its drift.

    Args:
        run: A name in ``RUNS``.
        seed: Of the weights and the prompt.
        texts: What decoding without a cache wrote so far; added to.
    """
    name, settings, strategy, changes = RUNS[run]
    process = Sequential(VOCAB) if isinstance(strategy, LeftToRight) else Absorbing(VOCAB)
    open_ = BLOCK if isinstance(process, Sequential) else LENGTH - PROMPT
    key = Key(rng.rows(seed, 0, 1))
    tokens = (rng.uniform(key, 99, LENGTH) * VOCAB).long()
    canvas = start(process, tokens, torch.arange(LENGTH)[None] < LENGTH - open_, key)
    net, policy = network(seed, **changes), CACHES[name](**settings)
    check(policy, strategy, net, process)
    plain, kept = cached(net, process, CACHES["none"]()), cached(net, process, policy)
    same = (strategy, *changes.items(), seed)
    if same not in texts:
        texts[same] = decode(strategy, process, plain, canvas, key).tokens
    first, second = [], []
    timed = Timed(plain, first), Timed(kept, second)
    apart = drift(*timed, strategy, process, (canvas, key), texts[same])
    return by_block(first), by_block(second), kept.tally.share, apart


@torch.inference_mode()
def main():
    """Measure every cache and report."""
    arguments = measure.options(__doc__, rounds=1).parse_args()
    measure.one_thread(arguments.seed)
    ratios, seconds, facts, texts = [], {}, {}, {}
    print(f"{'cache':24} {'seconds':>9} {'computed':>9} {'tokens moved':>13} {'nats':>9}")
    for run in RUNS:
        rounds = [measured(run, arguments.seed + i, texts) for i in range(arguments.rounds)]
        plain, kept = ([block for one in rounds for block in one[i]] for i in (0, 1))
        share, moved, nats = (
            sum(values) / len(rounds)
            for values in zip(*((one[2], *one[3]) for one in rounds), strict=True)
        )
        spent = sum(kept) / sum(plain)
        print(f"{run:24} {spent:9.3f} {share:9.3f} {moved:13.3f} {nats:9.4f}", flush=True)
        seconds |= {f"{run}: without": plain, f"{run}: with": kept}
        ratios.append(measure.ratio(f"{run}: with / without", kept, plain, f"{share:.3f} computed"))
        facts[run] = {"seconds": spent, "computed": share, "tokens moved": moved, "nats": nats}
    facts["shape"] = {"vocab": VOCAB, "hidden": SHAPE.hidden, "depth": SHAPE.depth}
    facts["canvas"] = {"length": LENGTH, "prompt": PROMPT, "block": BLOCK, "per step": PER_STEP}
    measure.report(ratios, seconds, facts, arguments.out)


if __name__ == "__main__":
    main()
