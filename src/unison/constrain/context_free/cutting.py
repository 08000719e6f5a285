"""How are lexemes and rules read together? By where the lexer is, and what the rules then need.

The lexeme that is being read is pending: which one it will be shows when it cannot go on. What may
come is decided exactly: a text goes on only if the pending lexeme can become one that the rules
take, and lexemes that can stand behind it, and behind each other, complete the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32
from numpy import ndarray

from unison.constrain.automaton.draft import NO_LABEL
from unison.constrain.context_free.followers import followers
from unison.constrain.context_free.lengths import Lengths
from unison.constrain.context_free.normal import Network
from unison.constrain.context_free.places import Places
from unison.constrain.context_free.seams import FAR, End, Seams, alike, bits
from unison.constrain.context_free.stacks import NONE, Stacks
from unison.constrain.language import ConstraintError
from unison.constrain.machine import DEAD

Config = tuple[int, int]
Moves = Sequence[dict[End, int]]
EXACT = 300_000  # ways from spot to spot that are looked at for the very shortest text
SEARCHED = 500  # sets of stacks looked through for the lexemes to name in a refusal


class Cut:
    """Reads lexemes and rules: a configuration is a state of the lexer and a set of stacks.

    Attributes:
        start: The configuration of the empty text.
        classes: By byte: bytes of one class are read alike everywhere.
    """

    def __init__(self, net: Network, seams: Seams, about: str) -> None:
        lexer = seams.lexer
        columns = np.unique(lexer.table, axis=1, return_inverse=True)[1]
        self.classes: Int32[ndarray, " 256"] = columns.reshape(-1).astype(np.int32)
        self.seams = seams
        self.stacks = Stacks(Places(net))
        self.start = (lexer.start, self.stacks.start)
        self._labels = lexer.label.tolist()
        self._taken: dict[Config, int] = {}
        self._goods: dict[int, int] = {}
        follow = followers(net)
        self._ends: dict[int, list[int]] = {label: [] for label in sorted(follow)}
        for end, (label, _) in enumerate(seams.ends):
            self._ends.get(label, []).append(end)
        self._passed = [n for n, (label, _) in enumerate(seams.ends) if seams.ignores(label)]
        self._coming = [self._visible(one) for one in seams.seen]
        self._small = len(net.steps) * len(seams.barred) ** 2 <= EXACT
        self._costs: _Rest | None = None
        self._live: _Rest | None = None
        if not self._parted(follow):
            self._live = self._rest([self._moves(dict.fromkeys(bits(n), 0)) for n in seams.seen])
        if not (self.ends(self.start) or self._goes_on(*self.start)):
            raise ConstraintError(self._refusal(about))

    def read(self, config: Config, byte: int) -> Config | None:
        """Return the configuration after a byte; ``None`` if no text goes on like this."""
        state, node = config
        onward = self.seams.table[state][byte]
        if onward == DEAD:
            label = self._labels[state]
            if label == NO_LABEL:
                return None
            node = self._take(node, label)
            onward = self.seams.table[self.start[0]][byte]
            if node == NONE or onward == DEAD:
                return None
        return (onward, node) if self._goes_on(onward, node) else None

    def ends(self, config: Config) -> bool:
        """Return whether the text may end here."""
        state, node = config
        if state == self.start[0]:
            return self.stacks.ends[node]
        label = self._labels[state]
        return label != NO_LABEL and self.stacks.ends[self._take(node, label)]

    def shortest(self, config: Config) -> bytes:
        """Return a continuation to where the text may end: of the fewest bytes, or nearly so.

        In a large grammar, lexemes are picked as if they never had to be parted by others.
        """
        if self.ends(config):
            return b""
        if self._costs is None:
            self._costs = self._measured()
        state, node = config
        costs = self.seams.costs()[state].tolist()
        choices = [(costs[end], end, []) for end in self._passed if self.stacks.ends[node]]
        for end, after in self._next(node):
            label, seam = self.seams.ends[end]
            if label in self._ends and (more := self._costs.cost(after, seam)) is not None:
                choices.append((costs[end] + more, end, [after]))
        _, end, then = min(choices)
        label, seam = self.seams.ends[end]
        if not then:
            return self.seams.text(state, end)
        rest = self._costs.lengths.letters(then[0], self._costs.blocks[seam])
        return self._written(state, [label, *(one for _, one, _ in rest)])

    def _measured(self) -> "_Rest":
        """Return shortest continuations, exact ones unless there are too many ways to look at."""
        rows = self.seams.costs()[len(self._labels) :]
        if self._small or self._live is not None:
            moves = [{n: c for n, c in enumerate(row) if c < FAR} for row in rows.tolist()]
            return self._rest([self._moves(one) for one in moves])
        least = rows.min(axis=0)
        pairs = {label: [(0, int(least[ends].min()))] for label, ends in self._ends.items()}
        lengths = Lengths(self.stacks, 1, lambda label, _: pairs[label])
        return _Rest(lengths, (0,) * len(self.seams.barred))

    def _written(self, state: int, labels: list[int]) -> bytes:
        """Return the fewest bytes that are cut into some lexemes, from a state of the lexer."""
        costs, states = self.seams.costs(), len(self._labels)
        layers: list[dict[int, tuple[int, int, int]]] = [{state: (0, state, 0)}]
        for label in labels:
            layer: dict[int, tuple[int, int, int]] = {}
            for row, (cost, _, _) in layers[-1].items():
                for end in self._ends[label]:
                    to = states + self.seams.ends[end][1]
                    found = (cost + int(costs[row, end]), row, end)
                    layer[to] = min(found, layer.get(to, found))
            layers.append(layer)
        row = min(layers[-1], key=layers[-1].__getitem__)
        texts = []
        for layer in reversed(layers[1:]):
            _, row, end = layer[row]
            texts.append(self.seams.text(row, end))
        return b"".join(reversed(texts))

    def _visible(self, pairs: int) -> int:
        """Return the lexemes of some pairs, as bits."""
        return sum(1 << label for label in {self.seams.ends[n][0] for n in bits(pairs)})

    def _parted(self, follow: dict[int, int]) -> bool:
        """Return whether all that the rules put side by side can stand so.

        A lexeme may end in several ways, of which the one that bars the least is asked.
        """
        ends, barred = self.seams.ends, self.seams.barred
        for reach in set(self.seams.reach):
            pairs = [ends[n] for n in bits(reach) if ends[n][0] in follow]
            for label, seam in pairs:
                best = not any(
                    barred[other] != barred[seam] and barred[other] & barred[seam] == barred[other]
                    for same, other in pairs
                    if same == label
                )
                if best and follow[label] & ~self._coming[seam]:
                    return False
        return True

    def _take(self, node: int, label: int) -> int:
        """Return the node after a whole lexeme."""
        if self.seams.ignores(label):
            return node
        known = self._taken.get((node, label))
        if known is None:
            known = self._taken[node, label] = self.stacks.step(node, label)
        return known

    def _goes_on(self, state: int, node: int) -> bool:
        good = self._goods.get(node)
        if good is None:
            good = self._goods[node] = self._good(node)
        return bool(self.seams.reach[state] & good)

    def _good(self, node: int) -> int:
        """Return the ends of lexemes that can come next and leave the text to be completed."""
        if self._live is None:
            first = self.stacks.first(node)
            found = [n for label in bits(first) for n in self._ends[label]]
            for n in self._passed:
                over = self.stacks.ends[node] or first & self._coming[self.seams.ends[n][1]]
                found += [n] if over else []
            return sum(1 << n for n in found)
        live, seams = self._live, self.seams.ends
        costs = ((n, live.cost(after, seams[n][1])) for n, after in self._next(node))
        return sum(1 << n for n, cost in costs if cost is not None)

    def _next(self, node: int) -> list[tuple[int, int]]:
        """Return ends of lexemes that can come next, each with the node behind it."""
        found = [(end, node) for end in self._passed]
        for label in bits(self.stacks.first(node)):
            after = self._take(node, label)
            found += [(end, after) for end in self._ends[label]]
        return found

    def _moves(self, costs: dict[int, int]) -> dict[End, int]:
        """Return what may come behind a seam, of the lexemes that rules use."""
        ends = self.seams.ends
        return {ends[n]: cost for n, cost in costs.items() if ends[n][0] in self._ends}

    def _rest(self, moves: Moves) -> "_Rest":
        """Return how texts can be completed behind each seam that occurs."""
        known = {0, *(seam for label, seam in self.seams.ends if label in self._ends)}
        known |= {self.seams.ends[n][1] for n in self._passed}
        place = {seam: n for n, seam in enumerate(sorted(known))}
        within = [
            {(label, place[behind]): cost for (label, behind), cost in moves[seam].items()}
            for seam in place
        ]
        kinds = alike(within)
        blocks = [kinds[place[seam]] if seam in place else NO_LABEL for seam in range(len(moves))]
        before: dict[End, dict[int, int]] = {}
        for kind, coming in zip(kinds, within, strict=True):
            for (label, behind), cost in coming.items():
                row = before.setdefault((label, kinds[behind]), {})
                row[kind] = min(cost, row.get(kind, cost))
        pairs = {end: list(row.items()) for end, row in before.items()}
        count = max(kinds) + 1
        lengths = Lengths(self.stacks, count, lambda label, behind: pairs.get((label, behind), []))
        return _Rest(lengths, tuple(blocks))

    def _refusal(self, about: str) -> str:
        """Return why no text can be cut into lexemes that the rules take."""
        names = self.seams.lexer.names
        stuck = self._stuck()
        which = f" {names[stuck[0]]!r} and {names[stuck[1]]!r}" if stuck else ""
        return (
            f"{about} describes no text: its rules put lexemes{which} side by side that can never "
            "be told apart there, since the first always goes on into the second; ignore a lexeme "
            "for white space, which would part them, or make one lexeme of both."
        )

    def _stuck(self) -> tuple[int, int] | None:
        """Return lexemes that the rules put side by side and that nothing can part."""
        found = {self.start[1]: None}
        todo = [self.start[1]]
        while todo and len(found) < SEARCHED:
            node = todo.pop()
            for label in bits(self.stacks.first(node)):
                after = self._take(node, label)
                seams = {self.seams.ends[end][1] for end in self._ends[label]}
                coming = {end for seam in seams for end in bits(self.seams.seen[seam])}
                parted = {self.seams.ends[end][0] for end in coming}
                for other in bits(self.stacks.first(after)):
                    if other not in parted:
                        return label, other
                todo += [after] if after not in found else []
                found[after] = None
        return None


@dataclass(frozen=True)
class _Rest:
    """How texts can be completed.

    Attributes:
        lengths: Shortest continuations behind each kind of seam.
        blocks: The kind of each seam.
    """

    lengths: Lengths
    blocks: tuple[int, ...]

    def cost(self, node: int, seam: int) -> int | None:
        """Return the least cost of a continuation behind a seam; ``None`` if there is none."""
        return None if node == NONE else self.lengths.cost(node, self.blocks[seam])
