"""Which sets of tokens are there, and which tokens do they never tell apart?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt64
from numpy import ndarray

from unison.constrain.tokens.ragged import Growing, Ragged, bounds

_NO_GROUP = 0  # the atom of tokens that are in none


class Atoms(NamedTuple):
    """The coarsest partition of tokens such that every group is a union of parts.

    Attributes:
        order: The tokens that are in some group, by atom, rising in each.
        start: The tokens of atom c are ``order[start[c] : start[c + 1]]``.
        group_offset: The atoms of group g are
            ``group_atom[group_offset[g] : group_offset[g + 1]]``.
        group_atom: Atoms by group.
    """

    order: Int64[ndarray, " T"]
    start: Int64[ndarray, " C_and_one"]
    group_offset: Int64[ndarray, " G_and_one"]
    group_atom: Int64[ndarray, " total"]


class Groups:
    """Sets of tokens, each kept once and numbered as it is found."""

    def __init__(self, tokens: int) -> None:
        self._atom = np.full(tokens, _NO_GROUP)  # of each token
        self._sizes = Growing(np.int64)  # of each atom
        self._sizes.extend([tokens])
        self._members = Ragged(np.int64)
        self._number: dict[bytes, int] = {}
        self._atoms: Atoms | None = None

    def __len__(self) -> int:
        return len(self._members)

    @property
    def table(self) -> Ragged:
        """The tokens of each group."""
        return self._members

    def members(self, group: int) -> Int64[ndarray, " n"]:
        """Return the tokens of a group, rising."""
        offset = self._members.offset
        return self._members.values[offset[group] : offset[group + 1]]

    def union(self, groups: Int32[ndarray, " n"]) -> Int64[ndarray, " m"]:
        """Return the tokens of any of some groups, rising."""
        return np.unique(self._members.take(np.unique(groups))[1])

    def intern(
        self, weights: UInt64[ndarray, "n 2"], members: Callable[[int], Int64[ndarray, " m"]]
    ) -> Int32[ndarray, " n"]:
        """Return the numbers of sets, told apart by their weights.

        Args:
            weights: Of each set, the sum of its tokens' random 128-bit signatures.
            members: Returns the tokens of a set, rising; asked only about new ones.
        """
        keys = np.ascontiguousarray(weights).view("V16")[:, 0].tolist()
        for i, key in enumerate(keys):
            if key not in self._number:
                self._number[key] = self.add(members(i))
        return np.fromiter((self._number[key] for key in keys), np.int32, len(keys))

    def kept(self, used: Bool[ndarray, " G"]) -> "Groups":
        """Return only some groups, numbered anew in the same order."""
        kept = Groups(len(self._atom))
        number = used.cumsum() - 1
        for group in np.flatnonzero(used).tolist():
            kept.add(self.members(group))
        kept._number = {key: int(number[g]) for key, g in self._number.items() if used[g]}
        return kept

    def atoms(self) -> Atoms:
        """Return the partition of the tokens by the groups known so far."""
        if self._atoms is None:
            self._atoms = self._partition()
        return self._atoms

    def add(self, members: Int64[ndarray, " m"]) -> int:
        """Add a set, of rising tokens, that is known to be new, and return its number."""
        group = len(self._members)
        self._members.extend(members, np.array([len(members)]))
        self._atoms = None
        old, sizes = self._atom[members], self._sizes.data
        inside = np.bincount(old, minlength=len(sizes))
        # atoms that the set cuts give what lies in it to a new one
        cut = (inside > 0) & (inside < sizes)
        cut[_NO_GROUP] = inside[_NO_GROUP] > 0
        number = np.arange(len(sizes))
        number[cut] = len(sizes) + np.arange(np.count_nonzero(cut))
        self._atom[members] = number[old]
        sizes[cut] -= inside[cut]
        self._sizes.extend(inside[cut])
        return group

    def _partition(self) -> Atoms:
        atoms = self._sizes.size - 1
        small = np.uint16 if atoms < 1 << 16 else np.int64  # short numbers sort in linear time
        start = self._sizes.data.cumsum()
        order = np.argsort(self._atom.astype(small), kind="stable")[start[_NO_GROUP] :]
        start = start - start[_NO_GROUP]
        speaker = np.full(len(self._atom), -1, np.int64)  # one token speaks for its atom
        speaker[order[start[:-1]]] = np.arange(atoms)
        atom = speaker[self._members.values]
        spoken = atom >= 0
        offset = bounds(spoken)[self._members.offset]
        return Atoms(order, start, offset, atom[spoken])
