"""How much does a belief weigh each set of tokens? Sums and maxima over pieces of the vocabulary.

The sets a language tells apart (atoms) hold from one token to most of a vocabulary. Each is cut
into pieces of 256, 128, ..., 2, 1 tokens: pieces of one size are a dense array, whatever the
device, and a draw looks at one piece instead of a vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from numpy import ndarray
from scipy import sparse
from torch import Tensor

from unison.constrain.tokens import Atoms

NULL = 0  # the label of tokens that end a text; group g is label g + 1
LARGEST = 256
_TINY = 1e-250  # a scaled weight this small may have lost digits, or all of itself
_SMALL = 1e-220  # to a sum this large, such a weight is nothing
_TILE = {"cpu": 1 << 20}  # tokens weighed at a time: what stays in a CPU's cache
_DEVICE_TILE = 1 << 24
_PAIRS = 1 << 20  # entries of a table of pairs held at a time


class Spans(NamedTuple):
    """Where the pieces of one size stand: ``count`` columns of ``size`` tokens from ``first``."""

    size: int
    count: int
    first: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """A division of the tokens that occur in a language, nulls included, into small pieces.

    Attributes:
        tokens: Tokens, piece by piece: those of one piece are ``stride`` apart.
        start: Where each piece's first token stands in ``tokens``.
        stride: How far apart its tokens are.
        size: How many it has: a power of two.
        spans: Pieces by size.
        offset: Where the pieces of each label begin, and the end of the last's.
        piece: The pieces of each label: of the nulls, then of each group.
    """

    tokens: Int64[ndarray, " T"]
    start: Int64[ndarray, " A"]
    stride: Int64[ndarray, " A"]
    size: Int64[ndarray, " A"]
    spans: tuple[Spans, ...]
    offset: Int64[ndarray, " labels_and_one"]
    piece: Int64[ndarray, " P"]

    @property
    def labels(self) -> int:
        """How many sets of tokens are known: the nulls and every group."""
        return len(self.offset) - 1

    def of(self, label: int) -> Int64[ndarray, " n"]:
        """Return the pieces of a label."""
        return self.piece[self.offset[label] : self.offset[label + 1]]

    def members(self, pieces: Int64[ndarray, " n"]) -> Int64[ndarray, "n w"]:
        """Return the tokens of each piece, -1 behind the end of the smaller ones."""
        within = np.arange(self.size[pieces].max(initial=1))
        place = self.start[pieces][:, None] + self.stride[pieces][:, None] * within
        inside = within < self.size[pieces][:, None]
        return np.where(inside, self.tokens[np.where(inside, place, 0)], -1)

    @cached_property
    def labels_of_pieces(self) -> tuple[Int64[ndarray, " A_and_one"], Int64[ndarray, " P"]]:
        """Where the labels of each piece begin, and the labels."""
        label = np.repeat(np.arange(self.labels), np.diff(self.offset))
        order = np.argsort(self.piece, kind="stable")
        count = np.bincount(self.piece, minlength=len(self.start))
        return np.append(0, count.cumsum()), label[order]

    def of_tokens(self, vocab: int) -> Int64[ndarray, " V"]:
        """Return the piece of every token; of a token in none, the number of pieces."""
        found = np.full(vocab, len(self.start))
        for number, span in enumerate_spans(self.spans):
            ids = np.tile(np.arange(number, number + span.count), span.size)
            found[self.tokens[span.first : span.first + len(ids)]] = ids
        return found


def enumerate_spans(spans: tuple[Spans, ...]) -> Iterator[tuple[int, Spans]]:
    """Yield the number of each span's first piece, and the span."""
    number = 0
    for span in spans:
        yield number, span
        number += span.count


def cut(atoms: Atoms, nulls: tuple[int, ...]) -> Pieces:
    """Return a division's atoms, and the nulls as one more, cut into pieces."""
    used = np.unique(atoms.group_atom)
    order = np.concatenate([np.array(nulls, np.int64), atoms.order.astype(np.int64)])
    begin = np.append(0, atoms.start[:-1][used].astype(np.int64) + len(nulls))
    count = np.append(len(nulls), np.diff(atoms.start)[used]).astype(np.int64)
    none = np.empty(0, np.int64)
    tokens, starts, strides, sizes, owners = ([none] for _ in range(5))
    spans, first = [], 0
    for size in [LARGEST >> shift for shift in range(LARGEST.bit_length())]:
        many = count // size
        count = count - many * size
        owner = np.repeat(np.arange(len(many)), many)
        if not len(owner):
            continue
        place = begin[owner] + size * ranks(many)
        begin = begin + many * size
        tokens.append(order[place + np.arange(size)[:, None]].ravel())
        starts.append(first + np.arange(len(owner)))
        strides.append(np.full(len(owner), len(owner)))
        sizes.append(np.full(len(owner), size))
        spans.append(Spans(size, len(owner), first))
        owners.append(owner)
        first += size * len(owner)
    offset, piece = _labels(atoms, used, np.concatenate(owners))
    token, start, stride, many = map(np.concatenate, (tokens, starts, strides, sizes))
    return Pieces(token, start, stride, many, tuple(spans), offset, piece)


