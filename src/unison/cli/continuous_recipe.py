"""unison continuous recipe: a whole experiment by name, from data to numbers and figures."""

from dataclasses import dataclass
from pathlib import Path

from unison.cli import shared
from unison.cli.continuous_parts import renamed, shelf
from unison.cli.suggest import nearest
from unison.recipes.continuous import RECIPES
from unison.recipes.continuous.report import Report, as_json, cell, table
from unison.types import Estimate


@dataclass(frozen=True)
class Flags:
    """Run an experiment: read data, train, draw, measure, and write figures and numbers.

    A folder that holds the same experiment is gone on with: what is trained already stays.

    Attributes:
        out: Folder of the experiment, new, empty or its own.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the deed."""
    name, rest = shared.take_leading(renamed(arguments))
    if name is None:
        listed(rest)
        return
    if name not in RECIPES:
        raise ValueError(
            f"unknown recipe {name!r}{nearest(name, RECIPES)}; known: {', '.join(RECIPES)}."
        )
    recipe = RECIPES[name]
    about = (recipe.config.__doc__ or "").partition("Attributes:")[0]
    flags, config = shared.parse_with(
        Flags, recipe.config(), f"continuous recipe {name}", rest, about
    )
    report(recipe.run(config, flags.out, shared.log), flags)


def listed(arguments: list[str]) -> None:
    """List the recipes with their settings.

    Raises:
        ValueError: An option is none of the list's.
    """
    odd = [word for word in arguments if word not in ("--list", "--json", "-h", "--help")]
    if odd:
        raise ValueError(
            f"unknown option {odd[0]!r} before a recipe is named; known recipes: "
            f"{', '.join(RECIPES)}."
        )
    rows = shelf({name: recipe.config for name, recipe in RECIPES.items()})
    if "--json" in arguments:
        shared.emit({"recipes": rows})
        return
    print("usage: unison continuous recipe NAME --output DIR [OPTIONS]\n")
    for name, row in rows.items():
        print(f"  {name:20}{row['about']}")
        print(f"  {'':20}{row['settings']}")
    print("\nunison continuous recipe NAME --help")


def report(found: Report, flags: Flags) -> None:
    """Say what was found, and where it is."""
    if flags.json:
        shared.emit({"folder": str(flags.out), **as_json(found)})
        return
    for line in table(found.numbers):
        print(line)
    for name, fact in found.facts.items():
        print(f"{name}: {cell(fact) if isinstance(fact, Estimate) else fact}")
    print(f"{found.seconds:.0f} s, {', '.join(found.files)} in {flags.out}")
