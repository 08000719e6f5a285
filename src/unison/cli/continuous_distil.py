"""unison continuous distil: make a model answer in fewer steps."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison import event_model
from unison.cli import shared
from unison.cli.continuous_parts import renamed
from unison.cli.continuous_sample import folder_of
from unison.cli.suggest import nearest
from unison.data.continuous import Reading, read
from unison.distil.continuous import DISTILLATIONS, STUDENTS, OfEvents, distilled, within
from unison.event_model import EventModel
from unison.train.continuous import MODEL
from unison.train.setup import device_of

_METHODS = {name: kind for name, kind in DISTILLATIONS.items() if kind in STUDENTS}
_OPEN = {"solver", "feature", "second", "kernel"}  # no line can name them


@dataclass(frozen=True)
class Flags:
    """Make a student of a trained model. The first argument is a run, or a model folder.

    --method names how; its settings are flags below. A consistency student answers with --nfe 1,
    or in a few steps with --solver consistency; an f_distil student with --nfe 1; one of mmd in the
    levels it learnt.

    Attributes:
        out: Folder of the student, new or empty; the model is in its subfolder model.
        data: What the model learnt from; the run's own data if left out.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    data: str = ""
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the deed."""
    place, arguments = shared.take_leading(renamed(arguments))
    name, arguments = shared.take_flag(arguments, "--method")
    name = name or "consistency"
    if name not in _METHODS:
        raise ValueError(
            f"unknown method {name!r}{nearest(name, _METHODS)}; known: {', '.join(_METHODS)}."
        )
    about = f"Methods: {', '.join(_METHODS)}."
    flags, config = parsed(_METHODS[name](), arguments, about)
    if place is None:
        raise ValueError("name the run first: unison continuous distil RUN --out FOLDER.")
    check_new(flags.out)
    model = event_model.load(folder_of(Path(place)), device_of(flags.device))
    draw = events_of(model, flags.data)
    config = within(model, config)
    with bar(config.steps) as observe:
        student = distilled(model, draw, config, observe)
    event_model.save(student, flags.out / MODEL)
    said = {"method": name, "steps": config.steps, "model": str(flags.out / MODEL)}
    if flags.json:
        shared.emit({**said, "span": list(student.span)})
        return
    low, high = student.span
    print(f"{name}: {config.steps} steps, asked at levels from {high:g} to {low:g}")
    print(flags.out)


def parsed(config: Any, arguments: list[str], about: str) -> tuple[Flags, Any]:
    """Return the flags and the method's settings; fields that no line can name stay as they are."""
    plain = [field for field in dataclasses.fields(config) if field.name not in _OPEN]
    twin = dataclasses.make_dataclass(
        type(config).__name__,
        [
            (f.name, f.type, dataclasses.field(default_factory=lambda f=f: getattr(config, f.name)))
            for f in plain
        ],
        frozen=True,
    )
    twin.__doc__ = type(config).__doc__
    flags, chosen = shared.parse_with(Flags, twin(), "continuous distil", arguments, about)
    return flags, dataclasses.replace(config, **{f.name: getattr(chosen, f.name) for f in plain})


def check_new(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ValueError: It does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; name a new or an empty folder with --out.")


def events_of(model: EventModel, data: str) -> OfEvents:
    """Return what the model learnt from, read as it was then.

    Raises:
        ValueError: The model does not say what that was, or other data have another shape.
    """
    notes: dict[str, Any] = dict(model.notes)
    source = data or notes.get("data", "")
    if not source:
        raise ValueError("this model does not say what it learnt from; name it with --data.")
    stated = {
        name: value
        for name, value in notes.get("train", {}).get("reading", {}).items()
        if name != "kind"
    }
    events = read(source, Reading(**stated))
    if events.shape != model.shape:
        raise ValueError(
            f"the model makes events of shape {model.shape}, and those of {source} have shape "
            f"{events.shape}."
        )
    side, device = events.learnt, next(model.network.parameters()).device
    labels = side.labels.to(device) if model.classes and side.labels is not None else None
    return OfEvents(side.values.to(device), labels)


@contextmanager
def bar(steps: int) -> Iterator[Callable[[int, float], None]]:
    """Yield an observer that draws a bar on a terminal, and a few lines elsewhere."""
    with shared.progress() as bars:
        task = bars.add_task("distil", total=steps, note="")

        def observe(done: int, loss: float) -> None:
            bars.update(task, completed=done, note=f"loss {loss:.4f}")
            if not shared.console.is_terminal and done % max(1, steps // 10) == 0:
                shared.log(f"distil {done}/{steps}  loss {loss:.4f}")

        yield observe
