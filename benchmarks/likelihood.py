"""How many evaluations does a likelihood to +-0.01 bits a byte take? Against plain Monte Carlo.

    python -m benchmarks.likelihood --folder runs/likelihood

Trains a small masked and a small uniform-state model (``unison train tiny_cpu``) where the folder
has none, and scores held-out pieces of text; ``--model`` takes models that are there already.

The default runs until its own 95 % interval is that narrow. Plain Monte Carlo (uniform times,
independent masks, the objective as it is trained) would take days: its need is the variance of its
draws over the wanted one, and pieces of it are run to a wider interval as a check. ``fixed-count``
without variance reduction is LLaDA's way of evaluating. Whether the default's errors are honest is
seen in how often two seeds differ by less than their errors allow, and in how often intervals of 32
evaluations hold what the long runs say; both should be 0.95.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch

import unison
from benchmarks import measure
from unison.data import hold_out, read_all
from unison.evaluate.estimators.asked import quantile
from unison.process import Absorbing

WANTED, ROUGH = 0.01, 0.05  # half-widths, bits a byte
Z95 = 1.96
OBJECTIVES = {"masked": "mdlm", "uniform": "duo"}


class Text(NamedTuple):
    """What one text took.

    Attributes:
        plain: Evaluations of plain Monte Carlo for the wanted interval.
        counts: The same of LLaDA's estimate; NaN where there are no masks.
        ours: Evaluations the default took, mean of two seeds.
        agree: Whether the seeds differ by no more than 95 % of pairs with their errors do.
        covered: Share of the short runs whose interval holds the long runs' mean.
    """

    plain: float
    counts: float
    ours: float
    agree: bool
    covered: float


def trained(arguments, objective):
    """Return the folder of a trained model, made where it is not there."""
    folder = arguments.folder / f"{objective}-{arguments.steps}"
    if not (folder / "config.json").exists():
        command = [sys.executable, "-m", "unison", "train", "tiny_cpu", "--objective", objective]
        settings = ["--text", arguments.text, "--steps", str(arguments.steps), "--out", str(folder)]
        subprocess.run([*command, *settings, "--resume"], check=True)
    return folder


def pieces(model, arguments):
    """Return texts of as many tokens as the model reads, spread over the held-out documents."""
    held_out = hold_out(read_all([arguments.text]), 0.05, 0).valid  # as training divides
    ids = model.tokenizer.encode("\n\n".join(document.text for document in held_out))
    length = model.max_length - 4  # cutting may split a letter, which then takes more tokens
    starts = [i * (len(ids) - length) // arguments.texts for i in range(arguments.texts)]
    return [model.text(ids[start : start + length]) for start in starts]


def needed(score):
    """Return the evaluations at which a score's variance would be as wanted."""
    return score.evaluations * (Z95 * score.bits_per_byte.stderr / WANTED) ** 2


def measured(model, texts, arguments):
    """Return what each text took."""
    plain = unison.log_likelihood(
        model, texts, draws=arguments.draws, variance_reduction=False, method="nelbo"
    )
    counts = [math.nan] * len(texts)
    if isinstance(model.process, Absorbing):
        scores = unison.log_likelihood(
            model, texts, draws=arguments.draws, variance_reduction=False, method="fixed-count"
        )
        counts = [needed(score) for score in scores]
    long = [
        unison.log_likelihood(model, texts, precision=WANTED, max_draws=1 << 16, seed=seed)
        for seed in (1, 2)
    ]
    short = [unison.log_likelihood(model, texts, seed=seed) for seed in range(10, 18)]
    found = []
    for number, (one, other) in enumerate(zip(*long, strict=True)):
        a, b = one.bits_per_byte, other.bits_per_byte
        middle = (one.log_p.value + other.log_p.value) / 2
        intervals = [scores[number].interval for scores in short]
        found.append(
            Text(
                needed(plain[number]),
                counts[number],
                (one.evaluations + other.evaluations) / 2,
                abs(a.value - b.value) <= quantile(min(a.n, b.n)) * math.hypot(a.stderr, b.stderr),
                statistics.mean(low <= middle <= high for low, high in intervals),
            )
        )
    return found


def ratio(found, seed=0):
    """Return the ratio of sums, ours over plain, and its 95 % interval over texts (bootstrap)."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.tensor([[text.ours, text.plain] for text in found], dtype=torch.float64)
    picked = torch.randint(len(pairs), (4000, len(pairs)), generator=generator)
    sums = pairs[picked].sum(1)
    low, high = (sums[:, 0] / sums[:, 1]).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    total = pairs.sum(0)
    return float(total[0] / total[1]), low, high


def really_run(model, texts):
    """Return evaluations of both to the rougher interval, actually run, summed over some texts."""
    return [
        sum(
            score.evaluations
            for score in unison.log_likelihood(
                model,
                texts,
                method="nelbo",
                precision=ROUGH,
                max_draws=1 << 16,
                variance_reduction=reduced,
            )
        )
        for reduced in (False, True)
    ]


def report(name, model, arguments):
    """Print one model's rows and return them."""
    texts = pieces(model, arguments)
    found = measured(model, texts, arguments)
    middle, low, high = ratio(found)
    rough = really_run(model, texts[: arguments.check])
    row = {
        "model": name,
        "texts": len(texts),
        "bytes": statistics.mean(len(text.encode()) for text in texts),
        "plain": statistics.mean(text.plain for text in found),
        "counts": statistics.mean(text.counts for text in found),
        "ours": statistics.mean(text.ours for text in found),
        "ratio": middle,
        "ratio_95": (low, high),
        "worst": max(text.ours / text.plain for text in found),
        "agree": statistics.mean(text.agree for text in found),
        "covered": statistics.mean(text.covered for text in found),
        "rough_plain": rough[0],
        "rough_ours": rough[1],
    }
    print(
        f"{name:10} {row['plain']:12.0f} {row['counts']:12.0f} {row['ours']:9.0f} {middle:9.4f} "
        f"[{low:.4f}, {high:.4f}] {row['worst']:8.3f} {row['agree']:8.3f} "
        f"{row['covered']:8.3f} {rough[0]:8} {rough[1]:8}",
        flush=True,
    )
    return row


def main():
    """Measure every model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/likelihood"))
    parser.add_argument("--model", action="append", default=[], help="score these instead")
    parser.add_argument("--text", default="python-docs")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--draws", type=int, default=512, help="of plain Monte Carlo per text")
    parser.add_argument("--check", type=int, default=4, help="texts plain is really run on")
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    arguments = parser.parse_args()
    measure.one_thread(0)
    models = {Path(folder).name: Path(folder) for folder in arguments.model}
    models = models or {name: trained(arguments, kind) for name, kind in OBJECTIVES.items()}
    print(json.dumps(measure.machine()))
    print(
        f"{'model':10} {'plain':>12} {'fixed-count':>12} {'default':>9} {'ratio':>9} "
        f"{'95 % over texts':>16} {'worst':>8} {'agree':>8} {'covered':>8} "
        f"{'plain':>8} {'default':>8}  (the last two: run to +-{ROUGH})"
    )
    rows = [report(name, unison.load(folder, "cpu"), arguments) for name, folder in models.items()]
    if arguments.out is not None:
        facts = {"command": sys.argv, "machine": measure.machine(), "rows": rows}
        arguments.out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
