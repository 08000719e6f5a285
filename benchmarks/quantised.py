"""Which precision is fast for how many positions, and what does it cost in nats?

Layers of several widths at several numbers of positions, then whole canvases of two diffusion
models; every precision against float32, in turns, on one thread. With ``--model`` and ``--text``
also the change of the NELBO on the same noise. ``torch dynamic`` is torch's own quantised layer
(engine x86), whose one scale for all vectors lets a row see its batch; it is here as a rival.
Run: ``python -m benchmarks.quantised --model MODEL --text FILE --out x.json``.
"""

import dataclasses
import json
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn

import unison
from benchmarks import measure
from unison.data import Rows
from unison.engine.quantised import QuantisedLinear, dynamic, halves, quantised
from unison.engine.quantised.linear import from_dense
from unison.evaluate import likelihood
from unison.models import Transformer, TransformerConfig

WIDTHS, POSITIONS = (256, 512, 1024), (1, 16, 128, 1024, 4096)
# Width, blocks, heads, rows, length: 4096 positions each.
CANVASES = ((256, 6, 4, 32, 128), (512, 6, 8, 16, 256))
VOCABULARY = 2048
WAYS = ("bfloat16", "dynamic8", "8", "4", "adaptive4")
TARGETS = {"dynamic8": ">= 1.8"}


def rival(dense):
    """Return torch's dynamically quantised product."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and here for the comparison alone
        scale = dense.weight.detach().abs().amax(1) / 127
        zero = torch.zeros(len(scale), dtype=torch.int)
        rounded = torch.quantize_per_channel(dense.weight.detach(), scale, zero, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rounded, None)
    return lambda x: torch.ops.quantized.linear_dynamic(x, packed, True)


def times(work, count):
    """Return work done several times, so that a clock sees it."""

    def run():
        for _ in range(count):
            work()

    return run


@torch.no_grad()
def layers(rounds):
    """Return ratios and seconds of layers from a width to four times it."""
    ratios, seconds = [], {}
    for width in WIDTHS:
        dense = nn.Linear(width, 4 * width, bias=False)
        made = {
            "float32": dense,
            "bfloat16": halves.HalfLinear(dense.weight),
            "dynamic8": dynamic.from_dense(dense.weight),
            "8": from_dense(dense.weight, 8),
            "4": from_dense(dense.weight, 4),
            "torch dynamic": rival(dense),
        }
        for positions in POSITIONS:
            x, count = torch.randn(positions, width), max(1, 1024 // positions)
            work = {
                name: times(partial(layer, x), count)
                for name, layer in made.items()
                if positions <= 128 or not isinstance(layer, QuantisedLinear)
            }
            spent = measure.take_turns(work, rounds)
            label = f"{positions} x {width} x {4 * width}"
            seconds |= {f"{label} {name}": s for name, s in spent.items()}
            ratios += [
                measure.ratio(f"{label}: float32 / {name}", spent["float32"], spent[name])
                for name in work
                if name != "float32"
            ]
    return ratios, seconds


@torch.no_grad()
def canvases(rounds):
    """Return ratios and seconds of whole forward passes."""
    ratios, seconds = [], {}
    for width, depth, heads, rows, length in CANVASES:
        shape = TransformerConfig(VOCABULARY, VOCABULARY, width, depth, heads, max_length=length)
        network = Transformer(dataclasses.replace(shape, cond_dim=32)).eval()
        for weight in network.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.02)
        tokens, sigma = torch.randint(VOCABULARY, (rows, length)), torch.rand(rows)
        made = {"float32": network}
        made |= {way: quantised(network, way) for way in ("bfloat16", "dynamic8")}
        spent = measure.take_turns(
            {name: partial(net, tokens, sigma) for name, net in made.items()}, rounds
        )
        label = f"forward {width} x {depth}, {rows} x {length}"
        seconds |= {f"{label} {name}": s for name, s in spent.items()}
        ratios += [
            measure.ratio(
                f"{label}: float32 / {name}",
                spent["float32"],
                spent[name],
                TARGETS.get(name, ""),
            )
            for name in made
            if name != "float32"
        ]
    return ratios, seconds


def text_blocks(model, path, count):
    """Return the last stories of a file of JSON lines as blocks of the model's length."""
    lines = path.read_text().splitlines()[-max(200, count) :]
    ids = [
        token
        for line in lines
        for token in [*model.tokenizer.encode(json.loads(line)["text"]), model.tokenizer.eos_id]
    ]
    length = model.max_length
    count = min(count, len(ids) // length)
    return Rows(torch.tensor(ids[: count * length]).view(count, length), None, None)


def bits_of(network):
    """Return bits a weight of what is packed, headers included; NaN if nothing is."""
    packed = {
        layer.weights.data_ptr(): layer
        for layer in network.modules()
        if hasattr(layer, "weights") and not getattr(layer, "tied", False)
    }
    taken = 8 * sum(layer.weights.numel() for layer in packed.values())
    held = sum(layer.weight.numel() for layer in packed.values())
    return taken / held if held else float("nan")


def losses(model, rows):
    """Return each precision's NELBO, and its change on the same noise with its standard error."""
    plain, found = likelihood.score(model.process, model.network, rows), {}
    print(f"float32: {likelihood.per_token(plain).value:.4f} nats a token")
    for way in WAYS:
        network = quantised(model.network, way)
        other = likelihood.score(model.process, network, rows)
        change = (other.nats - plain.nats) * len(rows.tokens) / plain.nats.sum()
        found[way] = {
            "nats_per_token": likelihood.per_token(other).value,
            "relative_change": float(change.mean()),
            "stderr": float(change.std() / len(change) ** 0.5),
            "packed_bits_per_weight": bits_of(network),
        }
        print(way, found[way])
    return found


def main():
    """Measure and report."""
    options = measure.options(__doc__, rounds=3)
    options.add_argument("--model", help="a trained diffusion model")
    options.add_argument("--text", type=Path, help="JSON lines with a text each")
    options.add_argument("--blocks", type=int, default=64)
    arguments = options.parse_args()
    measure.one_thread(arguments.seed)
    facts = {"canvases": CANVASES, "widths": WIDTHS, "seed": arguments.seed}
    if arguments.model and arguments.text:
        model = unison.load(arguments.model)
        facts["nelbo"] = losses(model, text_blocks(model, arguments.text, arguments.blocks))
    ratios, seconds = canvases(arguments.rounds)
    more, longer = layers(arguments.rounds)
    measure.report(ratios + more, seconds | longer, facts, arguments.out)


if __name__ == "__main__":
    main()
