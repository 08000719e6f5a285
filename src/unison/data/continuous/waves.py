"""How is sound read? A folder of WAV files, or recordings end to end in one archive."""

import re
import wave
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from unison.data.continuous.events import EventsError, Raw

LENGTH = 4096  # half a second of speech at 8 kHz
RECORDINGS = ("pcm", "offset")
_WIDTHS = {1: np.uint8, 2: np.int16, 4: np.int32}
_LEADING = re.compile(r"(\d+)_")


def read_waves(files: list[Path], length: int | None) -> Raw:
    """Read WAV files, one event each: channels averaged, cut or filled with silence at the end.

    Names that all begin with a number and an underscore (``7_george_3.wav``) have it for a class.

    Raises:
        EventsError: A file is damaged, compressed, or has another rate than the first.
    """
    sounds = [_sound(path) for path in files]
    rates = {rate for _, rate in sounds}
    if len(rates) > 1:
        raise EventsError(
            f"the WAV files under {files[0].parent} have rates {', '.join(map(str, sorted(rates)))}"
            " Hz; bring them to one."
        )
    values = np.stack([fitted(sound, length or LENGTH) for sound, _ in sounds])
    classes = [_LEADING.match(path.name) for path in files]
    labels = [int(found[1]) for found in classes if found]
    return Raw(values, None, labels=np.array(labels) if len(labels) == len(files) else None)


def read_recordings(content: Mapping[str, np.ndarray], length: int | None) -> Raw:
    """Read an archive whose ``pcm`` holds recordings end to end, each from ``offset[i]``.

    Raises:
        EventsError: The offsets do not fit.
    """
    pcm, offset = content["pcm"], content["offset"]
    ends = offset.astype(np.int64)
    if len(ends) < 2 or ends[0] < 0 or ends[-1] > len(pcm) or not (np.diff(ends) > 0).all():
        raise EventsError(f"offset must rise from 0 to at most {len(pcm)}, the length of pcm.")
    sounds = [pcm[first:last] for first, last in pairwise(ends.tolist())]
    values = np.stack([fitted(sound / 2**15, length or LENGTH) for sound in sounds])
    return Raw(values, None, "see the archive", content.get("digit"))


def fitted(sound: np.ndarray, length: int) -> np.ndarray:
    """Return a sound of one length, [1, length]: cut, or filled with silence."""
    out = np.zeros((1, length), np.float32)
    kept = sound[:length]
    out[0, : len(kept)] = kept
    return out


def _sound(path: Path) -> tuple[np.ndarray, int]:
    try:
        with wave.open(str(path), "rb") as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            content, rate = file.readframes(file.getnframes()), file.getframerate()
    except (wave.Error, EOFError, OSError) as error:
        raise EventsError(f"{path} cannot be read as WAV ({error}).") from None
    if width not in _WIDTHS:
        raise EventsError(f"{path} has {8 * width} bits a sample; 8, 16 or 32 are read.")
    if not content:
        raise EventsError(f"{path} is empty.")
    samples = np.frombuffer(content, _WIDTHS[width]).astype(np.float32)
    samples = (samples - 128) / 128 if width == 1 else samples / 2.0 ** (8 * width - 1)
    return samples.reshape(-1, channels).mean(1), rate
