"""unison demo: train, distil, sample, score and draw a report, in minutes on a CPU."""

from dataclasses import dataclass, replace
from pathlib import Path

from unison.cli import distil, shared, train
from unison.evaluate import figures
from unison.evaluate.quality import judge_of
from unison.recipes import Recipe
from unison.recipes.demonstration import SWEEP, Shown, boxed, sweep, write
from unison.recipes.run import Place, load


@dataclass(frozen=True)
class Flags:
    """Learn a small text and show the result; the first argument may name another recipe.

    Attributes:
        out: Folder of the demonstration.
        text: Files, folders or built-in corpora; the recipe's own if left out.
        samples: Samples scored at each number of steps.
        judge: ngram (trained on the text), smollm2 (extra judge), or a transformers folder.
        resume: Go on with what is in --out.
        seed: Names every random number.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path = Path("runs/demo")
    text: tuple[str, ...] = ()
    samples: int = 128
    judge: str = "ngram"
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    recipe, _ = train.recipe_of([name or "demo"])
    flags = shared.parse(Flags, "demo", arguments)
    figures.require()
    recipe = _seeded(recipe, flags)
    judge = judge_of(flags.judge, recipe.text)
    pair = _models(recipe, flags)
    scores = {}
    with shared.progress() as bars:
        task = bars.add_task("sample", total=len(pair) * len(SWEEP), note="")

        def tick(note: str) -> None:
            bars.update(task, advance=1, note=note)

        for shown in pair:
            scores[shown.name] = sweep(shown, judge, flags.samples, flags.seed, tick)
    beside = [boxed(flags.seed, flags.device)]
    page = write(flags.out, pair, scores, recipe, judge, beside)
    if flags.json:
        shared.emit({"report": str(page), "results": str(flags.out / "results.json")})
    else:
        print(page)


def _seeded(recipe: Recipe, flags: Flags) -> Recipe:
    return replace(
        recipe,
        train=replace(recipe.train, seed=flags.seed),
        distil=replace(recipe.distil, seed=flags.seed),
        text=flags.text or recipe.text,
    )


def _models(recipe: Recipe, flags: Flags) -> list[Shown]:
    """Train the base model and distil its student."""
    base, student = flags.out / "base", flags.out / "student"
    trained = train.go(
        recipe.train, recipe.text, Place(base, flags.resume, flags.device), recipe.steps
    )
    distilled = distil.go(
        recipe.distil, str(base), Place(student, flags.resume, flags.device), recipe.text
    )
    return [
        Shown(name, folder, model, model.defaults.strategy, finished)
        for name, folder, finished in (
            ("base", base, trained),
            ("student", student, distilled),
        )
        for model in [load(folder, flags.device)]
    ]
