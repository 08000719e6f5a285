"""How near is a GPU to its limits, and what do the programs written for it save?

* A training step at 100 M parameters in bfloat16, eager and compiled: model FLOPs over what the
  best square product would have done in the same time. Hoped for: 45 %.
* A sampler's step over the network's forward, both replayed as CUDA graphs, and both without.
  Hoped for: 1.1.
* The uniform-state NELBO, forward and backward, and drawing from logits: program over torch path.

Times are the device's own, in seconds. Run: ``python -m benchmarks.gpu --out x.json``; on a machine
without CUDA it says so and exits with 1.
"""

import dataclasses
import json
import statistics
import sys
from itertools import count
from unittest.mock import patch

import torch

from benchmarks import measure
from unison.bench.training import flops
from unison.bench.training import machine as limits
from unison.decode import Canvas
from unison.decode.diffusion.ancestral import Ancestral
from unison.denoising import RowDenoiser
from unison.engine import replaying
from unison.engine.graphs import Graphs, on_gpu
from unison.models import Transformer, TransformerConfig
from unison.objectives import Duo
from unison.objectives.uniform_nelbo import uniform_nelbo
from unison.prob import categorical, kernels, rng
from unison.prob.rng import Key
from unison.process import Uniform
from unison.train import Train, optim
from unison.train.step import Learner, take

VOCAB, HIDDEN, DEPTH, HEADS = 32_768, 640, 12, 10  # 100 M parameters, embedding and head included
LENGTH, BATCH = 1024, 32  # of a training step
ROWS, PLACES, STEPS = 16, 256, 64  # of a sampler
TOKENS = 8192  # rows of logits that programs read
HOPED_MFU, HOPED_STEP = 0.45, 1.1


def config():
    """Return the shape of the network."""
    return TransformerConfig(
        hidden=HIDDEN,
        depth=DEPTH,
        heads=HEADS,
        max_length=LENGTH,
        vocab_size=VOCAB,
        num_states=VOCAB,
    )


def past_its_first_step(device):
    """Return a network all of whose weights matter."""
    network = Transformer(config()).to(device)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
    return network


def training(device, compiled):
    """Return an optimiser step, each with new noise."""
    network, settings = past_its_first_step(device), Train(objective=Duo(), batch_size=BATCH)
    if compiled:
        network.compile()
    learner = Learner(network, Uniform(VOCAB), Duo(), optim.make(network, settings.optimizer))
    tokens, steps = torch.randint(VOCAB, (BATCH, LENGTH), device=device), count()
    return lambda: take(learner, settings, tokens, next(steps))


