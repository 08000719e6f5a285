"""How likely does a belief hold each set of tokens, and which of its tokens is drawn?"""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray
from torch import Tensor

from unison.constrain.joint.lattice import FIXED, Step
from unison.constrain.joint.pieces import NULL, Pieces, largest, pooled, weigh
from unison.constrain.tokens import TokenMachine

Row = Float64[ndarray, " _"]


class Weights:
    """The belief of one call, by sets of tokens.

    Sets known when the call began are weighed all at once; those found on the way are weighed
    token by token where they are met.

    Attributes:
        logp: The belief: log-weights.
        pieces: The sets known at the beginning.
    """

    def __init__(
        self,
        language: TokenMachine,
        pieces: Pieces,
        logp: Float[Tensor, "F V"],
        columns: Int64[ndarray, " R"],
    ) -> None:
        self.logp, self.pieces = logp, pieces
        self._language = language
        self._own: list[Int64[ndarray, " _"]] = []  # sets that are no group of the language
        self._met: dict[tuple[int, int], tuple[float, float]] = {}
        self._rows: dict[int, Row] = {}
        self._place = np.full(len(logp), -1)
        self._place[columns] = np.arange(len(columns))
        everything = np.array_equal(columns, np.arange(len(logp)))
        read = logp if everything else logp[torch.from_numpy(columns).to(logp.device)]
        self._total, self._top = weigh(pieces, read)
        self._sums = _ended(pooled(self._total, pieces.offset, pieces.piece))

    @cached_property
    def _maxima(self) -> Float64[ndarray, "R labels"]:
        return _ended(largest(self._top, self.pieces.offset, self.pieces.piece))

    def label(self, tokens: Int64[ndarray, " n"]) -> int:
        """Return a label for a set of tokens that is no group."""
        self._own.append(tokens)
        return FIXED - len(self._own)

    def tokens(self, label: int) -> Int64[ndarray, " n"]:
        """Return the tokens of a label."""
        if label < FIXED:
            return self._own[FIXED - 1 - label]
        if label == NULL:
            return np.array(self._language.vocabulary.nulls, np.int64)
        return self._language.members(label - 1)

    def _known(self, labels: Int64[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Return which labels were known when the call began."""
        return (labels >= FIXED) & (labels < self.pieces.labels)

    def sums(self, column: int, step: Step) -> Float64[ndarray, " E"]:
        """Return the log-weight of each way of a step, all its tokens together."""
        return self._weigh(column, step, self._sums, which=0)

    def maxima(self, column: int, step: Step) -> Float64[ndarray, " E"]:
        """Return the log-weight of the likeliest token of each way of a step."""
        return self._weigh(column, step, self._maxima, which=1)

    def _weigh(
        self, column: int, step: Step, table: Float64[ndarray, "R labels"], which: int
    ) -> Float64[ndarray, " E"]:
        row = table[self._place[column]]
        least, most = step.bounds
        if least >= FIXED and most < self.pieces.labels:
            return row[step.label]
        order, labels, _, rank = step.by_label
        known = self._known(labels)
        each = row[np.where(known, labels, FIXED)]
        for i in np.flatnonzero(~known):
            each[i] = self._weigh_one(column, int(labels[i]))[which]
        found = np.empty(len(order))
        found[order] = each[rank]
        return found

    def _weigh_one(self, column: int, label: int) -> tuple[float, float]:
        if (column, label) not in self._met:
            weights = self._row(column)[self.tokens(label)]
            top = float(weights.max())
            total = top + float(np.log(np.exp(weights - top).sum())) if top > -np.inf else top
            self._met[column, label] = total, top
        return self._met[column, label]

    def _row(self, column: int) -> Row:
        if column not in self._rows:
            self._rows[column] = self.logp[column].double().cpu().numpy()
        return self._rows[column]

    def draw(
        self,
        columns: Int64[ndarray, " n"],
        labels: Int64[ndarray, " n"],
        u: Float64[ndarray, " n"],
    ) -> Int64[ndarray, " n"]:
        """Draw a token of each label as likely as the belief holds it, inverting its CDF at u."""
        found, piece, rest = np.zeros_like(labels), np.zeros_like(labels), u.copy()
        known = self._known(labels)
        for i, (column, label) in enumerate(zip(columns.tolist(), labels.tolist(), strict=True)):
            if known[i]:
                choices = self.pieces.of(label)
                at, rest[i] = invert(self._total[self._place[column], choices], float(u[i]))
                piece[i] = choices[at]
            else:
                tokens = self.tokens(label)
                found[i] = tokens[invert(self._row(column)[tokens], float(u[i]))[0]]
        members, weights = self._inside(columns[known], piece[known])
        part = np.exp(weights - weights.max(1, keepdims=True)).cumsum(1)
        target = np.minimum(rest[known] * part[:, -1], np.nextafter(part[:, -1], 0))
        at = (part <= target[:, None]).sum(1)
        found[known] = members[np.arange(len(at)), at]
        return found

    def likeliest(
        self, columns: Int64[ndarray, " n"], labels: Int64[ndarray, " n"]
    ) -> Int64[ndarray, " n"]:
        """Return the likeliest token of each label, the first in its set of equals."""
        found, piece = np.zeros_like(labels), np.zeros_like(labels)
        known = self._known(labels)
        for i, (column, label) in enumerate(zip(columns.tolist(), labels.tolist(), strict=True)):
            if known[i]:
                choices = self.pieces.of(label)
                piece[i] = choices[self._top[self._place[column], choices].argmax()]
            else:
                tokens = self.tokens(label)
                found[i] = tokens[self._row(column)[tokens].argmax()]
        members, weights = self._inside(columns[known], piece[known])
        found[known] = members[np.arange(len(members)), weights.argmax(1)]
        return found

    def _inside(
        self, columns: Int64[ndarray, " n"], pieces: Int64[ndarray, " n"]
    ) -> tuple[Int64[ndarray, "n w"], Float64[ndarray, "n w"]]:
        """Return the tokens of pieces and their log-weights, -inf behind the smaller ones' end."""
        members = self.pieces.members(pieces)
        place = torch.from_numpy(np.maximum(members, 0)).to(self.logp.device)
        row = torch.from_numpy(columns[:, None]).to(self.logp.device)
        weights = self.logp[row, place].double().cpu().numpy()
        weights[members < 0] = -np.inf
        return members, weights


def invert(weights: Float64[ndarray, " n"], u: float) -> tuple[int, float]:
    """Return which entry of exp(weights) a uniform falls on, and where in it, on [0, 1)."""
    part = np.exp(weights - weights.max())
    running = part.cumsum()
    target = min(u * running[-1], np.nextafter(running[-1], 0))
    at = int(running.searchsorted(target, side="right"))
    return at, (target - (running[at] - part[at])) / part[at]


def _ended(table: Float64[ndarray, "R n"]) -> Float64[ndarray, "R m"]:
    """Append what weighs nothing and rules out nothing: tokens that stand there already."""
    return np.append(table, np.zeros((len(table), 1)), axis=1)
