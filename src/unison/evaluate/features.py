"""How alike are two texts? Texts as vectors of length 1, and kernels that compare them.

Features by n-grams need nothing; an encoder of ``transformers`` (:mod:`unison.evaluate.encoder`)
sees meaning. Kernels here have ones on the diagonal and no negative eigenvalue: the cosine because
it is an inner product, the Jaccard index by Gower (1971, doi 10.2307/2528823).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from unison.evaluate.encoder import Encoder, minilm_folder
from unison.suggest import nearest

Texts = Sequence[str] | Sequence[Sequence[int]]
Vectors = Float[np.ndarray, "N D"]
Kernel = Float[np.ndarray, "N N"]
Unit = Literal["words", "chars"]


@runtime_checkable
class Features(Protocol):
    """What texts are compared by."""

    @property
    def name(self) -> str:
        """What numbers made from these features must be labelled with."""
        ...

    def vectors(self, texts: Sequence[str]) -> Vectors | csr_array:
        """Return one vector of length 1 per text; their inner products are similarities.

        Vectors of two calls need not share their axes: what is compared goes in together.
        """
        ...


@dataclass(frozen=True)
class Grams:
    """How often each n-gram occurs: sees wording, not meaning.

    Attributes:
        unit: Of what: words between white space, or characters.
        n: Length of a gram.
    """

    unit: Unit = "words"
    n: int = 2

    def __post_init__(self) -> None:
        _check_n(self.n)

    @property
    def name(self) -> str:
        """For example ``word 2-grams``."""
        return f"{self.unit.removesuffix('s')} {self.n}-grams"

    def vectors(self, texts: Sequence[str]) -> csr_array:
        """Return the counts of every n-gram, each row scaled to length 1."""
        return _unit_sparse(gram_counts([units(text, self.unit) for text in texts], self.n))


def units(text: str, unit: Unit) -> Sequence[str]:
    """Return the words or the characters of a text."""
    return text if unit == "chars" else text.split()


def gram_counts(texts: Sequence[Sequence[str]] | Texts, n: int) -> csr_array:
    """Return how often each n-gram of all texts occurs in each, [texts, n-grams] float64.

    A text of fewer than ``n`` units is one gram by itself, so that no row is empty.

    Args:
        texts: Strings (grams of characters), lists of words, or lists of token ids.
        n: Length of a gram.

    Raises:
        ValueError: There are no texts, or ``n`` is below 1.
    """
    _check_n(n)
    if len(texts) == 0:
        raise ValueError("There are no texts to compare.")
    places: dict[object, int] = {}
    rows, columns, counts = [], [], []
    for number, text in enumerate(texts):
        for gram, count in Counter(_grams(text, n)).items():
            rows.append(number)
            columns.append(places.setdefault(gram, len(places)))
            counts.append(float(count))
    return csr_array((counts, (rows, columns)), shape=(len(texts), len(places)))


def cosine(vectors: Vectors | csr_array) -> Kernel:
    """Return the cosine of every pair of rows.

    Raises:
        ValueError: A row is zero or not finite.
    """
    if isinstance(vectors, csr_array):
        sparse = _unit_sparse(vectors)
        return (sparse @ sparse.T).toarray()
    scaled = unit_rows(vectors)
    return scaled @ scaled.T


def unit_rows(vectors: Vectors) -> Vectors:
    """Return the rows scaled to length 1, in float64.

    Raises:
        ValueError: A row is zero or not finite.
    """
    exact = vectors.astype(np.float64)
    return exact / _lengths((exact**2).sum(axis=1))[:, None]


def jaccard(counts: csr_array) -> Kernel:
    """Return shared over all n-grams of every pair, each gram counted once (Jaccard 1901)."""
    present = presence(counts)
    sizes = np.asarray(present.sum(axis=1)).ravel()
    shared = (present @ present.T).toarray()
    return shared / (sizes[:, None] + sizes[None, :] - shared)


def presence(counts: csr_array) -> csr_array:
    """Return 1 wherever a gram occurs."""
    return csr_array((np.ones_like(counts.data), counts.indices, counts.indptr), counts.shape)


def coordinates(vectors: Vectors | csr_array) -> Vectors:
    """Return dense vectors with the same inner products, at most as many axes as texts.

    What needs dense input, such as principal components, gets from this exactly what it would
    from the sparse vectors. Time grows with the cube of the number of texts.
    """
    if not isinstance(vectors, csr_array):
        return np.asarray(vectors, dtype=np.float64)
    values, axes = np.linalg.eigh(cosine(vectors))
    return np.ascontiguousarray((axes * np.sqrt(np.maximum(values, 0)))[:, ::-1])


def find(spec: str) -> Callable[[], Features]:
    """Return what makes the features that a word or a path names, without opening them yet.

    Args:
        spec: ``words`` or ``chars`` (n-grams; ``words:3`` says n), ``minilm``, or a directory of
            ``transformers``.

    Raises:
        ValueError: No such features, or the extra ``embed`` is missing.
    """
    name, colon, n = spec.partition(":")
    if name in GRAMS:
        if colon and not n.isdecimal():
            raise ValueError(f"{spec!r}: behind the colon stands the length of a gram: {name}:3.")
        grams = Grams(GRAMS[name].unit, int(n)) if colon else GRAMS[name]
        return lambda: grams
    if spec in FOLDERS:
        folder = FOLDERS[spec]()
    elif Path(spec).is_dir():
        folder = Path(spec)
    else:
        known = [*GRAMS, *FOLDERS]
        raise ValueError(
            f"There are no features {spec!r}{nearest(name, known)}. Allowed are "
            f"{', '.join(known)}, or the path of a directory that transformers can open."
        )
    return lambda: Encoder.load(folder, name=Path(spec).name)


def _grams(text: Sequence[str] | Sequence[int], n: int) -> list[object]:
    whole = text if isinstance(text, str) else tuple(text)
    if len(whole) < n:
        return [whole]
    return [whole[i : i + n] for i in range(len(whole) - n + 1)]


def _unit_sparse(vectors: csr_array) -> csr_array:
    lengths = _lengths(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    return csr_array(vectors.multiply((1 / lengths)[:, None]))


def _lengths(squares: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    astray = ~(np.isfinite(squares) & (squares > 0))
    if astray.any():
        place = int(astray.argmax())
        raise ValueError(
            f"Vector {place} has length {math.sqrt(squares[place])}: it points nowhere, so it is "
            "like no text, not even itself."
        )
    return np.sqrt(squares)


def _check_n(n: int) -> None:
    if n < 1:
        raise ValueError(f"An n-gram has at least 1 unit, got n = {n}.")


# Two words in a row tell phrases apart; single words are mostly the ones every text has.
GRAMS: Mapping[str, Grams] = {"words": Grams("words", 2), "chars": Grams("chars", 4)}
FOLDERS: Mapping[str, Callable[[], Path]] = {"minilm": minilm_folder}
