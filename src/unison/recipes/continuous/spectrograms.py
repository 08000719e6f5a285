"""What do sounds look like side by side? A sheet of spectrograms: a row a clip, a column a method.

Amplitudes of a short-time Fourier transform, in dB under the loudest of the sheet.
"""

import importlib
import io
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from unison.data.continuous.spectra import Spectra
from unison.evaluate import figures
from unison.evaluate.theme import LIGHT

Waves = Float[Tensor, "B N"]

_DEEP = 60.0  # dB under the loudest that are black
_SIDE = 1.7  # inches of a picture


def spectrograms(sounds: Mapping[str, Waves], rate: int) -> bytes:
    """Return a PNG file, a column for each name and a row for each wave.

    Args:
        sounds: As many waves under each name, of one length.
        rate: Samples a second.

    Raises:
        ValueError: matplotlib is missing.
    """
    figures.require()
    how = Spectra(window=256, hop=32)
    shown = {name: _decibels(how, waves) for name, waves in sounds.items()}
    top = max(float(part.max()) for part in shown.values())
    rows, seconds = len(next(iter(shown.values()))), next(iter(sounds.values())).shape[1] / rate
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(_SIDE * len(shown), _SIDE * rows), dpi=120, layout="constrained"
    )
    grid = figure.subplots(rows, len(shown), sharex=True, sharey=True, squeeze=False)
    for column, (name, pictures) in enumerate(shown.items()):
        grid[0, column].set_title(name, fontsize=9, color=LIGHT.ink)
        for row, picture in enumerate(pictures):
            axes = grid[row, column]
            axes.imshow(
                picture.numpy(),
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=top - _DEEP,
                vmax=top,
                extent=(0.0, seconds, 0.0, rate / 2000),
            )
            axes.tick_params(labelsize=7, colors=LIGHT.ink)
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize=8, color=LIGHT.ink)
    for axes in grid[:, 0]:
        axes.set_ylabel("kHz", fontsize=8, color=LIGHT.ink)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _decibels(how: Spectra, waves: Waves) -> Tensor:
    return 20 * how.transformed(waves.double()).abs().clamp(min=1e-6).log10()
