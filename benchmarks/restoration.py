"""Do residual processes restore better in four evaluations than conditional diffusion does?

Runs the recipe ``restoration`` for every task on every data set, and prints how far the best
residual process is above the best conditional one, once as published (a network that answers the
noise) and once strengthened by the scaling that residual processes have too. Every network has one
size and one number of optimiser steps, every method as many settings of its sampler to choose from
on images that are not those it is tested on. Differences are paired, ± 1.96 standard errors.

    python -m benchmarks.restoration --folder runs/restoration --out restoration.json
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import measure
from unison import files
from unison.recipes.continuous.report import as_json, table
from unison.recipes.continuous.restoration import Restoration, run

TASKS = ("super_resolution", "inpainting", "deblurring")
SETS: dict[str, dict[str, Any]] = {
    "digits": {"steps": 600},
    "faces": {"steps": 400, "mirror": True, "batch_size": 32, "width": 16},
    "mnist5k": {"steps": 400, "batch_size": 32, "width": 16},
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the runs; gone on with")
    parser.add_argument("--out", type=Path, help="write the record as JSON")
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--steps", type=int, help="of each network; each set's own if left out")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    measure.one_thread(asked.seed)
    record: dict[str, Any] = {"machine": measure.machine()}
    for data in asked.data:
        for task in asked.tasks:
            settings = SETS[data] | ({"steps": asked.steps} if asked.steps else {})
            config = Restoration(data=data, task=task, seed=asked.seed, **settings)
            found = run(config, asked.folder / f"{data}_{task}", lambda line: None)
            record[f"{data} {task}"] = as_json(found)
            print(f"\n{data}, {task}, {found.seconds:.0f} s")
            print("\n".join(table(found.numbers)))
            for name, said in found.facts.items():
                if ", against " in name:
                    print(f"  {name}: {said}")
    if asked.out is not None:
        files.write_json(asked.out, record)


if __name__ == "__main__":
    main()
