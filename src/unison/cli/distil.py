"""unison distil: teach a model to need fewer steps."""

from dataclasses import dataclass
from pathlib import Path

from unison.cli import shared
from unison.cli.bar import training_bar
from unison.cli.suggest import nearest
from unison.cli.train import report
from unison.distil import Distil
from unison.generation import process_name
from unison.recipes import RECIPES, with_method
from unison.recipes.run import Finished, Place, distil, load


@dataclass(frozen=True)
class Flags:
    """Distil a trained model: the first argument is the run, or the folder of a model.

    --recipe starts from the distillation of a named recipe (tiny_cpu if left out). The method
    follows from the model: dcd for uniform-state models, sdtt for masked ones.

    Attributes:
        out: Folder of the new run, new or empty.
        text: Text to distil on; that of the base run if left out.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    text: tuple[str, ...] = ()
    resume: bool = False
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    base, arguments = shared.take_leading(arguments)
    recipe, arguments = shared.take_flag(arguments, "--recipe")
    config = _settings(recipe or "tiny_cpu", base)
    flags, config = shared.parse_with(Flags, config, "distil", arguments)
    if base is None:
        raise ValueError("name the run to distil first: unison distil RUN --out DIR.")
    place = Place(flags.out, flags.resume, flags.device)
    report(go(config, base, place, flags.text), flags.json)


def go(config: Distil, base: str, place: Place, text: tuple[str, ...] = ()) -> Finished:
    """Distil with a bar on stderr."""
    steps = config.rounds * config.round_steps
    tokens = config.batch_size * load(base, "cpu").max_length
    with training_bar("distil", steps, tokens) as observe:
        return distil(config, base, place, text=text, observe=[observe])


def _settings(recipe: str, base: str | None) -> Distil:
    if recipe not in RECIPES:
        raise ValueError(
            f"unknown recipe {recipe!r}{nearest(recipe, RECIPES)}; known: {', '.join(RECIPES)}."
        )
    config = RECIPES[recipe]().distil
    if base is None:
        return config
    return with_method(config, process_name(load(base, "cpu").process))
