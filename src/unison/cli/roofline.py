"""unison bench --roofline: how near is everything to what this machine can do?"""

import copy
import itertools
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from unison import checkpoints, files
from unison.bench.report import markdown, summary
from unison.bench.roofline import measure, tables
from unison.bench.roofline.learning import stepping
from unison.bench.roofline.settings import Roofline
from unison.bench.roofline.stage import Stage
from unison.bench.roofline.suite import Maker
from unison.bench.roofline.work import Work
from unison.cli import shared
from unison.distil import ConsistencyDistillation, SelfDistillation
from unison.distil.teaching import Taught, Teaching
from unison.generation import process_name
from unison.generation.ordering import Asked, ordered
from unison.generation.settings import Sampling
from unison.recipes.run import load

_GAP, _ROUND = 1 / 512, 10_000  # of the published distillation
_CLIENTS = 4  # texts that a server writes together


@dataclass(frozen=True)
class Flags:
    """Hold every kind of work against this machine's limits, and say where the rest goes.

    Rows are training and distillation steps, a plain evaluation, steps of every sampler and preset,
    a token of a left-to-right model, a round of the server. --only takes their names, or samplers,
    presets, or a sampler's name for all its processes.

    Attributes:
        model: A trained model instead of random weights at some sizes.
        out: Folder for summary.md, report.html and roofline.json.
        json: Print the rows as one JSON document on stdout; logs go to stderr.
    """

    model: str | None = None
    out: Path | None = None
    json: bool = False


def run(arguments: list[str]) -> None:
    """Measure and report.

    Raises:
        ValueError: A size or a row is unknown, or the model cannot be read.
    """
    flags, settings = shared.parse_with(Flags, Roofline(), "bench --roofline", arguments)
    model = None
    if flags.model is not None:
        checkpoints.locate(flags.model)
        model = load(flags.model, settings.device, settings.dtype)
    found = measure.measure(settings, makers(), model, shared.log)
    written = {"settings": asdict(settings) | {"model": flags.model}, **tables.content(found)}
    report = tables.document(found)
    if flags.out is not None:
        flags.out.mkdir(parents=True, exist_ok=True)
        summary.write(flags.out, report)
        files.write_json(flags.out / "roofline.json", written)
    if flags.json:
        shared.emit(written)
    else:
        print(markdown.render(report))


def makers() -> dict[str, Maker]:
    """Return the rows that are made of rooms the bench knows nothing of."""
    return {"distil": distilling, "serve": serving}


def distilling(stage: Stage) -> Work:
    """Return a step of distillation of the main model by itself.

    Raises:
        ValueError: Models of its process are not distilled.
    """
    process = process_name(stage.main.process)
    methods: dict[str, Teaching] = {
        "uniform": ConsistencyDistillation(),
        "absorbing": SelfDistillation(),
    }
    if process not in methods:
        raise ValueError(f"models of the {process} process are not distilled.")
    student = stage.fresh(process)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    return stepping(stage, "distil", student, Taught(methods[process], teacher, _GAP, _ROUND))


def serving(stage: Stage) -> Work:
    """Return a round of the server's engine, with as many texts under way as it has clients.

    Raises:
        ValueError: The extra ``serve`` is not installed.
    """
    from unison.serve import door

    door.require()
    from unison.serve.batching import Engine, Failed, Limits, Write
    from unison.serve.batching.hub import by_network

    model = stage.main
    engine = Engine(Limits(rows=_CLIENTS, prefixes=0), stage.inside.around(by_network))
    seeds = itertools.count()
    faults: list[Exception] = []

    def tell(event: object) -> None:
        if isinstance(event, Failed):
            faults.append(event.error)

    def submit() -> None:
        asked = Asked(parts=[stage.length], seed=next(seeds))
        engine.submit(Write(ordered(model, asked, Sampling())), tell)

    @torch.no_grad()
    def turn() -> None:
        for _ in range(_CLIENTS - engine.stats().rows):
            submit()
        engine.round()
        if faults:
            raise faults[0]

    return Work("serve", turn, _CLIENTS * stage.length, decodes=True)
