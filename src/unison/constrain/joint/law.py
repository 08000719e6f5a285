"""What is the law of a row's tokens, given that their text is in the language?"""

from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray
from torch import Tensor

from unison.constrain.joint.lattice import FIXED, best, summed_back
from unison.constrain.joint.lead import Lead
from unison.constrain.joint.pieces import Pieces, pooled
from unison.constrain.joint.stretch import Stretch
from unison.constrain.joint.walk import Layers
from unison.constrain.joint.weights import Weights, invert

_TILE = {"cpu": 1 << 18}
_DEVICE_TILE = 1 << 24
_PAIRS = 1 << 20  # entries of a table held at a time
_STEEP = 8.0  # a gain that float32 can add to the belief it belongs to without losing its digits

Nodes = Int64[ndarray, " _"]


class Share(NamedTuple):
    """What conditioning does to the sets of tokens that may come in some slots.

    Attributes:
        columns: The slots' rows of the belief.
        labels: The sets of tokens.
        gain: Log-mass of each set, given the language, over what the belief gives it.
    """

    columns: Nodes
    labels: Nodes
    gain: Float64[ndarray, "_ _"]


class Conditioned:
    """The factorised belief about the slots of one stretch, conditioned on the language.

    P(x) is proportional to the product of p_i(x_i) over the slots that are read, if some tokens in
    the free slots complete x to a text of the language, and 0 otherwise: forward-backward over
    the layers of an automaton (Rabiner, 1989, doi:10.1109/5.18626).

    Attributes:
        log_total: The logarithm of the mass the belief gives to the language.
        exact: Whether that is the law. Where a language's states are found on the way and only
            the likeliest were kept, it is the law conditioned, further, on the ways kept: never a
            text outside the language, but some inside may be missing.
    """

    def __init__(
        self,
        stretch: Stretch,
        layers: Layers,
        weights: Weights,
        snapshot: Callable[[], Pieces],
        remember: Callable[[Nodes | None], None],
        lead: Lead,
    ) -> None:
        self._stretch, self._layers, self._weights = stretch, layers, weights
        self._lead = lead
        self._snapshot, self._remember = snapshot, remember
        self.exact = not (layers.narrowed or layers.guessed)
        self.log_total = -np.inf
        if not layers.dead:
            self.log_total = float(np.logaddexp.reduce(layers.reached[-1] + self._ending))

    @cached_property
    def _completes(self) -> list[Bool[ndarray, " _"]]:
        """Whether a text can end, from the nodes of each layer behind the last slot read."""
        alive = [self._layers.ends]
        behind = self._layers.steps[self._stretch.stop :]
        sizes = [len(self._layers.reached[-1]), *(len(step.nodes) for step in behind)]
        for step, size in zip(reversed(behind), reversed(sizes[:-1]), strict=True):
            before = np.zeros(size, bool)
            before[step.source[alive[-1][step.target]]] = True
            alive.append(before)
        return alive[::-1]

    @cached_property
    def _ending(self) -> Float64[ndarray, " n"]:
        return np.where(self._completes[0], 0.0, -np.inf)

    @cached_property
    def _leading(self) -> list[Float64[ndarray, " _"]]:
        """Log-weight of all that can stand behind, from the nodes of each layer."""
        layers, found = self._layers, [self._ending]
        for place in range(self._stretch.stop - 1, -1, -1):
            step = layers.steps[place]
            ways = layers.ways[place] + found[-1][step.target]
            found.append(summed_back(ways, step, len(layers.reached[place])))
        return found[::-1]

    def marginals(self) -> Float[Tensor, "F V"]:
        """Return log p(x_i = v | the text is in the language) for every row of the belief.

        Normalised, -inf where impossible; float32, or float64 if the belief was. A row that no
        slot of the stretch reads comes back as it was.
        """
        logp, (pieces, gains) = self._weights.logp, self._gains
        found = _raised(logp, self._read, gains, pieces.of_tokens(logp.shape[1]))
        self._add_own(found, self._shares)
        return found

    @cached_property
    def _read(self) -> Nodes:
        return np.sort(self._stretch.read_columns)

    @cached_property
    def _gains(self) -> tuple[Pieces, Float64[ndarray, "R pieces"]]:
        """The gain of every piece of the vocabulary in every row that is read."""
        pieces, shares = self._weights.pieces, self._shares
        if max((int(labels.max()) for _, labels, _ in shares), default=0) >= pieces.labels:
            pieces = self._snapshot()  # sets were found on the way
        table = np.full((len(self._read), pieces.labels), -np.inf)
        rank = np.zeros(len(self._weights.logp), np.int64)
        rank[self._read] = np.arange(len(self._read))
        for columns, labels, share in shares:
            group = labels > FIXED
            table[rank[columns][:, None], labels[group]] = share[:, group]
        return pieces, pooled(table, *pieces.labels_of_pieces)

    @cached_property
    def _shares(self) -> list[Share]:
        """Return what conditioning does to every set of tokens in every slot that is read."""
        layers, same = self._layers, defaultdict(list)
        for place in self._stretch.reads.tolist():
            same[id(layers.steps[place])].append(place)
        found = []
        for together in same.values():
            step = layers.steps[together[0]]
            order, labels, start, rank = step.by_label
            source, target = step.source[order], step.target[order]
            rows = max(1, _PAIRS // len(order))
            for places in (together[i : i + rows] for i in range(0, len(together), rows)):
                before = np.stack([layers.reached[place][source] for place in places])
                behind = np.stack([self._leading[place + 1][target] for place in places])
                ways = before + behind - self.log_total
                top = np.maximum.reduceat(ways, start, axis=1)
                shift = np.where(top == -np.inf, 0.0, top)
                with np.errstate(divide="ignore"):
                    part = np.exp(ways - shift[:, rank])
                    share = np.log(np.add.reduceat(part, start, axis=1)) + shift
                found.append(Share(self._stretch.column[places], labels, share))
        return found

    def _add_own(self, found: Float[Tensor, "F V"], shares: list[Share]) -> None:
        """Fill in rows whose sets of tokens are no groups of the language."""
        for columns, labels, share in shares:
            own = np.flatnonzero(labels < FIXED)
            if not len(own):
                continue
            for column, gains in zip(columns.tolist(), share[:, own], strict=True):
                row = np.full(found.shape[1], -np.inf)
                for label, gain in zip(labels[own].tolist(), gains, strict=True):
                    tokens = self._weights.tokens(label)
                    row[tokens] = np.logaddexp(row[tokens], gain)
                # The nulls, a set that all layers know, are there already.
                gained = torch.from_numpy(row).to(found.device) + self._weights.logp[column]
                found[column] = torch.maximum(found[column], gained.to(found.dtype))

    def draw(self, u: Float[Tensor, "N 2"] | Float[ndarray, "N 2"]) -> Int64[ndarray, " N"]:
        """Draw the tokens of all slots jointly, exactly from the law.

        Args:
            u: Two uniforms on (0, 1) a slot: for the way through the automaton, and the token.

        Returns:
            A token for every slot that is fixed or read; -1 in free slots.
        """
        uniform = u.double().cpu().numpy() if isinstance(u, Tensor) else u.astype(np.float64)
        uniform = uniform[len(self._lead.tokens) :]
        layers, stop = self._layers, self._stretch.stop
        chosen = np.zeros(stop, np.int64)
        first, last = 0, len(layers.steps[stop - 1].source) if stop else 0
        for place in range(stop - 1, -1, -1):  # backwards: what leads to a node is weighed already
            step = layers.steps[place]
            ways = layers.reached[place][step.source[first:last]]
            ways += layers.ways[place][first:last]
            if place == stop - 1:
                ways += self._ending[step.target]
            chosen[place] = first
            if last - first > 1:
                chosen[place] += invert(ways, float(uniform[place, 0]))[0]
            if place:
                origin = step.source[chosen[place]]
                first, last = layers.steps[place - 1].start[origin : origin + 2].tolist()
        return self._written(chosen, uniform[:, 1])

    def likeliest(self) -> Int64[ndarray, " N"]:
        """Return the likeliest joint text (Viterbi, 1967, doi:10.1109/TIT.1967.1054010).

        Of equals, the first way of each slot and the first token of its set.
        """
        layers, stop = self._layers, self._stretch.stop
        reach, behind = np.zeros(1), []
        for place in range(stop):
            step, column = layers.steps[place], int(self._stretch.column[place])
            ways = layers.ways[place]
            if column >= 0:
                ways = self._weights.maxima(column, step)
            reach, back = best(reach[step.source] + ways, step)
            behind.append(back)
        chosen = np.zeros(stop, np.int64)
        node = int((reach + self._ending).argmax())
        for place in range(stop - 1, -1, -1):
            chosen[place] = behind[place][node]
            node = layers.steps[place].source[chosen[place]]
        return self._written(chosen, None)

    def _written(
        self, chosen: Nodes, uniform: Float64[ndarray, " behind"] | None
    ) -> Int64[ndarray, " N"]:
        """Return tokens that go the ways chosen, and remember those ways."""
        stretch, layers = self._stretch, self._layers
        text = stretch.token.copy()
        reads, columns = stretch.reads, stretch.read_columns
        labels = np.array([layers.steps[i].label[chosen[i]] for i in reads.tolist()], np.int64)
        if uniform is None:
            text[reads] = self._weights.likeliest(columns, labels)
        else:
            text[reads] = self._weights.draw(columns, labels, uniform[reads])
        self._remember(None if stretch.blurred < stretch.stop else self._path(chosen))
        return np.concatenate([self._lead.tokens, text])

    def _path(self, chosen: Nodes) -> Nodes:
        """Return the node behind each slot, as far as the layers go."""
        layers, stop = self._layers, self._stretch.stop
        steps = layers.steps
        place = [int(steps[i].target[way]) for i, way in enumerate(chosen.tolist())]
        node = place[-1] if place else 0
        path = [int(steps[i].nodes[at]) for i, at in enumerate(place)]
        for step, alive in zip(steps[stop:], self._completes[1:], strict=True):
            node = int(step.target[(step.source == node) & alive[step.target]][0])
            path.append(int(step.nodes[node]))
        return np.concatenate([self._lead.nodes[1:], np.array(path, np.int64)])


def _raised(
    logp: Float[Tensor, "F V"],
    read: Nodes,
    gains: Float64[ndarray, "R pieces"],
    kind: Int64[ndarray, " V"],
) -> Float[Tensor, "F V"]:
    """Return the rows that are read plus the gain of each token's piece, -inf outside all."""
    dtype = torch.promote_types(logp.dtype, torch.float32)
    whole = len(read) == len(logp)
    found = torch.empty_like(logp, dtype=dtype) if whole else logp.to(dtype, copy=True)
    none = np.full((len(gains), 1), -np.inf)
    gain = torch.from_numpy(np.append(gains, none, axis=1)).to(logp.device)
    pieces = torch.from_numpy(kind).to(logp.device)
    # Float32 is precise enough to add a small gain, not to take a large one back off a belief.
    steep = np.any(gains > _STEEP, axis=1) | (dtype != torch.float32)
    rows = max(1, _TILE.get(logp.device.type, _DEVICE_TILE) // logp.shape[1])
    for first in range(0, len(read), rows):
        part, at = gain[first : first + rows], _rows(read[first : first + rows], logp.device)
        if steep[first : first + rows].any() or not isinstance(at, slice):
            found[at] = part.index_select(1, pieces).add_(logp[at]).to(dtype)
        else:  # the same, in place
            torch.index_select(part.float(), 1, pieces, out=found[at])
            found[at].add_(logp[at])
    return found


def _rows(numbers: Nodes, device: torch.device) -> slice | Tensor:
    """Return an index of ascending rows; a slice, which copies nothing, if there are no gaps."""
    if numbers[-1] - numbers[0] + 1 == len(numbers):
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return torch.from_numpy(numbers).to(device)
