"""How are images read from a folder? PNG and JPEG, cut to a square and brought to one size."""

import importlib.util
from pathlib import Path

import numpy as np

from unison.data.continuous.events import EventsError, Raw, Scaling

SUFFIXES = (".png", ".jpg", ".jpeg")


def read_pictures(folder: Path, files: list[Path], size: int) -> Raw:
    """Read images; those in subfolders have the subfolder for a class, in alphabetical order.

    All are grey if the first is, else all are in colour.

    Raises:
        EventsError: Pillow is missing, or a file is damaged.
    """
    if importlib.util.find_spec("PIL") is None:
        raise EventsError("to read images Pillow is needed; pip install 'unison[continuous]'.")
    mode = ""
    rows = []
    for path in files:
        try:
            image, mode = _square(path, mode, size)
        except (OSError, SyntaxError, ValueError) as error:
            raise EventsError(f"{path} cannot be read as an image ({error}).") from None
        rows.append(image)
    values = np.stack(rows).reshape(len(rows), size, size, -1)
    return Raw(np.moveaxis(values, -1, 1), Scaling.between(0.0, 255.0), labels=_of(folder, files))


def _of(folder: Path, files: list[Path]) -> np.ndarray | None:
    """Return the number of each file's subfolder, if all are in one."""
    homes = [path.relative_to(folder).parts[:-1] for path in files]
    names = sorted({parts[0] for parts in homes if parts})
    if not names or not all(homes):
        return None
    return np.array([names.index(parts[0]) for parts in homes])


def _square(path: Path, mode: str, size: int) -> tuple[np.ndarray, str]:
    """Return the middle of an image, and the mode it was read in: its own if none is given."""
    from PIL import Image

    with Image.open(path) as image:
        mode = mode or ("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB")
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        square = image.convert(mode).crop((left, top, left + side, top + side))
        return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)), mode
