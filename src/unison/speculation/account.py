"""What did speculation do with its evaluations? Counts, kept round by round."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unison.speculation.loop import Round
from unison.speculation.tree import How, committable


class Share(NamedTuple):
    """How often something passed, of how many times it was tested."""

    passed: int
    tested: int

    @property
    def rate(self) -> float:
        """The share; NaN where nothing was tested."""
        return self.passed / self.tested if self.tested else float("nan")


@dataclass
class Account:
    """An observer of rounds that counts; give it to ``speculate`` as ``on_round``.

    A level is tested where its parent was accepted and some draft followed it; it passes if the
    token that was then written is one of the drafts.

    Attributes:
        kind: Class of a token, by its number; one class for all where ``None``.
    """

    kind: Callable[[int], str] | None = None
    rounds: int = 0
    written: int = 0
    nodes: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    _tested: Counter[int] = field(default_factory=Counter)
    _passed: Counter[int] = field(default_factory=Counter)
    _class_tested: Counter[str] = field(default_factory=Counter)
    _class_passed: Counter[str] = field(default_factory=Counter)

    def __call__(self, seen: Round) -> None:
        """Count a round of every row."""
        outcome = seen.outcome
        tree = outcome.tree
        parents = [
            {parent for parent, live, probe in zip(*row, strict=True) if live and not probe}
            for row in zip(
                tree.parent.tolist(),
                tree.live.tolist(),
                (tree.how == How.PROBE).tolist(),
                strict=True,
            )
        ]
        paths, tokens = outcome.path.tolist(), outcome.tokens.tolist()
        for row, (path, text) in enumerate(zip(paths, tokens, strict=True)):
            nodes = [node for node in path if node >= 0]
            self._row(nodes, text, parents[row], outcome.accepted[row])
            self.written += outcome.count[row]
            self.lengths[outcome.accepted[row]] += 1
        self.rounds += len(paths)
        self.nodes += int(committable(tree).sum()) - len(paths)
        self.seconds.update(seen.seconds)

    def _row(
        self, path: Sequence[int], text: Sequence[int], parents: set[int], accepted: int
    ) -> None:
        for level, node in enumerate(path):
            if node not in parents:
                continue
            passed = level < accepted
            self._tested[level + 1] += 1
            self._passed[level + 1] += passed
            if self.kind is not None and text[level] >= 0:
                name = self.kind(text[level])
                self._class_tested[name] += 1
                self._class_passed[name] += passed

    @property
    def by_depth(self) -> dict[int, Share]:
        """Passed and tested at each depth from 1."""
        return {d: Share(self._passed[d], n) for d, n in sorted(self._tested.items())}

    @property
    def by_class(self) -> dict[str, Share]:
        """Passed and tested by the class of the token that was written, most tested first."""
        names = [name for name, _ in self._class_tested.most_common()]
        return {name: Share(self._class_passed[name], self._class_tested[name]) for name in names}

    @property
    def tokens_per_forward(self) -> float:
        """Tokens written per evaluation of the target, that of the prompt left out."""
        return self.written / self.rounds if self.rounds else float("nan")


def survival(by_depth: Mapping[int, Share]) -> list[float]:
    """Return the probability that a chain passes at least 1, 2, ... levels.

    The product of the shares by depth (Kaplan & Meier, 1958): rounds that drafted less say nothing
    about what they did not draft.
    """
    alive, answer = 1.0, []
    for depth in range(1, max(by_depth, default=0) + 1):
        share = by_depth.get(depth, Share(0, 0))
        alive *= share.rate if share.tested else 0.0
        answer.append(alive)
    return answer


class Best(NamedTuple):
    """How a draft length would have done.

    Attributes:
        depth: Levels drafted.
        tokens: Tokens per round, the target's own included.
        seconds: Of a round.
    """

    depth: int
    tokens: float
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def lengths(
    alive: Sequence[float], cost: Callable[[int], float], draft: Callable[[int], float]
) -> list[Best]:
    """Return what each draft length of a chain would have given, from 0.

    Expected tokens 1 + sum of survival (Leviathan et al., 2023, arXiv:2211.17192, without their
    assumption that levels are independent), over the seconds of a round.

    Args:
        alive: Probability to pass at least 1, 2, ... levels.
        cost: Seconds of the target for so many inputs.
        draft: Seconds to draft so many levels.
    """
    return [
        Best(depth, 1.0 + sum(alive[:depth]), cost(depth + 1) + draft(depth))
        for depth in range(len(alive) + 1)
    ]


def token_class(text: str) -> str:
    """Return the class of a token by its text: what kinds of text are easy to guess?"""
    bare = text.strip()
    if not bare:
        return "line break" if "\n" in text else "space"
    if bare.isdigit():
        return "number"
    if any(letter.isalpha() for letter in bare):
        return "word" if text[0].isspace() or not text[0].isalpha() else "word part"
    return "punctuation"
