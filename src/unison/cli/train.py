"""unison train: learn a model from text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison.cli import shared
from unison.cli.bar import training_bar
from unison.cli.suggest import nearest
from unison.recipes import RECIPES, Recipe, with_objective
from unison.recipes.run import Finished, Place, train
from unison.train import Train
from unison.train.folder import RUN_FILE, read_manifest


@dataclass(frozen=True)
class Flags:
    """Train a model on text.

    The first argument may name a recipe (tiny_cpu if left out), and --objective another family's
    loss (see docs/objectives.md); every flag below starts from the recipe's value.

    Attributes:
        out: Folder of the run, new or empty.
        text: Files, folders, or the built-in corpora python-docs and python-stdlib; the recipe's
            own, or the base model's, if left out.
        base: A model to begin with: its weights and tokenizer. Its shape must be this run's.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    text: tuple[str, ...] = ()
    base: str | None = None
    resume: bool = False
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    recipe, arguments = recipe_of(arguments)
    flags, config = shared.parse_with(Flags, recipe.train, "train", arguments)
    place = Place(flags.out, flags.resume, flags.device)
    text = flags.text or (() if flags.base is not None else recipe.text)
    report(go(config, text, place, recipe.steps, flags.base), flags.json)


def recipe_of(arguments: list[str]) -> tuple[Recipe, list[str]]:
    """Return the recipe that arguments name, and the arguments left.

    Raises:
        ValueError: The recipe or the objective is unknown.
    """
    name, arguments = shared.take_leading(arguments)
    name = name or "tiny_cpu"
    if name not in RECIPES:
        raise ValueError(
            f"unknown recipe {name!r}{nearest(name, RECIPES)}; known: {', '.join(RECIPES)}."
        )
    objective, arguments = shared.take_flag(arguments, "--objective")
    recipe = RECIPES[name]()
    return (recipe if objective is None else with_objective(recipe, objective)), arguments


def go(
    config: Train, text: tuple[str, ...], place: Place, steps: int, base: str | None = None
) -> Finished:
    """Train with a bar on stderr."""
    tokens = config.batch_size * config.model.max_length
    with training_bar("train", config.steps, tokens) as observe:
        return train(config, text, place, base=base, steps=steps, observe=[observe])


def report(finished: Finished, json: bool) -> None:
    """Say what a run left behind."""
    private = _promised(finished.folder)
    if json:
        shared.emit(
            {
                "run": str(finished.folder),
                "steps": finished.steps,
                "skipped": finished.skipped,
                "held_out": shared.jsonable(finished.held_out),
                "bits_per_byte": shared.jsonable(finished.bits_per_byte),
                **({} if private is None else {"privacy": private}),
            }
        )
        return
    if private is not None:
        print(shared.promise(private))
    for estimate in (finished.held_out, finished.bits_per_byte):
        if estimate is not None:
            print(f"held-out text: {shared.said(estimate)}")
    print(f"{finished.steps} steps; next: unison generate {finished.folder}")


def _promised(folder: Path) -> dict[str, Any] | None:
    """Return what a run promises of single rows; ``None`` if nothing."""
    return read_manifest(folder).get("privacy") if (folder / RUN_FILE).exists() else None
