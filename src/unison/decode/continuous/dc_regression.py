"""Which ratios will another guidance or another number of steps need? Cascade polynomials.

Zhao et al. (2024, arXiv:2409.03755): the ratio of a step is a cubic of its place, whose
coefficients are quadratics of the guidance, whose coefficients are quadratics of the number of
steps: 36 numbers, linear in all of them, fitted to ratios that were searched.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unison.files import write_json

_SHAPE = (4, 3, 3)
_GUIDANCE, _STEPS = 12.0, 50.0  # scales of the paper, so that inputs are near 1
_KIND = "cascade polynomials of DC-Solver"


class Case(NamedTuple):
    """Ratios that were searched for one setting.

    Attributes:
        guidance: Weight of the guidance.
        ratios: Of each step; their number is that of the steps.
    """

    guidance: float
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Cascade:
    """Ratios as a function of guidance and steps.

    Attributes:
        coefficients: 36 numbers: powers of the place, of the guidance and of the steps.
        first: The first step that is compensated.
    """

    coefficients: tuple[float, ...]
    first: int = 2

    def __post_init__(self) -> None:
        if len(self.coefficients) != 36:
            raise ValueError(f"a cascade is 36 numbers, got {len(self.coefficients)}.")

    def ratios(self, guidance: float, steps: int) -> tuple[float, ...]:
        """Return the ratio of each step."""
        return tuple(
            1 + float(_row(guidance, steps, step) @ np.array(self.coefficients))
            if step >= self.first
            else 1.0
            for step in range(steps)
        )


def fit(cases: Sequence[Case], first: int = 2) -> Cascade:
    """Fit a cascade by least squares; with less cases than unknowns the smallest one.

    What is fitted is the distance from 1, so that nothing known means no compensation.

    Args:
        cases: Settings with their ratios.
        first: The first step that is compensated.

    Raises:
        ValueError: No case has a step that is.
    """
    rows = [
        (_row(case.guidance, len(case.ratios), step), ratio - 1)
        for case in cases
        for step, ratio in enumerate(case.ratios)
        if step >= first
    ]
    if not rows:
        raise ValueError(f"no case has more than {first} steps; there is nothing to fit.")
    inputs, outputs = (np.stack(column) for column in zip(*rows, strict=True))
    found = np.linalg.lstsq(inputs, outputs, rcond=1e-6)[0]
    return Cascade(tuple(found.tolist()), first)


def save(cascade: Cascade, path: Path) -> None:
    """Write a cascade to one JSON file."""
    content = {"kind": _KIND, "first": cascade.first, "coefficients": list(cascade.coefficients)}
    write_json(path, content)


def load(path: Path) -> Cascade:
    """Read what ``save`` wrote.

    Raises:
        ValueError: The file holds something else.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise ValueError(f"{path} does not hold {_KIND}.")
    return Cascade(tuple(content["coefficients"]), content["first"])


def _row(guidance: float, steps: int, step: int) -> np.ndarray:
    """Return what the 36 coefficients are multiplied with."""
    powers = [
        np.array(value) ** np.arange(count)
        for value, count in zip(
            (step / steps, guidance / _GUIDANCE, steps / _STEPS), _SHAPE, strict=True
        )
    ]
    return np.einsum("i,j,k->ijk", *powers).ravel()
