"""unison continuous train: learn a model of continuous data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison.cli import shared
from unison.cli.continuous_parts import renamed, taken
from unison.data.continuous import BUILTIN, DEGRADATIONS
from unison.models.continuous import NETWORKS
from unison.objectives.continuous import EVENT_OBJECTIVES, LEVELS, WEIGHTS, Restoring
from unison.process.continuous import GAUSSIAN, RESIDUAL
from unison.train.continuous import MODEL, Finished, Passed, TrainEvents, prepare, train
from unison.train.setup import device_of

_CONFIGS = {name: kind.config for name, kind in NETWORKS.items()}
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "network": _CONFIGS,
    "process": {**GAUSSIAN, **RESIDUAL},
    "objective": EVENT_OBJECTIVES,
    "levels": LEVELS,
    "weight": WEIGHTS,
}


@dataclass(frozen=True)
class Flags:
    """Learn a model of continuous data.

    --network, --process, --objective, --levels and --weight name parts, as NAME or
    NAME:FIELD=VALUE,FIELD=VALUE; their fields are flags below as well. A residual process is learnt
    with the objective restoring unless another is named.

    Attributes:
        out: Folder of the run, new or empty; the model is in its subfolder model.
        data: A built-in set; an .npy or .npz file; chorales as .json; a folder of images or WAVs.
        degradation: What is to be restored, as NAME:FIELD=VALUE; a model that generates if left
            out.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    data: str = "digits"
    degradation: str = ""
    resume: bool = False
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the deed."""
    config, arguments = chosen(renamed(arguments))
    about = "\n\n".join(
        f"{name.capitalize()}: {', '.join(table)}."
        for name, table in {"data": BUILTIN, **_CHOICES, "degradation": DEGRADATIONS}.items()
    )
    flags, config = shared.parse_with(Flags, config, "continuous train", arguments, about)
    prepared = prepare(config, flags.data, device_of(flags.device))
    with training_bar(config.steps, config.batch_size) as observe:
        finished = train(prepared, flags.out, resume=flags.resume, observe=[observe])
    report(finished, flags.json)


def chosen(arguments: list[str]) -> tuple[TrainEvents, list[str]]:
    """Return the run that arguments name parts of, and the arguments left.

    Raises:
        ValueError: A name, a field or a value is unknown.
    """
    parts: dict[str, Any] = {}
    for name, table in _CHOICES.items():
        part, arguments = taken(arguments, name, table)
        if part is not None:
            parts[name] = part
    degradation, arguments = taken(arguments, "degradation", DEGRADATIONS)
    inner = {name: parts.pop(name) for name in ("levels", "weight") if name in parts}
    restores = type(parts.get("process")) in RESIDUAL.values()
    objective = parts.pop("objective", Restoring() if restores else TrainEvents().objective)
    known = [field.name for field in dataclasses.fields(objective)]
    for name in inner:
        if name not in known:
            raise ValueError(f"the objective {type(objective).__name__} has no --{name}.")
    parts["objective"] = dataclasses.replace(objective, **inner)
    return TrainEvents(**parts, degradation=degradation), arguments


@contextmanager
def training_bar(steps: int, batch_size: int) -> Iterator[Callable[[Passed], None]]:
    """Yield an observer that draws a bar on a terminal, and plain lines elsewhere."""
    with shared.progress() as bars:
        task = bars.add_task("train", total=steps, note="")
        held_out = [""]

        def observe(passed: Passed) -> None:
            if passed.evaluation is not None:
                held_out[0] = f"  held-out {passed.evaluation.value:.4f}"
            speed = batch_size / passed.seconds
            note = f"loss {passed.outcome.loss:.4f}{held_out[0]}  {speed:,.0f} events/s"
            bars.update(task, completed=passed.step, note=note)
            if passed.evaluation is not None and not shared.console.is_terminal:
                shared.log(f"train {passed.step}/{steps}  {note}")

        yield observe


def report(finished: Finished, json: bool) -> None:
    """Say what a run left behind."""
    standing = finished.standing
    if json:
        shared.emit(
            {
                "run": str(finished.folder),
                "model": str(finished.folder / MODEL),
                "steps": standing.step,
                "skipped": standing.skipped,
                "held_out": shared.jsonable(standing.evaluation),
                "best": standing.best,
            }
        )
        return
    if standing.evaluation is not None:
        print(f"held-out {shared.said(standing.evaluation)}")
    print(finished.folder)
