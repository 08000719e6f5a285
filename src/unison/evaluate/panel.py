"""Which measurements of samples, beyond the ones that always come, and against what?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unison.evaluate.compression import compression_ratio, relative_compression
from unison.evaluate.divergence import mauve, require
from unison.evaluate.duplicates import distinct, duplicates, near_duplicates
from unison.evaluate.features import Unit, coordinates, find
from unison.evaluate.novelty import novelty
from unison.evaluate.vendi import spectrum_of, vendi
from unison.suggest import nearest
from unison.types import Estimate

ORDERS = (0.5, 1.0, 2.0, float("inf"))


@dataclass(frozen=True)
class Panel:
    """Measurements by name, and the texts they compare samples with.

    Attributes:
        metrics: Of ``METRICS``; none by default.
        reference: Texts that people wrote, for ``mauve`` and relative ``compression``. Longer ones
            are cut to the mean length of the samples, in characters.
        training: What the model was trained on, for ``novelty``; the reference if empty.
        features: What ``vendi`` and ``mauve`` see: ``words``, ``chars``, ``minilm`` or a folder.
        unit: What ``novelty`` counts.
        seed: Of the clustering of ``mauve``.
    """

    metrics: tuple[str, ...] = ()
    reference: Sequence[str] = ()
    training: Sequence[str] = ()
    features: str = "words"
    unit: Unit = "words"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(
                    f"There is no metric {name!r}{nearest(name, METRICS)}. Allowed are "
                    f"{', '.join(METRICS)}."
                )
        if "mauve" in self.metrics:
            require()
            if not any(self.reference):
                raise ValueError("The metric 'mauve' compares with a reference: give its texts.")
        if {"mauve", "vendi"} & {*self.metrics}:
            find(self.features)
        if "novelty" in self.metrics and not any(self.training or self.reference):
            raise ValueError("The metric 'novelty' compares with the training text: give it.")

    def measure(self, texts: Sequence[str]) -> dict[str, Estimate]:
        """Return the measurements of the samples.

        Raises:
            ValueError: There are no samples, or a package is not installed.
        """
        if not texts:
            raise ValueError("There are no samples to measure.")
        measured: dict[str, Estimate] = {}
        for name in self.metrics:
            measured |= METRICS[name](texts, self)
        return measured


def _vendi(texts: Sequence[str], panel: Panel) -> dict[str, Estimate]:
    features = find(panel.features)()
    kinds, counts = distinct(texts)
    spectrum = spectrum_of(features.vectors(kinds), counts)
    scores = {q: vendi(spectrum, q) for q in ORDERS}
    return {f"vendi_{q:g}": s._replace(unit=f"texts ({features.name})") for q, s in scores.items()}


def _mauve(texts: Sequence[str], panel: Panel) -> dict[str, Estimate]:
    features = find(panel.features)()
    length = max(1, round(np.mean([len(text) for text in texts])))
    human = windows(panel.reference, length, len(texts))
    both = coordinates(features.vectors([*human, *texts]))
    score = mauve(both[: len(human)], both[len(human) :], seed=panel.seed)
    return {"mauve": score._replace(unit=f"MAUVE ({features.name})")}


def _compression(texts: Sequence[str], panel: Panel) -> dict[str, Estimate]:
    measured = {"compression": compression_ratio(texts)}
    if any(panel.reference):
        measured["compression_to_reference"] = relative_compression(texts, panel.reference)
    return measured


def _duplicates(texts: Sequence[str], panel: Panel) -> dict[str, Estimate]:
    del panel  # Samples are compared with one another.
    return {"duplicates": duplicates(texts), "near_duplicates": near_duplicates(texts)}


def _novelty(texts: Sequence[str], panel: Panel) -> dict[str, Estimate]:
    return novelty(texts, panel.training or panel.reference, unit=panel.unit)


def windows(texts: Sequence[str], length: int, count: int) -> list[str]:
    """Return at most ``count`` pieces of texts, of ``length`` characters, spread evenly over them.

    A text no longer than ``length`` is one piece; the rest of a longer one, which does not fill a
    piece, is left out.
    """
    if length < 1 or count < 1:
        raise ValueError(f"Pieces are cut by length and count >= 1, got {length} and {count}.")
    pieces: list[str] = []
    for text in texts:
        starts = range(0, max(1, len(text) - length + 1), length) if text else ()
        pieces += [text[start : start + length] for start in starts]
    if len(pieces) <= count:
        return pieces
    return [pieces[i * len(pieces) // count] for i in range(count)]


METRICS: Mapping[str, Callable[[Sequence[str], Panel], dict[str, Estimate]]] = {
    "compression": _compression,
    "duplicates": _duplicates,
    "mauve": _mauve,
    "novelty": _novelty,
    "vendi": _vendi,
}
