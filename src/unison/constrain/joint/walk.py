"""Which layers does a stretch have, and how much weight reaches each of their nodes?"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from unison.constrain.joint.blur import Sets
from unison.constrain.joint.lattice import Step, arranged, fan_out, summed
from unison.constrain.joint.lead import Lead
from unison.constrain.joint.stretch import Slot, Stretch, slots
from unison.constrain.joint.weights import Weights
from unison.constrain.tokens import TokenMachine

_HELD = 1 << 21  # ways between layers remembered from call to call

Nodes = Int64[ndarray, " _"]


class Effort(NamedTuple):
    """What a walk may leave out.

    Attributes:
        width: It keeps this many nodes of a layer; ``None`` for all.
        hopeful: It leaves out states from which no text is known that is short enough, although
            there might be one.
    """

    width: int | None
    hopeful: bool


class Layers(NamedTuple):
    """A stretch as layers of nodes and the ways between them.

    Attributes:
        steps: Between any two layers; the last may stand before the end of the stretch.
        reached: Log-weight that reaches the nodes of each layer up to the last slot that is read.
        ways: Log-weight of each way up to there.
        ends: Whether a text can end from the nodes of the last layer.
        narrowed: Whether nodes were left out because of the width.
        guessed: Whether nodes were left out that might have been of use.
        dead: Whether some slot can hold nothing; the layers then end there.
    """

    steps: list[Step]
    reached: list[Float64[ndarray, " _"]]
    ways: list[Float64[ndarray, " _"]]
    ends: Bool[ndarray, " n"]
    narrowed: bool
    guessed: bool
    dead: bool


@dataclass
class Walker:
    """Walks through stretches of one row, and remembers what it has seen.

    Attributes:
        language: What is read.
        witness: The node behind each slot of a text that was possible last, as many as known, the
            lead's slots included.
    """

    language: TokenMachine
    witness: Nodes | None = None
    _seen: dict[tuple[bytes, Slot], Step] = field(default_factory=dict)
    _held: int = 0

    def walk(self, stretch: Stretch, weights: Weights, effort: Effort, lead: Lead) -> Layers:
        """Return the layers behind the lead, a dead end's if nothing can stand there."""
        return _Walk(self, stretch, weights, effort, lead).all()

    def step(self, nodes: Nodes, slot: Slot) -> Step:
        """Return the ways through a slot, as they were found before if they were."""
        key = nodes.tobytes(), slot
        if key not in self._seen:
            if self._held > _HELD:
                self._seen, self._held = {}, 0
            self._seen[key] = arranged(fan_out(self.language, nodes, slot))
            self._held += len(nodes) + len(self._seen[key].source)
        return self._seen[key]