def sampling(device):
    """Return forward and step, launched one by one and replayed."""
    network, process = past_its_first_step(device).bfloat16().eval(), Uniform(VOCAB)
    graphs = Graphs(on_gpu(), print)
    own, fast = Ancestral(STEPS), replaying.strategy(Ancestral(STEPS), graphs)
    xt = torch.randint(VOCAB, (ROWS, PLACES), device=device)
    canvas = Canvas(xt, torch.zeros_like(xt, dtype=torch.bool))
    key = Key(rng.rows(0, 0, ROWS).to(device), STEPS // 2)
    sigma = torch.full((ROWS,), 0.7, device=device)
    denoise, replayed = RowDenoiser(network, process), replaying.ReplayedNetwork(network, graphs)
    return {
        "forward": lambda: network(xt, sigma),
        "forward replayed": lambda: replayed(xt, sigma),
        "sampler step": lambda: own.step(process, denoise, canvas, key),
        "sampler step replayed": lambda: fast.step(process, denoise, canvas, key),
    }


def by_torch(work):
    """Return the same work without programs."""

    def run():
        with patch.object(kernels, "fits", return_value=False):
            work()

    return run


def programs(device):
    """Return the loss with its gradient and the draw, by program and by torch."""
    logits = limits.noise((TOKENS, VOCAB), device, torch.bfloat16).requires_grad_()
    clean, noisy = (torch.randint(VOCAB, (TOKENS,), device=device) for _ in range(2))
    t = torch.linspace(0.01, 1, TOKENS, dtype=torch.float64, device=device)
    u = torch.rand(TOKENS, dtype=torch.float64, device=device)

    def loss():
        logits.grad = None
        uniform_nelbo(
            logits, clean, noisy, 1 - 0.999 * t, torch.full_like(t, -0.999)
        ).sum().backward()

    def draw():
        categorical.sample(logits.detach(), u)

    belief = logits.detach().float().log_softmax(-1)

    def nucleus():
        categorical.sample_tempered(belief, u, 0.8, 0.95)

    named = {"loss": loss, "draw": draw, "nucleus": nucleus}
    return {
        f"{name} by {way}": work if way == "program" else by_torch(work)
        for name, work in named.items()
        for way in ("program", "torch")
    }


def rounds_of(device, rounds):
    """Return the seconds of everything, part by part so that memory suffices, and the FLOP rate."""
    probes = limits.probes(device, torch.bfloat16)
    work = {probe.name: probe.run for probe in (*probes.products, *probes.traffic)}
    spans = limits.take_turns(work, rounds, device)
    best = limits.limits(probes, spans, device)
    for name, compiled in (("train step", False), ("train step compiled", True)):
        step = {name: training(device, compiled)}
        spans |= limits.take_turns(step, rounds, device, warm=3)
    with torch.no_grad():
        spans |= limits.take_turns(sampling(device), rounds, device, warm=4)
    spans |= limits.take_turns(programs(device), rounds, device, warm=2)
    return {name: limits.seconds(taken, device) for name, taken in spans.items()}, best


def ratios_of(seconds, best):
    """Return what is asked of a GPU."""
    step = flops.training(config(), BATCH, LENGTH).total / best.flops.median
    ideal = [step] * len(seconds["train step"])
    aim = f">= {HOPED_MFU}"
    named = [
        ("train step: share of the best product", ideal, "train step", aim),
        ("train step compiled: the same", ideal, "train step compiled", aim),
        ("sampler step / forward", seconds["sampler step"], "forward", f"<= {HOPED_STEP}"),
        (
            "sampler step / forward, both replayed",
            seconds["sampler step replayed"],
            "forward replayed",
            f"<= {HOPED_STEP}",
        ),
    ] + [
        (f"{name}: program / torch", seconds[f"{name} by program"], f"{name} by torch", "< 1")
        for name in ("loss", "draw", "nucleus")
    ]
    return [measure.ratio(name, over, seconds[under], hope) for name, over, under, hope in named]


def main():
    """Measure, print ratios and times, and write them."""
    arguments = measure.options(__doc__, rounds=15).parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA device here: nothing was measured.")
        sys.exit(1)
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda")
    seconds, best = rounds_of(device, arguments.rounds)
    ratios = ratios_of(seconds, best)
    for r in ratios:
        print(f"{r.name:50} {r.median:8.3f} {r.low:8.3f} {r.high:8.3f}  {r.target}")
    for name, spent in seconds.items():
        print(f"{name:50} {1000 * statistics.median(spent):10.3f} ms")
    if arguments.out is None:
        return
    parameters = sum(w.numel() for w in Transformer(config()).parameters())
    shape = {"parameters": parameters, "vocab": VOCAB, "hidden": HIDDEN, "blocks": DEPTH}
    record = {
        "command": sys.argv,
        "machine": limits.facts(device),
        "facts": shape | {"length": LENGTH, "batch": BATCH, "rows": ROWS, "places": PLACES},
        "best_flop_per_second": best.flops.median,
        "best_byte_per_second": best.bandwidth.median,
        "device_seconds": seconds,
        "ratios": [dataclasses.asdict(r) for r in ratios],
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
