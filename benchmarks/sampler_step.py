"""How much of a decoding step is not the network? Ancestral sampling of uniform-state noise.

Two answers: a whole step against the network's forward pass alone, and a step whose belief was
computed beforehand against the same pass. The log-softmax that turns logits into a belief counts
as outside the network. Run: ``python -m benchmarks.sampler_step --out x.json``.
"""

import dataclasses

import torch

from benchmarks import measure
from unison.decode import Canvas
from unison.decode.diffusion.ancestral import Ancestral
from unison.models import PRESETS, Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform

VOCAB, DEPTH, LENGTH, ROWS, STEPS = 2048, 6, 256, 8, 64
MOMENTS = {"early": 1, "middle": 32, "late": 62, "last": 63}


def pieces(process, network, moment):
    """Return the whole step, the network alone, the step without it, and the log-softmax."""
    strategy, step = Ancestral(STEPS), MOMENTS[moment]
    key = Key(rng.rows(0, 0, ROWS), step)
    t = torch.full((ROWS,), 1 - step / STEPS, dtype=torch.float64)
    alpha = process.schedule.alpha(t)
    clean = torch.randint(VOCAB, (ROWS, LENGTH))
    xt = process.corrupt(clean, alpha, torch.rand(ROWS, LENGTH, dtype=torch.float64))
    canvas = Canvas(xt, torch.zeros_like(xt, dtype=torch.bool))
    sigma = -alpha.log().float()

    def denoise(xt, t):
        level = -process.schedule.alpha(t).log().float()
        return process.log_x0(network(xt, level), xt)

    belief = denoise(xt, t)

    def remember(xt, t):
        return belief

    logits = network(xt, sigma)
    return {
        "step": lambda: strategy.step(process, denoise, canvas, key),
        "network": lambda: network(xt, sigma),
        "stub": lambda: strategy.step(process, remember, canvas, key),
        "log-softmax": lambda: process.log_x0(logits, xt),
    }


@torch.inference_mode()
def main():
    """Measure an early, a middle, a late and the last step, and report."""
    arguments = measure.options(__doc__, rounds=15).parse_args()
    measure.one_thread(arguments.seed)
    shape = dataclasses.replace(
        PRESETS["tiny"], depth=DEPTH, max_length=LENGTH, vocab_size=VOCAB, num_states=VOCAB
    )
    network, process = Transformer(shape).eval(), Uniform(VOCAB)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.02)
    ratios, seconds = [], {}
    for moment in MOMENTS:
        spent = measure.take_turns(pieces(process, network, moment), arguments.rounds)
        seconds |= {f"{moment} {name}": s for name, s in spent.items()}
        without = [a + b for a, b in zip(spent["stub"], spent["log-softmax"], strict=True)]
        whole = [a + b for a, b in zip(without, spent["network"], strict=True)]
        beyond = [a - b for a, b in zip(spent["step"], spent["network"], strict=True)]
        ratios += [
            measure.ratio(f"{moment}: (step - network) / step", beyond, spent["step"], "<= 0.10"),
            measure.ratio(
                f"{moment}: (stub step + log-softmax) / sum of parts", without, whole, "<= 0.10"
            ),
        ]
    facts = {
        "vocab": VOCAB,
        "blocks": DEPTH,
        "hidden": shape.hidden,
        "length": LENGTH,
        "batch": ROWS,
        "steps": STEPS,
        "moments": MOMENTS,
        "dtype": "float32",
        "seed": arguments.seed,
    }
    measure.report(ratios, seconds, facts, arguments.out)


if __name__ == "__main__":
    main()
