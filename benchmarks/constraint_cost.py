"""What does a constraint cost, next to the network's forward pass?

Languages are compiled for a tokenizer (``--tokenizer``, a tokenizer.json), then a decoding step is
taken whose belief was computed beforehand, with the constraint and without: the difference is the
constraint's, next to a forward pass of a network of about 100 M weights on the same canvas. For
languages that nest the whole of a run is timed instead: seconds per committed token.
Run: ``python -m benchmarks.constraint_cost --tokenizer tokenizer.json --out x.json``.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import measure
from unison import constrain
from unison.constrain.compiling import machine
from unison.constrain.joint import Conditioner, Stretch
from unison.constrain.tokens import TokenMachine
from unison.constrain.vocabulary import vocabulary
from unison.data.spellings import spellings
from unison.data.tokenizer import Tokenizer
from unison.decode import Canvas, decode
from unison.decode.constrained import Bound, ConstrainedDenoiser
from unison.decode.diffusion.composed import Composed
from unison.decode.temper import Temper
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

LENGTH, HIDDEN, DEPTH, HEADS = 256, 768, 12, 12
STRATEGIES = {
    "greedy": Composed(),
    "drawn": Composed(temper=Temper(temperature=1.0)),
}
EMAIL = r"[a-z0-9._%+-]{1,40}@[a-z0-9-]{1,30}\.(com|org|net|io)"
DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"


def schema(fields):
    """Return a JSON schema of many fields, of five kinds in turn."""
    kinds = [
        {"type": "string"},
        {"type": "integer", "minimum": 0, "maximum": 120},
        {"type": "boolean"},
        {"enum": ["low", "medium", "high"]},
        {"type": "array", "items": {"type": "number"}, "maxItems": 5},
    ]
    properties = {f"field_{i:02}": kinds[i % len(kinds)] for i in range(fields)}
    return {"type": "object", "properties": properties, "required": list(properties)}


REGULAR = {
    "digits": lambda: constrain.regex("[0-9]+"),
    "email list": lambda: constrain.regex(f"({EMAIL}, )*{EMAIL}"),
    "dated lines": lambda: constrain.regex(rf"({DATE}: [^\n]+\n){{1,20}}"),
    "schema of 5 fields": lambda: constrain.json_schema(schema(5)),
    "schema of 15 fields": lambda: constrain.json_schema(schema(15)),
    "schema of 50 fields": lambda: constrain.json_schema(schema(50)),
}


def compiled(grammar, tokenizer):
    """Return the language as tokens, and seconds it took, from nothing."""
    words = vocabulary(spellings(tokenizer), [tokenizer.eos_id], tokenizer.fingerprint)
    words.trie  # noqa: B018  # of the tokenizer, made once for all languages
    begun = time.process_time()
    tokens = TokenMachine(machine(grammar()), words)
    return tokens, time.process_time() - begun


def canvas(process, share, witness, generator):
    """Return a canvas of which a share is written, as a text of the language would be."""
    tokens = torch.full((1, LENGTH), process.mask_id)
    written = torch.rand(LENGTH, generator=generator) < share
    tokens[0, written] = witness[written]
    return Canvas(tokens, torch.zeros_like(tokens, dtype=torch.bool))


def witness_of(tokens, belief):
    """Return a text of the language that fits the canvas."""
    slots = np.full(LENGTH, -1, dtype=np.int64)
    stretch = Stretch(slots, np.arange(LENGTH), np.zeros(LENGTH, dtype=np.int64))
    return torch.from_numpy(Conditioner(tokens).law(stretch, belief[0]).likeliest())


def regular(arguments, tokenizer, forward, process, belief):
    """Return ratios of the constraint's cost to the forward pass."""
    ratios, seconds, facts = [], {}, {}
    generator = torch.Generator().manual_seed(arguments.seed)
    hole = np.zeros(LENGTH, dtype=np.int64)
    for name, grammar in REGULAR.items():
        tokens, spent = compiled(grammar, tokenizer)
        facts[name] = {"compile_cpu_seconds": spent, "states": tokens.machine.size}
        print(f"{name}: compiled in {spent:.2f} s, {tokens.machine.size} states", flush=True)
        if int(tokens.distance(np.array([tokens.start], np.int32))[0]) > LENGTH:
            continue
        text = witness_of(tokens, belief)
        for share in (0.0, 0.5):
            blank = canvas(process, share, text, generator)
            for how, strategy in STRATEGIES.items():
                bound = Bound(Conditioner(tokens), 0, hole)
                tied = ConstrainedDenoiser(_heard(belief), process, ((bound,),))
                key = Key(rng.rows(0, 0, 1), 0)
                work = {
                    "forward": forward,
                    "with": lambda s=strategy, d=tied, b=blank, k=key: s.step(process, d, b, k),
                    "without": lambda s=strategy, b=blank, k=key: s.step(
                        process, _heard(belief), b, k
                    ),
                }
                took = measure.take_turns(work, arguments.rounds)
                case = f"{name}, {share:.0%} written, {how}"
                seconds |= {f"{case}: {which}": s for which, s in took.items()}
                extra = [a - b for a, b in zip(took["with"], took["without"], strict=True)]
                ratios.append(measure.ratio(case, extra, took["forward"], "<= 0.10"))
                print(ratios[-1], flush=True)
    return ratios, seconds, facts


