"""unison continuous: train and sample models of images, sound and other continuous data."""

from collections.abc import Callable

from unison.cli import (
    continuous_diagnose,
    continuous_distil,
    continuous_recipe,
    continuous_sample,
    continuous_train,
    shared,
)
from unison.cli.continuous_parts import shelf
from unison.cli.suggest import nearest
from unison.data.continuous import BUILTIN, DEGRADATIONS
from unison.decode.continuous import GRIDS, SOLVERS
from unison.search.named import SEARCHES

_SHELVES = {
    "solvers": SOLVERS,
    "grids": GRIDS,
    "searches": SEARCHES,
    "degradations": DEGRADATIONS,
}


def solvers(arguments: list[str]) -> None:
    """List what can be chosen: solvers, grids, searches and degradations, with their settings."""
    json = arguments == ["--json"]
    if arguments and not json:
        raise ValueError(
            f"unknown option {arguments[0]!r}; unison continuous solvers takes --json."
        )
    found = {title: shelf(table) for title, table in _SHELVES.items()}
    if json:
        shared.emit(found)
        return
    for title, rows in found.items():
        print(f"{title}:")
        for name, row in rows.items():
            print(f"  {name:20}{row['about']}")
            if row["settings"]:
                print(f"  {'':20}{row['settings']}")


_DEEDS: dict[str, Callable[[list[str]], None]] = {
    "train": continuous_train.run,
    "sample": continuous_sample.run,
    "distil": continuous_distil.run,
    "diagnose": continuous_diagnose.run,
    "solvers": solvers,
    "recipe": continuous_recipe.run,
}


def run(arguments: list[str]) -> None:
    """Run the verb."""
    deed, rest = shared.take_leading(arguments)
    if deed is None and {"-h", "--help"} & {*arguments}:
        print(usage())
        return
    if deed not in _DEEDS:
        said = "name what to do" if deed is None else f"unknown deed {deed!r}"
        said += "" if deed is None else nearest(deed, _DEEDS)
        raise ValueError(f"{said}: unison continuous {' or '.join(_DEEDS)}.")
    _DEEDS[deed](rest)


def usage() -> str:
    """Return the overview of deeds."""
    return "\n".join(
        [
            "usage: unison continuous DEED [OPTIONS]",
            "",
            f"  train    learn from --data: {', '.join(BUILTIN)}, a file or a folder",
            "  sample   draw events from a run, as a sheet of pictures or an archive",
            "  diagnose measure dimension, curl and exposure bias of a run",
            "  distil   make a student that answers in fewer steps",
            "  solvers  list solvers, grids, searches and degradations",
            "  recipe   run an experiment by name, from data to figures; list them without a name",
            "",
            "unison continuous DEED --help",
        ]
    )
