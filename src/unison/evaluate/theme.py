"""Which colours do figures and pages have? Those of Okabe and Ito (2008), on light or dark paper.

Colour-blind readers tell them apart; on dark paper they are lighter, for contrast.
"""

from typing import NamedTuple


class Theme(NamedTuple):
    """Colours of figures and of the page around them.

    Attributes:
        paper: Background.
        ink: Text.
        muted: Text of second rank.
        faint: Rules and grid lines.
        glow: Background of what is marked.
        palette: Lines, in order.
    """

    paper: str
    ink: str
    muted: str
    faint: str
    glow: str
    palette: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#222222", "#5c6370", "#d9d9d9", "#dcecf7",
    ("#0072b2", "#d55e00", "#009e73", "#b0578d", "#8a6d00", "#222222"),
)  # fmt: skip
DARK = Theme(
    "#16191d", "#e6e6e6", "#a3abb5", "#3a4048", "#1d3a4f",
    ("#56b4e9", "#e69f00", "#2fc79a", "#e08fbf", "#f0e442", "#e6e6e6"),
)  # fmt: skip
