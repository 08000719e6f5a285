"""How do the atoms of a molecule hang together? Chains, branches and rings in SMILES.

A ring bond joins the two atoms that bear the same digit. When a molecule is written from the tree
of a depth-first search, every ring bond leads back from an atom to one it hangs from, so all a rule
must know of a stretch of text is which digits are open before it and which of them it closes.
After D. Weininger (1988) and the OpenSMILES specification (2016); the rules are our own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations

from unison.constrain.language import EMPTY, Alt, Expr, Grammar, Ref, Repeat, Seq, Text

Rings = frozenset[str]
_NONE: Rings = frozenset()


@dataclass(frozen=True)
class _Place:
    """What was read before a place in a molecule.

    Attributes:
        open: Digits whose ring bonds are open.
        owed: Those that must be closed in what hangs from here.
        fresh: Those opened at the last atom: a next one is bonded to it, and must not close them.
        twins: Those opened at one atom, of which another must not close two.
    """

    open: Rings = _NONE
    owed: Rings = _NONE
    fresh: Rings = _NONE
    twins: Rings = _NONE

    @cached_property
    def name(self) -> str:
        parts = (self.open, self.owed, self.fresh, self.twins)
        return "after " + "/".join("".join(sorted(part)) for part in parts)

    def atom(self, closed: Rings, opened: Rings) -> "_Place":
        """Return the place behind an atom with these digits."""
        owed = self.owed - closed | opened
        twins = self.twins - closed | (opened if len(opened) > 1 else _NONE)
        return _Place(self.open - closed | opened, owed, opened, _several(twins))

    def within(self, closed: Rings) -> "_Place":
        """Return the place at the beginning of a branch that closes these digits."""
        return _Place(self.open, closed, self.fresh & closed, _several(self.twins & closed))

    def behind(self, closed: Rings) -> "_Place":
        """Return the place at the end of such a branch."""
        twins = _several(self.twins - closed)
        return _Place(self.open - closed, self.owed - closed, self.fresh - closed, twins)


def molecules(atoms: Grammar, digits: str) -> Grammar:
    """Return the molecules of some atoms, at most one open ring bond for each digit at a time.

    Every text is one that RDKit reads: no ring bond joins an atom to itself or to one it is bonded
    to already. A bond's kind stands where its ring closes, and rings close in what hangs from the
    atom that opened them, as in what programs write.

    Args:
        atoms: Rules ``organic``, ``bracket`` and ``bond``.
        digits: What ring bonds are called.
    """
    every = frozenset(digits)
    rules = dict(atoms.rules)
    rules["atom"] = Alt((Ref("organic"), Ref("bracket")))
    found = {_Place()}
    todo = [*found]
    for place in todo:  # grows meanwhile
        rules[place.name] = _after(place)
        rules[f"next {place.name}"] = Seq((Repeat(Ref("bond"), 0, 1), Ref(f"atom {place.name}")))
        rules[f"atom {place.name}"] = _atom(place, every)
        reached = dict.fromkeys((*_following(place, every), *_branching(place)))
        todo += [other for other in reached if other not in found]
        found |= reached.keys()
    first = Ref(f"atom {_Place().name}")
    rules["molecules"] = Seq((first, Repeat(Seq((Text("."), first)))))
    return Grammar(rules, "molecules", about=atoms.about)


def _after(place: _Place) -> Expr:
    """What may follow an atom in its chain: nothing, the next atom, or a branch and so on."""
    options: list[Expr] = [] if place.owed else [EMPTY]
    options.append(Ref(f"next {place.name}"))
    for closed in _subsets(place.owed):
        branch = Seq((Text("("), Ref(f"next {place.within(closed).name}"), Text(")")))
        options.append(Seq((branch, Ref(place.behind(closed).name))))
    return Alt(tuple(options))


def _atom(place: _Place, every: Rings) -> Expr:
    """An atom, the digits of the rings that close and open at it, and what follows."""
    options = [
        Seq((_closing(closed), Text("".join(sorted(opened))), Ref(place.atom(closed, opened).name)))
        for closed, opened in _digits(place, every)
    ]
    return Seq((Ref("atom"), Alt(tuple(options))))


def _closing(closed: Rings) -> Expr:
    bond = Repeat(Ref("bond"), 0, 1)
    orders = [
        Seq(tuple(part for digit in order for part in (bond, Text(digit))))
        for order in permutations(sorted(closed))
    ]
    return Alt(tuple(orders))


def _digits(place: _Place, every: Rings) -> Iterator[tuple[Rings, Rings]]:
    for closed in _subsets(place.owed - place.fresh):
        if len(closed & place.twins) < 2:
            for opened in _subsets(every - (place.open - closed)):
                yield closed, opened


def _following(place: _Place, every: Rings) -> Iterator[_Place]:
    return (place.atom(*digits) for digits in _digits(place, every))


def _branching(place: _Place) -> Iterator[_Place]:
    for closed in _subsets(place.owed):
        yield place.within(closed)
        yield place.behind(closed)


def _subsets(of: Rings) -> Iterator[Rings]:
    for size in range(len(of) + 1):
        yield from map(frozenset, combinations(sorted(of), size))


def _several(twins: Rings) -> Rings:
    return twins if len(twins) > 1 else _NONE
