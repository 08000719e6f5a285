"""Which documents are kept from training?"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from unison.data.documents import CorpusError, Document


class Division(NamedTuple):
    """The two sides of a corpus, each in reading order.

    Attributes:
        train: What is learnt from.
        valid: What is held out; no text in it is also in ``train``.
    """

    train: list[Document]
    valid: list[Document]


def check_holdout(holdout: float) -> None:
    """Refuse a fraction that leaves one side empty or makes it the larger one.

    Raises:
        CorpusError: It is not in (0, 0.5].
    """
    if not 0 < holdout <= 0.5:
        raise CorpusError(
            f"holdout={holdout} is not a usable fraction of the corpus; choose more than 0 and at "
            "most 0.5, for example 0.05."
        )


def _choose(sizes: dict[bytes, int], target: float) -> set[bytes]:
    """Take texts in the order of their hashes until the target, leaving out those that overshoot.

    A text is taken when that brings the sum no farther from the target. With a target of at most
    half the total never all are taken.
    """
    chosen: set[bytes] = set()
    held = 0
    for text_hash in sorted(sizes):
        if held >= target:
            break
        if held + sizes[text_hash] / 2 <= target:
            chosen.add(text_hash)
            held += sizes[text_hash]
    return chosen or {min(sizes, key=lambda text_hash: (sizes[text_hash], text_hash))}


def hold_out(documents: Sequence[Document], holdout: float, seed: int) -> Division:
    """Divide a corpus by document: each side gets at least one, and no text is on both.

    Which side a text is on depends on the seed and on a hash of its content, so that neither its
    path nor its neighbours' order matters and copies of a document stay together.

    Args:
        documents: At least two different ones.
        holdout: The fraction of bytes to hold out, met as closely as whole documents allow.
        seed: Another seed holds out other documents.

    Raises:
        CorpusError: The fraction is out of range, or there are not two different documents.
    """
    check_holdout(holdout)
    hashes: list[bytes] = []
    sizes: dict[bytes, int] = {}
    for document in documents:
        content = document.text.encode()
        text_hash = hashlib.sha256(b"%d:%s" % (seed, content)).digest()
        hashes.append(text_hash)
        sizes[text_hash] = sizes.get(text_hash, 0) + len(content)
    if len(sizes) < 2:
        raise CorpusError(
            f"the corpus has {len(sizes)} different document(s) and at least 2 are needed, one to "
            "learn from and one to hold out; give more text, or split it with split='line' or "
            "split='blank'."
        )
    chosen = _choose(sizes, holdout * sum(sizes.values()))
    division = Division([], [])
    for document, text_hash in zip(documents, hashes, strict=True):
        (division.valid if text_hash in chosen else division.train).append(document)
    return division
