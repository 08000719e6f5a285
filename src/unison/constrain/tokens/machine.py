"""Where may each token lead? A machine over bytes, read by the tokens of a vocabulary."""

from itertools import pairwise
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy import ndarray

from unison.constrain.language import ConstraintError
from unison.constrain.machine import DEAD, Machine
from unison.constrain.tokens.ending import UNREACHABLE, distances, spell, unspelt
from unison.constrain.tokens.fronts import Fronts
from unison.constrain.tokens.groups import Atoms, Groups
from unison.constrain.tokens.ragged import Ragged, bounds, runs, sizes
from unison.constrain.tokens.walking import walk
from unison.constrain.vocabulary import Vocabulary

_TOGETHER = (64, 4096)  # how many states are expanded at once, at first and at most
_ARRIVALS = 1 << 21  # walkers at ends of tokens at once: bounds memory
_HELD = 1 << 24  # nodes in fronts, about 200 MB, beyond which walks begin anew
_TRIED = 256  # states of a lazy machine looked at before giving up on a text that tokens can spell
_UNKNOWN = -1


class Edges(NamedTuple):
    """Where tokens lead from some states.

    Attributes:
        offset: The edges of the i-th state are ``offset[i]`` .. ``offset[i + 1]`` - 1.
        target: The state an edge leads to, never ``DEAD``; different for each edge of a state.
        group: The number of the set of tokens that lead there; disjoint for the edges of a state.
    """

    offset: Int64[ndarray, " n_and_one"]
    target: Int32[ndarray, " E"]
    group: Int32[ndarray, " E"]


class Tables(NamedTuple):
    """All that was found out about a machine all of whose states are known, to be kept in a file.

    Attributes:
        offset: The edges of state i are ``offset[i]`` .. ``offset[i + 1]`` - 1.
        target: The state each edge leads to.
        group: The set of tokens that lead there.
        distance: The fewest tokens from each state to the end.
        member_offset: The tokens of set g are
            ``member[member_offset[g] : member_offset[g + 1]]``.
        member: Tokens by set, rising in each.
    """

    offset: Int64[ndarray, " S_and_one"]
    target: Int32[ndarray, " E"]
    group: Int32[ndarray, " E"]
    distance: Int32[ndarray, " S"]
    member_offset: Int64[ndarray, " G_and_one"]
    member: Int64[ndarray, " M"]


