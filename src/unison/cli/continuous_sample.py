"""unison continuous sample: draw events from a trained model, or restore degraded ones."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unison import event_model, files
from unison.cli import shared
from unison.cli.continuous_parts import renamed, taken
from unison.data.continuous import DEGRADATIONS, Pair, Reading, Scaling, degraded, read
from unison.decode.continuous import GRIDS, SOLVERS
from unison.distil.continuous import ConsistencySteps
from unison.evaluate.sheet import sheet
from unison.event_model import EventModel
from unison.generation.events import Drawing, DrawnEvents, draw_events
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.continuous import MODEL
from unison.train.setup import device_of
from unison.types import Event

_FORMATS = (".png", ".npz")


@dataclass(frozen=True)
class Flags:
    """Draw events. The first argument is a run of unison continuous train, or a model folder.

    --solver and --grid take NAME or NAME:FIELD=VALUE,FIELD=VALUE; see unison continuous solvers.
    A model that restores is given held-out events of its data, degraded anew: the sheet then shows
    what is left, what was restored and the truth, side by side.

    Attributes:
        out: A sheet of pictures, .png, or the numbers, .npz; nothing is kept if left out.
        solver: Who steps.
        grid: Which levels are visited.
        nfe: Network evaluations for each event; guidance doubles them.
        count: Events.
        label: Class to draw; all if left out.
        guidance: Weight of classifier-free guidance; 1 for none.
        high: First level; the model's highest if left out.
        low: Last level above 0; the model's lowest if left out.
        data: What to restore; the run's own data if left out.
        columns: Pictures in a row of the sheet; a square if left out.
        batch_size: Events drawn together; changes speed and memory, never events.
        seed: Names the noise.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path | None = None
    solver: str = ""
    grid: str = ""
    nfe: int = 20
    count: int = 64
    label: int | None = None
    guidance: float = 1.0
    high: float | None = None
    low: float | None = None
    data: str = ""
    columns: int | None = None
    batch_size: int = 64
    seed: int = 0
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the deed."""
    place, arguments = shared.take_leading(renamed(arguments))
    solver, arguments = taken(arguments, "solver", {**SOLVERS, "consistency": ConsistencySteps})
    grid, arguments = taken(arguments, "grid", GRIDS)
    about = f"Solvers: {', '.join(SOLVERS)}.\n\nGrids: {', '.join(GRIDS)}."
    flags = shared.parse(Flags, "continuous sample", arguments, about)
    if place is None:
        raise ValueError("name the run first: unison continuous sample RUN --out sheet.png.")
    if flags.out is not None and flags.out.suffix not in _FORMATS:
        raise ValueError(f"--out must end in {' or '.join(_FORMATS)}, got {flags.out}.")
    model = event_model.load(folder_of(Path(place)), device_of(flags.device))
    drawing = Drawing(
        nfe=flags.nfe,
        guidance=flags.guidance,
        high=flags.high,
        low=flags.low,
        batch_size=flags.batch_size,
        seed=flags.seed,
        solver=solver,
        grid=grid,
        last_mean=isinstance(solver, ConsistencySteps),  # its answer, not what it adds to it
    )
    pair = to_restore(model, flags)
    worse = None if pair is None else pair.degraded
    count = flags.count if worse is None else len(worse)
    drawn = draw_events(model, drawing, count, flags.label, worse)
    if flags.out is not None:
        write(flags.out, model, drawn, pair, flags.columns)
    report(drawn, drawing, pair, flags)


def folder_of(place: Path) -> Path:
    """Return the model folder of a run, or the folder itself."""
    return place / MODEL if (place / MODEL / "config.json").exists() else place


def to_restore(model: EventModel, flags: Flags) -> Pair | None:
    """Return held-out events and what is left of them; ``None`` for models that generate.

    Raises:
        ValueError: The model does not say what it was trained to restore.
    """
    if not model.config.beside_channels:
        return None
    made: Mapping[str, Any] = model.notes.get("train", {})
    stated = made.get("degradation")
    kinds = {kind.__name__: kind for kind in DEGRADATIONS.values()}
    if stated is None or stated["kind"] not in kinds:
        raise ValueError("this model does not say which degradation it was trained to undo.")
    settings = {name: value for name, value in stated.items() if name != "kind"}
    reading = {name: value for name, value in made["reading"].items() if name != "kind"}
    events = read(flags.data or model.notes["data"], Reading(**reading))
    values = events.kept.values[: flags.count]
    key = Key(rng.rows(flags.seed, 0, len(values)))
    return degraded(values, kinds[stated["kind"]](**settings), key)


def write(
    out: Path, model: EventModel, drawn: DrawnEvents, pair: Pair | None, columns: int | None
) -> None:
    """Write a sheet, or the numbers in the data's own units.

    Raises:
        ValueError: Events of this kind cannot be drawn.
        OSError: The file cannot be written.
    """
    shown = {"values": drawn.values}
    if pair is not None:
        shown = {"degraded": pair.degraded, "values": drawn.values, "clean": pair.clean}
    if out.suffix == ".png":
        rows = torch.stack([*shown.values()], 1).flatten(0, 1)
        wide = len(shown) * (columns or max(1, round((len(drawn.values) / len(shown)) ** 0.5)))
        files.write_bytes(out, sheet(rows, columns if pair is None else wide))
        return
    content = io.BytesIO()
    scaling = scaling_of(model)
    arrays = {name: scaling.undone(part).numpy() for name, part in shown.items()}
    np.savez(content, **arrays)  # pyright: ignore[reportArgumentType]
    files.write_bytes(out, content.getvalue())


def scaling_of(model: EventModel) -> Scaling:
    """Return how the numbers of a model become those of its data."""
    shift, unit, low, high = model.notes.get("scaling", Scaling())
    ends = (-math.inf if low is None else low, math.inf if high is None else high)
    return Scaling(shift, unit, *ends)


def report(drawn: DrawnEvents, drawing: Drawing, pair: Pair | None, flags: Flags) -> None:
    """Say what was drawn, at what cost, and how well it was restored."""
    said: dict[str, Any] = {
        "events": len(drawn.values),
        "nfe": drawn.nfe,
        "seconds": drawn.seconds,
        "solver": "default" if drawing.solver is None else repr(drawing.solver),
        "grid": "default" if drawing.grid is None else repr(drawing.grid),
        "out": None if flags.out is None else str(flags.out),
    }
    if pair is not None:
        said["rms_degraded"] = _rms(pair.degraded, pair.clean)
        said["rms_restored"] = _rms(drawn.values, pair.clean)
    if flags.json:
        shared.emit(said)
        return
    print(
        f"{said['events']} events, {drawn.nfe} evaluations each, {drawn.seconds:.2f} s "
        f"({drawn.seconds / len(drawn.values) * 1000:.1f} ms an event)"
    )
    if pair is not None:
        print(f"error {said['rms_degraded']:.4f} before, {said['rms_restored']:.4f} restored (rms)")
    if flags.out is not None:
        print(flags.out)


def _rms(found: Event, truth: Event) -> float:
    return (found - truth).square().mean().sqrt().item()
