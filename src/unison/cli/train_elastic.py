"""unison train-elastic: learn one network that holds many."""

from dataclasses import dataclass
from pathlib import Path

from unison.cli import shared
from unison.cli.bar import training_bar
from unison.cli.train import recipe_of, report
from unison.recipes.elastic import ElasticRun, train_elastic
from unison.recipes.run import Place


@dataclass(frozen=True)
class Flags:
    """Train a network whose parts of fewer layers, heads and units work on their own.

    The first argument may name a recipe (tiny_cpu if left out), whose values are flags below
    --train; the networks it is to hold are described below --elastic. The run holds elastic.json
    and elastic.md: what each of them is worth. unison cut takes one out.

    Attributes:
        out: Folder of the run, new or empty.
        base: A trained model to go on from: its shape is kept, and its heads and units are put in
            the order of their importance.
        text: Files, folders, or built-in corpora; the recipe's, or the base model's, if left out.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    base: str | None = None
    text: tuple[str, ...] = ()
    resume: bool = False
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    recipe, arguments = recipe_of(arguments)
    flags, config = shared.parse_with(Flags, ElasticRun(recipe.train), "train-elastic", arguments)
    tokens = config.train.batch_size * config.train.model.max_length
    text = flags.text or (() if flags.base is not None else recipe.text)
    with training_bar("train", config.train.steps, tokens) as observe:
        held = train_elastic(
            config,
            text,
            Place(flags.out, flags.resume, flags.device),
            base=flags.base,
            steps=recipe.steps,
            observe=[observe],
        )
    report(held.finished, flags.json)
    if not flags.json:
        print((flags.out / "elastic.md").read_text(encoding="utf-8"), end="")
