"""Does the curriculum learn faster? Held-out NELBO over steps, with and without, several seeds.

    python -m benchmarks.learning --text FILE --out docs/results

Reports, per seed, the first evaluation at which the curriculum run is at or below the plain run's
final held-out NELBO, as a share of all steps. Writes learning.json, learning.md and learning.png.
Interrupted runs go on where they stopped: finished curves are read back from learning.json.
"""

import argparse
import dataclasses
import json
import platform
import shutil
import tempfile
from pathlib import Path

import torch

from unison.data import TokenizerSpec
from unison.evaluate import figures, likelihood
from unison.models import TransformerConfig
from unison.objectives import Duo
from unison.train import Data, Hooks, Optimizer, Train, fit, prepare

CURRICULUM = Duo(curriculum_steps=800, tau=0.1, tau_end=0.01, soft="dense")
PLAIN = Duo(curriculum_steps=0)


def settings(objective, steps, seed):
    """Return the run both arms share but for the objective."""
    return Train(
        model=TransformerConfig(hidden=128, depth=3, heads=4, max_length=64, cond_dim=64),
        objective=objective,
        data=Data(TokenizerSpec("char")),
        optimizer=Optimizer(lr=2e-3, warmup=50),
        steps=steps,
        batch_size=8,
        ema=0.995,
        eval_every=200,
        save_every=steps,
        seed=seed,
    )


def curve(config, text):
    """Train and return (step, held-out NELBO in nats per token), always on the same noise."""
    prepared = prepare(config, [text], torch.device("cpu"))
    blocks = likelihood.split_blocks(prepared.corpus.valid, config.model.max_length, 256)
    points = []

    def measure():
        scored = likelihood.score(prepared.process, prepared.network, blocks, seed=1, passes=4)
        return likelihood.per_token(scored)

    def observe(event):
        if event.evaluation is not None:
            points.append((event.step, event.evaluation.value))
            print(config.seed, type(config.objective).__name__, *points[-1], flush=True)

    folder = Path(tempfile.mkdtemp())
    fit(config, prepared, folder, Hooks(measure, lambda: None, observe))
    shutil.rmtree(folder)
    return points


def reached(plain, with_curriculum):
    """Return the share of steps at which the curriculum first is as good as the plain end."""
    goal, steps = plain[-1][1], plain[-1][0]
    hits = [step for step, value in with_curriculum if value <= goal]
    return min(hits) / steps if hits else None


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "learning.json"
    results = json.loads(path.read_text()) if path.exists() else {"curves": {}}
    for seed in range(arguments.seeds):
        for name, objective in (("plain", PLAIN), ("curriculum", CURRICULUM)):
            if f"{name}/{seed}" not in results["curves"]:
                config = settings(objective, arguments.steps, seed)
                results["curves"][f"{name}/{seed}"] = curve(config, arguments.text)
                results["settings"] = {
                    "plain": dataclasses.asdict(PLAIN),
                    "curriculum": dataclasses.asdict(CURRICULUM),
                    "run": _shared(config),
                    "torch": torch.__version__,
                    "machine": platform.processor() or platform.machine(),
                    "threads": 1,
                }
                path.write_text(json.dumps(results, indent=1) + "\n")
    report(results, arguments)


def _mean(curves, name, seeds):
    """Average the curves of all seeds, step by step."""
    steps = [step for step, _ in curves[f"{name}/0"]]
    values = zip(*([v for _, v in curves[f"{name}/{seed}"]] for seed in range(seeds)), strict=True)
    return [(step, sum(row) / seeds) for step, row in zip(steps, values, strict=True)]


def _shared(config):
    fields = dataclasses.asdict(config)
    return {name: value for name, value in fields.items() if name not in ("objective", "seed")}


def report(results, arguments):
    """Write the table and the plot."""
    curves = results["curves"]
    rows = []
    for seed in range(arguments.seeds):
        plain, ours = curves[f"plain/{seed}"], curves[f"curriculum/{seed}"]
        share = reached(plain, ours)
        rows.append((seed, plain[-1][1], ours[-1][1], share))
    plain, ours = (_mean(curves, name, arguments.seeds) for name in ("plain", "curriculum"))
    rows.append(("mean curve", plain[-1][1], ours[-1][1], reached(plain, ours)))
    lines = [
        "# Curriculum against none, equal steps and seeds",
        "",
        f"`python -m benchmarks.learning --text {Path(arguments.text).name}"
        f" --steps {arguments.steps} --seeds {arguments.seeds}`",
        "",
        "Tiny Shakespeare (public domain), characters; 3 blocks of width 128, 64 tokens, batch 8,",
        "AdamW 2e-3, EMA 0.995; held-out NELBO on 256 blocks, 4 noise draws each, the same noise",
        "for every evaluation. Curriculum: dense soft tokens, tau 0.1 to 0.01 over the first 800",
        "steps, then the exact NELBO. A seed changes everything: initial weights, noise, order,",
        "and which documents are held out.",
        "",
        "Chosen after trying about twenty settings on seeds 0 and 1 (vocabulary, batch, tau);",
        "most gave less: a constant tau of 1e-3 little, batch 4 at 1024 BPE tokens none.",
        "Seed 2 was not looked at before.",
        "",
        "| seed | plain, final | curriculum, final | plain's final reached after |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {seed} | {plain:.4f} | {ours:.4f} | {share:.2f} of the steps |"
        if share is not None
        else f"| {seed} | {plain:.4f} | {ours:.4f} | not reached |"
        for seed, plain, ours, share in rows
    ]
    lines += ["", "NELBO in nats per character.", "", "![learning curves](learning.png)", ""]
    (arguments.out / "learning.md").write_text("\n".join(lines))
    series = {
        f"{name}, seed {seed}": [p for p in curves[f"{name}/{seed}"] if p[0] >= 400]
        for seed in range(arguments.seeds)
        for name in ("plain", "curriculum")
    }
    (arguments.out / "learning.png").write_bytes(
        figures.loss_curves(series, unit="nats/character held out")
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