class _Walk:
    def __init__(
        self, by: Walker, stretch: Stretch, weights: Weights, effort: Effort, lead: Lead
    ) -> None:
        self.by, self.stretch, self.weights, self.effort = by, stretch, weights, effort
        self.lead = lead
        self.slots = slots(stretch, by.language.vocabulary.nulls)
        self.sets = Sets(by.language, weights) if stretch.blurred < stretch.stop else None
        self.nodes = lead.nodes[-1:]
        self.reach = np.zeros(1)
        self.steps, self.reached, self.ways = [], [self.reach], []
        self.narrowed = self.guessed = False

    def all(self) -> Layers:
        early = self._may_stop_early()
        for place in range(self.stretch.stop if early else len(self.slots)):
            self._one(place)
            if self.sets and place + 1 == self.stretch.stop and len(self.nodes):
                self._leave(self.sets)
            if not len(self.nodes):
                break
        ends, dead = self._ends(early), not len(self.nodes)
        return Layers(self.steps, self.reached, self.ways, ends, self.narrowed, self.guessed, dead)

    def _may_stop_early(self) -> bool:
        """Whether the number of tokens to the end says all about the slots behind the last read."""
        language = self.by.language
        full = self.stretch.stop == len(self.stretch)
        known = language.exact or self.effort.hopeful
        return full or (self.stretch.open_end and known and bool(language.vocabulary.nulls))

    def _one(self, place: int) -> None:
        column, slot = int(self.stretch.column[place]), self.slots[place]
        if self.sets and place == self.stretch.blurred:
            self.nodes = self.sets.enter(self.nodes)
        if self.sets and self.stretch.blurred <= place < self.stretch.stop:
            step = arranged(self.sets.fan_out(self.nodes, slot, column >= 0))
        elif self.effort.width is None:
            step = self.by.step(self.nodes, slot)
        else:
            step = arranged(fan_out(self.by.language, self.nodes, slot))
        ways = np.zeros(len(step.source))
        if column >= 0 and len(ways):
            ways = self.weights.sums(column, step)
        self._advance(step, ways, place)

    def _advance(self, step: Step, ways: Float64[ndarray, " E"], place: int) -> None:
        arriving = self.reach[step.source] + ways
        if not len(arriving):
            reach = arriving
        elif place < self.stretch.stop:
            reach = summed(arriving, step)
        else:
            reach = np.maximum.reduceat(arriving, step.start[:-1])
        if self.effort.width is not None:
            keep = self._kept(step.nodes, reach, place)
            if not keep.all():
                ways, reach, step = ways[keep[step.target]], reach[keep], step.kept(keep)
        self.nodes, self.reach = step.nodes, reach
        self.steps.append(step)
        if place < self.stretch.stop:
            self.reached.append(reach)
            self.ways.append(ways)

    def _leave(self, sets: Sets) -> None:
        """Behind the last slot that is read, each set stands for its nodes again."""
        step = arranged(sets.leave(self.nodes))
        self.reach = np.maximum.reduceat(self.reach[step.source], step.start[:-1])
        self.nodes = step.nodes
        self.steps.append(step)

    def _kept(self, nodes: Nodes, reach: Float64[ndarray, " n"], place: int) -> Bool[ndarray, " n"]:
        """Return which nodes of a layer to go on from: the likeliest, and the witness's.

        If there are too many, those from which no text is known that is short enough go first.
        """
        keep, width = reach > -np.inf, self.effort.width
        if width is None or keep.sum() <= width or (self.sets and place < self.stretch.stop):
            return keep
        sure = keep & self._witnessed(nodes, place)
        if self.effort.hopeful and place + 1 >= self.stretch.settled:
            far = keep & ~sure & (nodes & 1 == 0) & self._far(nodes, place + 1)
            keep &= ~far
            self.guessed |= bool(far.any())
        if keep.sum() > width:
            best = np.argsort(-np.where(keep, reach, -np.inf), kind="stable")
            keep[best[width:]] = False
            keep |= sure
            self.narrowed = True
        return keep

    def _witnessed(self, nodes: Nodes, place: int) -> Bool[ndarray, " n"]:
        witness, place = self.by.witness, place + len(self.lead.tokens)
        if witness is None or place >= len(witness):
            return np.zeros(len(nodes), bool)
        return nodes == witness[place]

    def _far(self, nodes: Nodes, layer: int) -> Bool[ndarray, " n"]:
        """Return from which nodes more tokens lead to the end than there are slots."""
        left = len(self.slots) - layer
        return self.by.language.distance((nodes >> 1).astype(np.int32)) > left

    def _ends(self, early: bool) -> Bool[ndarray, " n"]:
        states, stop = (self.nodes >> 1).astype(np.int32), self.stretch.stop
        accepted = self.by.language.accepts(states)
        if not early or stop == len(self.slots):
            return accepted
        far = self._far(self.nodes, stop)
        ended = self.nodes & 1 == 1
        self.guessed |= bool((far & ~ended).any()) and not self.by.language.exact
        return np.where(ended, accepted, ~far)
