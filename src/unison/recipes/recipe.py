"""What is a recipe? A training run, how it is distilled, and the text it was made for."""

import dataclasses
from dataclasses import dataclass, field

from unison.distil import METHODS, Distil
from unison.train import Train
from unison.train.config import fitted, objective_of


@dataclass(frozen=True)
class Recipe:
    """A named pair of runs.

    Attributes:
        train: The training run.
        distil: The distillation that suits it.
        text: Sources it was made for; any text may be given instead.
        steps: Denoiser evaluations its model is sampled with by default.
    """

    train: Train
    distil: Distil = field(default_factory=Distil)
    text: tuple[str, ...] = ("python-docs",)
    steps: int = 64


def with_objective(recipe: Recipe, name: str) -> Recipe:
    """Return the recipe with another family's objective and the attention that goes with it.

    Raises:
        ValueError: The objective is unknown.
    """
    objective = objective_of(name)
    if isinstance(recipe.train.objective, type(objective)):
        return recipe
    model = fitted(recipe.train.model, objective)
    train = dataclasses.replace(recipe.train, objective=objective, model=model)
    return dataclasses.replace(recipe, train=train)


def with_method(config: Distil, process: str) -> Distil:
    """Return the distillation with the method for a model's process.

    Raises:
        ValueError: No method distils that process.
    """
    if config.method.process == process:
        return config
    fitting = [kind for kind in METHODS.values() if kind.process == process]
    if not fitting:
        raise ValueError(f"no distillation method for the {process} process.")
    return dataclasses.replace(config, method=fitting[0]())
