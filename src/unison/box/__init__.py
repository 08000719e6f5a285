"""Which models come with the package? Small ones, so that text is written at once.

``stories`` writes children's stories in a few steps; it is the student of ``stories-base``. Each
folder is an ordinary model directory; ``MODEL_CARD.md`` says what they learnt from and how well.
"""

from pathlib import Path

DEFAULT = "stories"
NAMES = (DEFAULT, "stories-base")
CARD = Path(__file__).parent / "MODEL_CARD.md"


def folder(name: str) -> Path | None:
    """Return where the model of a name lies; ``None`` if none of that name is in the box."""
    return Path(__file__).parent / name if name in NAMES else None
