"""unison continuous diagnose: what does a trained model know of its data, and where do runs err?"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison import event_model, files
from unison.cli import shared
from unison.cli.continuous_parts import renamed, taken
from unison.cli.continuous_sample import folder_of
from unison.data.continuous import Reading, read
from unison.decode.continuous import GRIDS, SOLVERS
from unison.evaluate.continuous.diagnosis import Diagnosis, Examination, diagnosed
from unison.evaluate.continuous.exposure import Exposure
from unison.event_model import EventModel
from unison.generation.events import Drawing
from unison.train.setup import device_of
from unison.types import Estimate, Event

_SHEET, _NUMBERS = "targets.png", "diagnosis.json"


@dataclass(frozen=True)
class Flags:
    """Diagnose a model that generates: dimension, curl, exposure bias, when events are decided.

    The first argument is a run of unison continuous train, or a model folder. Tables are printed;
    the folder --out gets them as diagnosis.json, and targets.png: a row for each event, a column
    for the clean mean at each level.

    Attributes:
        out: Folder to write to, made if there is none; nothing is kept if left out.
        data: What to compare with; the held-out events of the run's own data if left out.
        count: Events that are drawn; fewer if there are not twice as many of data.
        nfe: Network evaluations for each event.
        probes: Random directions for each event and level.
        levels: Where dimension and curl are measured; shares of the data's spread if left out.
        seed: Names the noise.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path | None = None
    data: str = ""
    count: int = 32
    nfe: int = 20
    probes: int = 2
    levels: tuple[float, ...] = ()
    seed: int = 0
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the deed."""
    place, arguments = shared.take_leading(renamed(arguments))
    solver, arguments = taken(arguments, "solver", SOLVERS)
    grid, arguments = taken(arguments, "grid", GRIDS)
    flags = shared.parse(Flags, "continuous diagnose", arguments)
    if place is None:
        raise ValueError("name the run first: unison continuous diagnose RUN --out DIR.")
    model = event_model.load(folder_of(Path(place)), device_of(flags.device))
    drawing = Drawing(nfe=flags.nfe, seed=flags.seed, solver=solver, grid=grid)
    how = Examination(drawing, flags.count, flags.probes, flags.levels)
    found = diagnosed(model, _data(model, flags.data), how)
    said = _said(found)
    if flags.out is not None:
        flags.out.mkdir(parents=True, exist_ok=True)
        files.write_bytes(flags.out / _SHEET, found.sheet)
        files.write_json(flags.out / _NUMBERS, said)
    if flags.json:
        shared.emit(said)
        return
    print("\n".join(_tables(found)))
    if flags.out is not None:
        print(f"{flags.out / _NUMBERS}\n{flags.out / _SHEET}")


def _data(model: EventModel, place: str) -> Event:
    """Return held-out events of the data a model was trained on, or of others.

    Raises:
        ValueError: The model does not say what it was trained on, and nothing is named.
    """
    made = model.notes.get("train", {})
    if not place and "data" not in model.notes:
        raise ValueError("this model does not say what it was trained on; name --data.")
    stated = made.get("reading", {})
    settings = {name: value for name, value in stated.items() if name != "kind"}
    return read(place or model.notes["data"], Reading(**settings)).kept.values


def _said(found: Diagnosis) -> dict[str, Any]:
    return {
        "local": [_plain(part._asdict()) for part in found.local],
        "exposure": [_plain(part._asdict()) for part in found.exposure],
        "decided": _plain({"decided": found.decided})["decided"],
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value._asdict() if isinstance(value, Estimate) else value
        for name, value in row.items()
        if value is not None
    }


def _tables(found: Diagnosis) -> Iterable[str]:
    """Yield lines: dimension and curl by level, exposure by level, and when events are decided."""
    yield f"{'level':>9}  {'trace':>14}  {'flipd':>14}  {'curl':>15}"
    for part in found.local:
        yield (
            f"{part.level:9.4g}  {_spelt(part.trace, 1):>14}  {_spelt(part.flipd, 1):>14}  "
            f"{_spelt(part.curl, 3):>15}"
        )
    yield ""
    yield (
        f"{'level':>9}  {'shift':>15}  {'variance':>15}  {'noise':>15}  {'dB':>6}  "
        f"{'distance':>8}  {'floor':>6}"
    )
    yield from map(_line, found.exposure)
    yield ""
    share = found.decided
    yield f"decided after {100 * share.value:.0f} ± {100 * share.stderr:.0f} % of the steps"


def _line(part: Exposure) -> str:
    return (
        f"{part.level:9.4g}  {_spelt(part.shift, 3):>15}  {_spelt(part.variance, 3):>15}  "
        f"{_spelt(part.noise, 3):>15}  {part.spectrum:6.2f}  {part.distance:8.4f}  "
        f"{part.floor:6.4f}"
    )


def _spelt(value: Estimate, digits: int) -> str:
    return f"{value.value:.{digits}f} ± {value.stderr:.{digits}f}"
