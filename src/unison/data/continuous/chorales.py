"""How is music of several voices read? As piano rolls, one for each window of each piece."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from unison.data.continuous.events import EventsError, Raw, Scaling

LENGTH = 32
VOICES = 4


def read_chorales(path: Path, length: int | None) -> Raw:
    """Read pieces, ``{"train": [[[pitch of each voice] of each time] of each piece]}``.

    An event is [voices, time, pitch], 1 where a voice sounds a pitch, else -1, over the pitches
    that occur. Windows do not overlap; those where not all four voices sound are left out,
    because the file does not say whose voice is silent. The order of voices is the file's. Windows
    of one piece are held out together.

    Raises:
        EventsError: The file is damaged or holds no full window.
    """
    windows, groups = _windows(path, length or LENGTH)
    pitches = np.asarray(windows)
    lowest = pitches.min()
    if not 0 <= lowest <= pitches.max() < 128:
        raise EventsError(f"{path}: pitches must be in [0, 127], got {lowest} to {pitches.max()}.")
    rolls = np.zeros((*pitches.shape, pitches.max() - lowest + 1), np.uint8)
    np.put_along_axis(rolls, (pitches - lowest)[..., None], 1, axis=-1)
    return Raw(rolls.transpose(0, 2, 1, 3), Scaling.between(0.0, 1.0), groups=groups)


def lowest_pitch(path: Path, length: int | None) -> int:
    """Return the MIDI pitch of the first row of the piano rolls of a file.

    Raises:
        EventsError: As for ``read_chorales``.
    """
    return int(np.asarray(_windows(path, length or LENGTH)[0]).min())


def _windows(path: Path, length: int) -> tuple[list[list[list[int]]], list[bytes]]:
    """Return the windows of a file, and the piece that each is of."""
    windows: list[list[list[int]]] = []
    groups: list[bytes] = []
    for number, piece in enumerate(_pieces(path)):
        for first in range(0, len(piece) - length + 1, length):
            window = piece[first : first + length]
            if all(len(chord) == VOICES for chord in window):
                windows.append(window)
                groups.append(b"piece %d" % number)
    if not windows:
        raise EventsError(
            f"{path} has no {length} times in a row with {VOICES} voices; choose a smaller length."
        )
    return windows, groups


def _pieces(path: Path) -> list[list[list[int]]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        splits = content.values() if isinstance(content, dict) else [content]
        return [
            [[int(pitch) for pitch in chord] for chord in piece]
            for split in splits
            for piece in split
        ]
    except (OSError, ValueError, TypeError) as error:
        raise EventsError(
            f"{path} cannot be read as pieces of music ({error}); needed are JSON lists of pieces "
            "of chords of pitches."
        ) from None
