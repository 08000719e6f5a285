"""Where do events come from? A name of a built-in set, a file or a folder."""

from dataclasses import dataclass
from pathlib import Path

from unison.data.continuous import pictures, waves
from unison.data.continuous.arrays import opened, read_array
from unison.data.continuous.builtin import BUILTIN
from unison.data.continuous.chorales import read_chorales
from unison.data.continuous.events import Events, EventsError, Raw, made
from unison.suggest import nearest

_WAVES = (".wav",)


@dataclass(frozen=True)
class Reading:
    """How events are read.

    Attributes:
        size: Side of images of a folder, in pixels.
        length: Samples of a sound, or times of a piece of music; ``None`` for the format's own.
        holdout: Share of the events that is held out.
        seed: Another one holds out other events.
    """

    size: int = 32
    length: int | None = None
    holdout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise EventsError(f"data size must be at least 1, got {self.size}.")
        if self.length is not None and self.length < 1:
            raise EventsError(f"data length must be at least 1, got {self.length}.")


def read(source: str | Path, reading: Reading | None = None) -> Events:
    """Read events.

    Args:
        source: ``digits``, ``faces`` or ``mnist5k``; an ``.npy`` or ``.npz`` file; chorales as
            ``.json``; a folder of PNG and JPEG images, or of WAV files.
        reading: How.

    Raises:
        ValueError: There is no such source, or it is empty, damaged or holds unusable numbers.
    """
    how = reading or Reading()
    return made(str(source), _raw(str(source), how), how.holdout, how.seed)


def _raw(source: str, how: Reading) -> Raw:
    if source in BUILTIN:
        return BUILTIN[source]()
    path = Path(source).expanduser()
    if not path.exists():
        raise EventsError(
            f"there are no data called {source!r}{nearest(source, BUILTIN)}; known: "
            f"{', '.join(BUILTIN)}, or give a file or a folder that exists."
        )
    if path.is_dir():
        return _folder(path, how)
    if path.suffix == ".json":
        return read_chorales(path, how.length)
    if path.suffix not in (".npy", ".npz"):
        raise EventsError(
            f"{path} is of no known kind; give .npy, .npz, chorales as .json, or a folder of "
            "images or WAV files."
        )
    if path.suffix == ".npz":
        content = opened(path)
        if all(name in content for name in waves.RECORDINGS):
            return waves.read_recordings(content, how.length)
    return read_array(path)


def _folder(path: Path, how: Reading) -> Raw:
    """Read a folder of one kind of files."""
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    images = [file for file in inside if file.suffix.lower() in pictures.SUFFIXES]
    sounds = [file for file in inside if file.suffix.lower() in _WAVES]
    if bool(images) == bool(sounds):
        found = "both images and WAV files" if images else "no PNG, JPEG or WAV file"
        raise EventsError(f"{path} holds {found}; give a folder with one of the two kinds.")
    if images:
        return pictures.read_pictures(path, images, how.size)
    return waves.read_waves(sounds, how.length)