class TokenMachine:
    """An automaton that reads tokens instead of bytes; its states are those of the machine.

    Edges are found when they are asked for and then remembered. Of a machine that knows how many
    states it has all are found at once, and those after which no tokens can end the text are taken
    away. Threads may share one; it can be pickled, and then is as large as what it has found.

    Attributes:
        machine: Reads the bytes.
        vocabulary: Says what each token spells.
        exact: Whether ``distance`` is the fewest tokens there are, not only enough.

    Args:
        machine: Reads the bytes.
        vocabulary: Says what each token spells.
        tables: What ``tables`` of an equal one returned.

    Raises:
        ConstraintError: No tokens spell any text of the language.
    """

    def __init__(
        self, machine: Machine, vocabulary: Vocabulary, tables: Tables | None = None
    ) -> None:
        self.machine, self.vocabulary = machine, vocabulary
        self.exact = machine.size is not None
        self._lock = RLock()
        self._fronts: Fronts | None = None
        self._groups = Groups(len(vocabulary.spellings))
        self._found = Ragged(np.int32, 2)  # target and group of each edge, by row
        self._row = np.full(1, _UNKNOWN, np.int64)  # of each state
        self._distance = np.full(1, _UNKNOWN, np.int32)  # of each state
        if tables is not None:
            self._restore(tables)
        elif machine.size is not None:
            self._expand_all(machine.size)
        if self.distance(np.array([self.start], np.int32))[0] == UNREACHABLE:
            self._refuse()

    @property
    def start(self) -> int:
        """The state of the empty text."""
        return self.machine.start

    @property
    def groups(self) -> int:
        """How many sets of tokens are known so far."""
        return len(self._groups)

    def members(self, group: int) -> Int64[ndarray, " n"]:
        """Return the tokens of a set, rising."""
        with self._lock:
            return self._groups.members(group)

    def atoms(self) -> Atoms:
        """Return the tokens by which of the sets known so far they are in."""
        with self._lock:
            return self._groups.atoms()

    def edges(self, states: Int32[ndarray, " n"]) -> Edges:
        """Return where tokens lead from some states, none of which is ``DEAD``."""
        with self._lock:
            self._expand(states)
            count, found = self._found.take(self._row[states])
        return Edges(bounds(count), found[:, 0], found[:, 1])

    def follow(self, states: Int32[ndarray, " n"], token: int) -> Int32[ndarray, " n"]:
        """Return where a token leads, ``DEAD`` where nowhere or if it spells nothing."""
        spelling = self.vocabulary.spellings[token]
        if spelling is None:
            return np.full_like(states, DEAD)
        states = states.copy()
        for byte in spelling:
            live = np.flatnonzero(states != DEAD)
            states[live] = self.machine.advance(states[live], np.full(len(live), byte, np.uint8))
        if self.exact:
            states[self.distance(states) == UNREACHABLE] = DEAD
        return states

    def accepts(self, states: Int32[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Return in which states the text may end; in ``DEAD`` it may not."""
        result = states != DEAD
        result[result] = self.machine.accepts(states[result])
        return result

    def distance(self, states: Int32[ndarray, " n"]) -> Int32[ndarray, " n"]:
        """Return the fewest tokens after which the text may end, ``UNREACHABLE`` if none are.

        Where the machine is not ``exact``, these are the fewest that spell its shortest text, and
        there may be a longer text of fewer tokens.
        """
        if not self.exact:
            with self._lock:
                self._measure(states)
        return np.where(states == DEAD, np.int32(UNREACHABLE), self._distance[states])

    def shortest(self, state: int) -> list[int]:
        """Return as many tokens as ``distance`` says after which the text may end.

        Raises:
            ConstraintError: There are none.
        """
        left = int(self.distance(np.array([state], np.int32))[0])
        if left == UNREACHABLE:
            raise ConstraintError(
                f"no tokens of the vocabulary end the text from state {state}; choose states with "
                "a distance."
            )
        if not self.exact:
            return spell(self.vocabulary.trie, self.machine.shortest(state)) or []
        tokens = []
        for further in range(left - 1, -1, -1):
            _, target, group = self.edges(np.array([state], np.int32))
            best = int(np.flatnonzero(self._distance[target] == further)[0])
            tokens.append(int(self.members(int(group[best]))[0]))
            state = int(target[best])
        return tokens

    def allowed(self, state: int, slots: int) -> Int64[ndarray, " n"]:
        """Return every token after which ``slots`` - 1 further ones are enough, rising."""
        _, target, group = self.edges(np.array([state], np.int32))
        with self._lock:
            return self._groups.union(group[self.distance(target) < slots])

    def tables(self) -> Tables | None:
        """Return what making an equal one need not find again; ``None`` if not all is known."""
        if not self.exact:
            return None
        target, group = self._found.values.T
        members = self._groups.table
        return Tables(
            self._found.offset, target, group, self._distance, members.offset, members.values
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what threads and walks share."""
        with self._lock:
            return {**self.__dict__, "_lock": None, "_fronts": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a lock of one's own."""
        self.__dict__.update(state, _lock=RLock())

    def _expand(self, states: Int32[ndarray, " n"]) -> None:
        """Find the edges of those states whose edges are not known."""
        self._row = _wide_enough(self._row, states)
        new = np.unique(states[self._row[states] == _UNKNOWN])
        together, most = _TOGETHER
        while len(new):
            chunk, new = new[:together], new[together:]
            rows = len(self._found) + np.arange(len(chunk))
            arrived = self._add_edges(chunk)
            self._row[chunk] = rows
            together = min(most, 1 + _ARRIVALS * len(chunk) // (1 + arrived))

    def _add_edges(self, states: Int32[ndarray, " n"]) -> int:
        if self._fronts is None or self._fronts.held > _HELD:
            self._fronts = Fronts(self.vocabulary.trie)
        fronts = self._fronts
        origin, target, front = walk(self.machine, fronts, states)
        pair = origin << 32 | target
        begin = runs(pair)
        end = begin + sizes(begin, len(pair))
        weight = np.add.reduceat(fronts.weight[front], begin) if len(begin) else fronts.weight[:0]
        group = self._groups.intern(weight, lambda i: fronts.tokens(front[begin[i] : end[i]]))
        count = np.bincount(origin[begin], minlength=len(states))
        self._found.extend(np.stack((target[begin], group), 1), count)
        return len(front)

    def _expand_all(self, size: int) -> None:
        """Find all edges and distances, and take edges away that no tokens lead on from."""
        states = np.arange(size, dtype=np.int32)
        self._expand(states)
        self._fronts = None
        offset, (target, group) = self._found.offset, self._found.values.T
        self._distance = distances(offset, target, self.machine.accepts(states))
        kept = self._distance[target] < UNREACHABLE
        if kept.all():
            return
        source = np.repeat(states, np.diff(offset))
        used = np.zeros(self.groups, bool)
        used[group[kept]] = True
        number = (used.cumsum() - 1).astype(np.int32)
        self._groups = self._groups.kept(used)
        self._found = Ragged(np.int32, 2)
        self._found.extend(
            np.stack((target[kept], number[group[kept]]), 1),
            np.bincount(source[kept], minlength=size),
        )

    def _restore(self, tables: Tables) -> None:
        self._distance = tables.distance
        self._row = np.arange(len(tables.distance))
        self._found.extend(
            np.stack((tables.target, tables.group), 1),
            sizes(tables.offset[:-1], len(tables.target)),
        )
        for begin, end in pairwise(tables.member_offset.tolist()):
            self._groups.add(tables.member[begin:end])

    def _measure(self, states: Int32[ndarray, " n"]) -> None:
        """Find the distances of a lazy machine's states that are not known."""
        self._distance = _wide_enough(self._distance, states)
        for state in np.unique(states[self._distance[states] == _UNKNOWN]).tolist():
            if state != DEAD:
                tokens = spell(self.vocabulary.trie, self.machine.shortest(state))
                self._distance[state] = UNREACHABLE if tokens is None else len(tokens)

    def _refuse(self) -> None:
        """Raise, unless a lazy machine has another text than the shortest that tokens spell."""
        if not self.exact and self._finishes():
            return
        text = self.machine.shortest(self.start)
        missing = unspelt(self.vocabulary.trie, self.vocabulary.spellings, text)
        why = (
            f"no token of the vocabulary spells {', '.join(map(repr, missing))}"
            if missing
            else "its characters are in tokens only together with others"
        )
        raise ConstraintError(
            f"the tokenizer cannot write any text of the language: the shortest is "
            f"{text.decode()!r}, and {why}. Allow texts of other characters, or use a tokenizer "
            "that has them."
        )

    def _finishes(self) -> bool:
        """Return whether one of the first states that tokens lead to is near an end."""
        known, done = np.array([self.start], np.int32), 0
        while done < min(len(known), _TRIED):
            fresh = known[done:_TRIED]
            if (self.distance(fresh) < UNREACHABLE).any():
                return True
            done += len(fresh)
            known = np.concatenate((known, np.setdiff1d(self.edges(fresh).target, known)))
        return False


def _wide_enough(known: ndarray, states: Int32[ndarray, " n"]) -> ndarray:
    """Return the same array, or a longer copy if a state is beyond its end."""
    needed = int(states.max(initial=-1)) + 1
    if needed <= len(known):
        return known
    wider = np.full(max(needed, 2 * len(known)), _UNKNOWN, known.dtype)
    wider[: len(known)] = known
    return wider