def _labels(
    atoms: Atoms, used: Int[ndarray, " U"], owner: Int64[ndarray, " A"]
) -> tuple[Int64[ndarray, " labels_and_one"], Int64[ndarray, " P"]]:
    """Return the pieces of the nulls (owner 0) and of every group, from each piece's owner."""
    by_owner = np.argsort(owner, kind="stable")
    many = np.bincount(owner, minlength=len(used) + 1)
    begin = many.cumsum() - many
    owners = np.append(0, np.searchsorted(used, atoms.group_atom) + 1)
    per_label = np.append(0, np.append(1, 1 + atoms.group_offset[1:]))  # in owners
    piece = by_owner[np.repeat(begin[owners], many[owners]) + ranks(many[owners])]
    return np.append(0, many[owners].cumsum())[per_label], piece


def ranks(counts: Int64[ndarray, " n"]) -> Int64[ndarray, " total"]:
    """Return 0, 1, ..., count - 1 for every count, one after the other."""
    return np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)


def weigh(
    pieces: Pieces, logp: Float[Tensor, "F V"]
) -> tuple[Float64[ndarray, "F A"], Float64[ndarray, "F A"]]:
    """Return the logarithm of each piece's summed weight, and its largest log-weight."""
    tokens = torch.from_numpy(pieces.tokens).to(logp.device)
    tile = _TILE.get(logp.device.type, _DEVICE_TILE)
    size = (2, len(logp), len(pieces.start))
    found = torch.empty(size, dtype=torch.float64, device=logp.device)
    rows = max(1, tile // max(1, len(tokens)))
    for row in range(0, len(logp), rows):
        part = logp[row : row + rows].index_select(1, tokens)
        for number, span in enumerate_spans(pieces.spans):
            inside = part[:, span.first : span.first + span.size * span.count]
            into = found[:, row : row + rows, number : number + span.count]
            _pool(inside.unflatten(1, (span.size, span.count)), into)
    total, top = found.cpu().numpy()
    return total, top


def _pool(weights: Float[Tensor, "F size n"], into: Float[Tensor, "2 F n"]) -> None:
    if weights.shape[1] == 1:
        into.copy_(weights[:, 0])
        return
    top = weights.amax(1)
    shift = top.clamp(min=torch.finfo(top.dtype).min)[:, None]  # -inf - -inf is no number
    torch.sum(weights.double().sub_(shift).exp_(), 1, out=into[0])
    into[0].log_().add_(shift[:, 0])
    into[1] = top


def pooled(
    table: Float64[ndarray, "F A"],
    offset: Int64[ndarray, " n_and_one"],
    index: Int64[ndarray, " P"],
) -> Float64[ndarray, "F n"]:
    """Return logsumexp over lists of columns; -inf over an empty list.

    A matrix product of weights scaled by their row's largest; sums in which that lost something
    are added up again, each scaled by its own largest.
    """
    top = table.max(1, keepdims=True, initial=-np.inf)
    top[np.isneginf(top)] = 0.0
    scaled = np.exp(table - top)
    lists = (np.ones(len(index)), index, offset)
    member = sparse.csr_matrix(lists, shape=(len(offset) - 1, table.shape[1]))
    total = (member @ scaled.T).T
    with np.errstate(divide="ignore"):
        found = np.log(total) + top
    lost = (scaled < _TINY) & (table > -np.inf)
    rows = np.flatnonzero(lost.any(1))
    if len(rows):
        doubtful = (member @ lost[rows].T.astype(np.float64)).T > 0
        which, some = np.nonzero(doubtful & (total[rows] < _SMALL))
        found[rows[which], some] = _relisted(table, rows[which], some, offset, index)
    return found


def _relisted(
    table: Float64[ndarray, "F A"],
    row: Int64[ndarray, " k"],
    some: Int64[ndarray, " k"],
    offset: Int64[ndarray, " n_and_one"],
    index: Int64[ndarray, " P"],
) -> Float64[ndarray, " k"]:
    """Return logsumexp over some lists of some rows; none of them is empty."""
    found = np.empty(len(row))
    count = np.diff(offset)[some]
    chunk = count.cumsum() // _PAIRS
    for number in np.unique(chunk).tolist():
        now = chunk == number
        size = count[now]
        start = size.cumsum() - size
        column = index[np.repeat(offset[some[now]], size) + ranks(size)]
        values = table[np.repeat(row[now], size), column]
        top = np.maximum.reduceat(values, start)
        part = np.exp(values - np.repeat(top, size))
        found[now] = np.log(np.add.reduceat(part, start)) + top
    return found


def largest(
    table: Float64[ndarray, "F A"],
    offset: Int64[ndarray, " n_and_one"],
    index: Int64[ndarray, " P"],
) -> Float64[ndarray, "F n"]:
    """Return the maximum over lists of columns; -inf over an empty list."""
    found = np.full((len(table), len(offset) - 1), -np.inf)
    full = np.flatnonzero(np.diff(offset))
    rows = max(1, _PAIRS // max(1, len(index)))
    for at in range(0, len(table) if len(full) else 0, rows):
        values = table[at : at + rows, index]
        found[at : at + rows, full] = np.maximum.reduceat(values, offset[full], axis=1)
    return found
