"""Which rows are there, and which of them were asked for? One table by name, and its groups."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from unison.bench.record import BenchError
from unison.bench.roofline.decoding import left_to_right, speculating, writing
from unison.bench.roofline.learning import evaluation, training
from unison.bench.roofline.stage import Stage
from unison.bench.roofline.work import Work
from unison.decode import STRATEGIES
from unison.decode.presets import PRESETS
from unison.generation import strategy_named
from unison.suggest import nearest

Maker = Callable[[Stage], Work]

LEFT_OUT = {"learn2pd": "it needs a filter that was trained for the model."}


def makers(more: Mapping[str, Maker]) -> dict[str, Maker]:
    """Return what makes each row, in the order of a report.

    A sampler is named with its process, as in ``ancestral/uniform``; a preset works on masks where
    it can.

    Args:
        more: Rows of rooms above this one, by name: ``distil``, ``serve``.
    """
    found: dict[str, Maker] = {"train": training, **_picked(more, "distil"), "forward": evaluation}
    for name, kind in STRATEGIES.items():
        for process in kind.processes:
            if process != "sequential":
                row = f"{name}/{process}"
                found[row] = partial(writing, strategy=name, process=process, name=row)
    for name in PRESETS:
        if name not in LEFT_OUT:
            found[name] = partial(writing, strategy=name, process=_process(name), name=name)
    found |= {"ar": left_to_right, "speculation": speculating}
    return found | dict(more)


def groups(known: Sequence[str]) -> dict[str, list[str]]:
    """Return names that stand for several rows."""
    found: dict[str, list[str]] = {"samplers": [name for name in known if "/" in name]}
    found["presets"] = [name for name in PRESETS if name in known]
    for name in found["samplers"]:
        found.setdefault(name.partition("/")[0], []).append(name)
    return found


def chosen(only: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the rows that were asked for, in the order of a report.

    Args:
        only: Names of rows or groups; empty for all.
        known: All rows.

    Raises:
        BenchError: One is unknown; the message suggests the nearest.
    """
    several = groups(known)
    every = [*known, *(name for name in several if name not in known)]
    for name in only:
        if name in LEFT_OUT:
            raise BenchError(f"{name} cannot be measured: {LEFT_OUT[name]}")
        if name not in every:
            raise BenchError(
                f"unknown row {name!r}{nearest(name, every)}; known: {', '.join(every)}."
            )
    wanted = {name for one in only for name in (one, *several.get(one, ()))}
    return [name for name in known if not only or name in wanted]


def _picked(more: Mapping[str, Maker], name: str) -> dict[str, Maker]:
    return {name: more[name]} if name in more else {}


def _process(preset: str) -> str:
    """Return the process a preset is measured with: masks, unless it does not know them."""
    strategy = strategy_named(preset)
    revise = getattr(strategy, "revise", None)
    able = strategy.processes if revise is None else revise.processes
    return "absorbing" if "absorbing" in able else able[0]
