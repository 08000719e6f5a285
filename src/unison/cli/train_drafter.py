"""unison train-drafter: teach a small network to guess what a left-to-right model will write."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from unison.cli import shared
from unison.distil.drafters import DrafterRun, Room, Taught, metrics, train_drafter
from unison.drafters import KINDS
from unison.drafters.saving import kind_named
from unison.recipes.run import load
from unison.train import Event

_SMOOTHING = 0.95


@dataclass(frozen=True)
class Flags:
    """Train a drafter for a left-to-right model: the first argument is the kind of drafter.

    The model stays as it is. --continue-from-target learns from what the model itself writes,
    which is what a drafter has to guess, so it guesses better. Settings of the kind are flags:
    --kind.NAME. At the end a table says how often the drafter's likeliest token was the model's
    own, depth by depth, on held-out text.

    Attributes:
        target: The model: a run, a folder, a file of weights, or ORG/NAME on the hub.
        text: Files, folders, or a corpus that comes along.
        out: Folder of the drafter, new or empty.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        minutes: Stop after so many minutes, wherever the run is; --resume goes on.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    target: str
    text: tuple[str, ...]
    out: Path
    resume: bool = False
    minutes: float | None = None
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    if name is None and not {"-h", "--help"} & set(arguments):
        raise ValueError(
            "name the kind of drafter first: unison train-drafter KIND --target MODEL --text FILE "
            f"--out DIR; known kinds: {', '.join(KINDS)}."
        )
    config = DrafterRun(kind_named(next(iter(KINDS)) if name is None else name))
    kinds = f"Kinds: {', '.join(KINDS)}."
    flags, config = shared.parse_with(Flags, config, "train-drafter", arguments, kinds)
    if flags.minutes is not None and not flags.minutes > 0:
        raise ValueError(f"--minutes must be above 0, got {flags.minutes}.")
    model = load(flags.target, flags.device, "float32")
    room = Room(flags.out, flags.resume, flags.minutes)
    with _bar(config.steps) as observe:
        taught = train_drafter(config, model, flags.text, room, observe=[observe])
    report(taught, flags)


def report(taught: Taught, flags: Flags) -> None:
    """Say what a run left behind."""
    if flags.json:
        shared.emit({"drafter": str(flags.out), "target": flags.target, **metrics(taught)})
        return
    if taught.held_out is not None:
        print(f"held-out loss: {shared.said(taught.held_out)}")
    table = Table("depth", "agrees with the target", "places")
    for depth, share in enumerate(taught.agreement, start=1):
        table.add_row(str(depth), f"{share.value:.3f} ± {1.96 * share.stderr:.2g}", str(share.n))
    shared.Console().print(table)
    print(f"{taught.steps} steps; next: unison generate {flags.target} --drafter {flags.out}")


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[Event], None]]:
    """Yield an observer that draws a bar on a terminal, and plain lines elsewhere."""
    with shared.progress() as bars:
        task = bars.add_task("train-drafter", total=steps, note="")
        smooth: list[float] = []
        held_out: list[str] = [""]

        def observe(event: Event) -> None:
            before = smooth[-1] if smooth else event.outcome.loss
            smooth[:] = [_SMOOTHING * before + (1 - _SMOOTHING) * event.outcome.loss]
            if event.evaluation is not None:
                held_out[0] = f"  held-out {event.evaluation.value:.3f}"
            note = f"loss {smooth[0]:.3f}{held_out[0]}"
            bars.update(task, completed=event.step, note=note)
            if event.evaluation is not None and not shared.console.is_terminal:
                shared.log(f"train-drafter {event.step}/{steps}  {note}")

        yield observe
