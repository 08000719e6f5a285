"""Which runs have a name? Functions that return configurations; add a line to give yours one."""

from collections.abc import Callable

from unison.recipes.published import duo_lm1b, duo_owt
from unison.recipes.recipe import Recipe, with_method, with_objective
from unison.recipes.small import demo, small_gpu, stories, stories_continued, tiny_cpu

RECIPES: dict[str, Callable[[], Recipe]] = {
    "tiny_cpu": tiny_cpu,
    "demo": demo,
    "stories": stories,
    "stories_continued": stories_continued,
    "small_gpu": small_gpu,
    "duo_lm1b": duo_lm1b,
    "duo_owt": duo_owt,
}

__all__ = ["RECIPES", "Recipe", "with_method", "with_objective"]
