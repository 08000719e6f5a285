"""How do panels become a figure of a report? Light, dark and for papers; or not at all."""

import importlib.util
from collections.abc import Sequence

from unison.bench.report.document import Figure
from unison.evaluate.figures import Panel, drawn
from unison.evaluate.scatter import Scatter

MISSING = (
    "Figures are missing because matplotlib is not installed; run: pip install 'unison[plot]' and "
    "then the same command again with --resume, which asks the models nothing twice."
)


def can_draw() -> bool:
    """Return whether the package that draws is there."""
    return importlib.util.find_spec("matplotlib") is not None


def figures(
    name: str, panels: Sequence[Panel | Scatter], caption: str, alt: str
) -> tuple[Figure, ...]:
    """Return one figure in every form, or none where nothing can be drawn.

    Args:
        name: Of its files: letters, digits, hyphens.
        panels: From top to bottom.
        caption: What it shows and how to read it.
        alt: What someone who does not see it must know.
    """
    if not can_draw():
        return ()
    light, dark = drawn(panels), drawn(panels, dark=True)
    return (Figure(name, light, dark, drawn(panels, kind="svg"), caption, alt),)