def _heard(belief):
    """Return a denoiser that remembers what it says."""

    def denoise(xt, t, focus=None, earlier=None):
        if focus is None:
            return belief
        return belief.gather(1, focus.positions[..., None].expand(-1, -1, belief.shape[-1]))

    return denoise


def nesting(arguments, tokenizer, process):
    """Return, for each shipped grammar, the constraint's seconds per committed token."""
    facts = {}
    generator = torch.Generator().manual_seed(arguments.seed)
    belief = (3 * torch.randn(1, LENGTH, process.vocab_size, generator=generator)).log_softmax(-1)
    hole = np.zeros(LENGTH, dtype=np.int64)
    cases = [(name, block) for name in constrain.GRAMMARS for block in (32, None)]
    for name, block in cases:
        tokens, spent = compiled(constrain.GRAMMARS[name], tokenizer)
        strategy = Composed(steps=64, block_length=block, temper=Temper(temperature=1.0))
        per_token, runs = [], []
        for seed in range(arguments.rounds):
            times, counts = [time.process_time()], [0]

            def watch(step, canvas, info, times=times, counts=counts):
                times.append(time.process_time())
                counts.append(int(info.changed.sum()))

            def run(denoise, on_step=None, seed=seed, strategy=strategy):
                masks = torch.full((1, LENGTH), process.mask_id)
                blank = Canvas(masks, torch.zeros_like(masks, dtype=torch.bool))
                return decode(strategy, process, denoise, blank, Key(rng.rows(seed, 0, 1)), on_step)

            bound = Bound(Conditioner(tokens), 0, hole)
            run(ConstrainedDenoiser(_heard(belief), process, ((bound,),)), watch)
            whole = times[-1] - times[1]
            begun = time.process_time()
            run(_heard(belief))
            plain = time.process_time() - begun
            runs.append((whole - plain) / LENGTH)
            steps = zip(times[1:], times[2:], counts[2:], strict=False)
            per_token += [(b - a - plain / 64) / c for a, b, c in steps if c]
        case = f"{name}, blocks of {block or LENGTH}"
        facts[case] = {
            "compile_cpu_seconds": spent,
            "median_ms_per_token": 1e3 * statistics.median(per_token),
            "mean_ms_per_token": 1e3 * statistics.mean(runs),
            "first_run_ms_per_token": 1e3 * runs[0],
        }
        print(case, json.dumps(facts[case]), flush=True)
    return facts


@torch.inference_mode()
def main():
    """Measure regular languages against the forward pass, and those that nest per token."""
    parser = measure.options(__doc__, rounds=5)
    parser.add_argument("--tokenizer", type=Path, required=True)
    arguments = parser.parse_args()
    measure.one_thread(arguments.seed)
    tokenizer = Tokenizer.load(arguments.tokenizer)
    process = Absorbing(tokenizer.vocab_size)
    shape = TransformerConfig(
        hidden=HIDDEN, depth=DEPTH, heads=HEADS, max_length=LENGTH, time="none",
        vocab_size=process.vocab_size, num_states=process.num_states,
    )  # fmt: skip
    network = Transformer(shape).eval()
    weights = sum(p.numel() for p in network.parameters())
    xt = torch.full((1, LENGTH), process.mask_id)
    sigma = torch.zeros(1)
    belief = (3 * torch.randn(1, LENGTH, process.vocab_size)).log_softmax(-1)
    ratios, seconds, facts = regular(
        arguments, tokenizer, lambda: network(xt, sigma), process, belief
    )
    facts = {
        "weights": weights,
        "body": dataclasses.asdict(shape),
        "vocab": process.vocab_size,
        "length": LENGTH,
        "dtype": "float32",
        "batch": 1,
        "regular": facts,
        "nesting": nesting(arguments, tokenizer, process),
    }
    measure.report(ratios, seconds, facts, arguments.out)


if __name__ == "__main__":
    main()
