"""How is music of several voices written? A standard MIDI file, one track a voice."""

import struct
from itertools import groupby
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from unison import files

_TICKS = 480  # in a quarter
_LOUD = 80


def write_midi(path: Path, pitches: Int[Tensor, "V T"], quarters: float = 1.0) -> None:
    """Write voices; equal pitches in a row are one note that is held.

    Args:
        path: The file.
        pitches: MIDI pitch of each voice at each time.
        quarters: Length of a time.

    Raises:
        ValueError: A pitch is not in [0, 127].
    """
    low, high = int(pitches.min()), int(pitches.max())
    if not 0 <= low <= high < 128:
        raise ValueError(f"MIDI pitches are in [0, 127], got {low} to {high}.")
    ticks = round(_TICKS * quarters)
    tracks = [_track(voice, channel, ticks) for channel, voice in enumerate(pitches.tolist())]
    head = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), _TICKS)
    files.write_bytes(path, head + b"".join(tracks))


def _track(voice: list[int], channel: int, ticks: int) -> bytes:
    body = b""
    for pitch, held in groupby(voice):
        body += b"\x00" + bytes((0x90 | channel, pitch, _LOUD))
        body += _variable(len(list(held)) * ticks) + bytes((0x80 | channel, pitch, 0))
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(body)) + body


def _variable(number: int) -> bytes:
    """Return a number in groups of seven bits, all but the last marked."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | (number & 0x7F))
    return bytes(reversed(groups))
