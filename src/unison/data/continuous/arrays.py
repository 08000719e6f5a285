"""How are events read from NumPy files? One array, or an archive of values and labels."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unison.data.continuous.events import EventsError, Raw, Scaling

VALUES = ("values", "x", "x_train", "images", "data")
LABELS = ("labels", "y", "y_train", "targets", "label")
_COLOURS = (1, 3, 4)


def read_array(path: Path) -> Raw:
    """Read ``.npy`` or ``.npz``.

    Bytes are images, [N, height, width] or with channels last, and go to [-1, 1]. Other numbers
    are taken as they are, channels first; between 0 and 1 they go to [-1, 1], else to mean 0 and
    standard deviation 0.5.

    Raises:
        EventsError: The file is damaged, or does not say which array holds the events.
    """
    content = opened(path)
    name = _named(path, content, VALUES)
    if name is None:
        raise EventsError(
            f"{path} holds the arrays {', '.join(content) or '(none)'}; call the events one of "
            f"{', '.join(VALUES)} and their classes one of {', '.join(LABELS)}."
        )
    label = _named(path, content, LABELS) if len(content) > 1 else None
    values = content[name]
    labels = None if label is None else content[label]
    if values.dtype == np.uint8:
        return Raw(pictures(values), Scaling.between(0.0, 255.0), labels=labels)
    unit = values.size > 0 and values.dtype.kind == "f"
    unit = unit and bool(values.min() >= 0) and bool(values.max() <= 1)
    return Raw(values, Scaling.between(0.0, 1.0) if unit else None, labels=labels)


def opened(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; a lone one has the name ``values``.

    Raises:
        EventsError: The file is damaged, or holds Python objects.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {VALUES[0]: content}
        with content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise EventsError(f"{path} cannot be read as NumPy arrays ({error}).") from None


def pictures(values: np.ndarray) -> np.ndarray:
    """Return images with channels first."""
    if values.ndim == 3:
        return values[:, None]
    if values.ndim == 4 and values.shape[-1] in _COLOURS and values.shape[1] not in _COLOURS:
        return np.moveaxis(values, -1, 1)
    return values


def _named(path: Path, content: Mapping[str, np.ndarray], known: tuple[str, ...]) -> str | None:
    found = [name for name in known if name in content]
    if len(found) > 1:
        raise EventsError(f"{path} holds {' and '.join(found)}; keep one of them.")
    return found[0] if found else next(iter(content)) if len(content) == 1 else None
