"""What does each part of speculative decoding do? One loop; every method is a choice of parts.

    drafter + builder + scheduler -> tree -> target + policy -> law at each node
    -> verifier -> the path that is written, and one token more

Parts are frozen dataclasses whose fields are their settings; what changes while a text is written
lives in what they ``open``. Rows of a batch never see each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.speculation.choosing import Chooser
from unison.speculation.tree import How, Node, Nodes, Tree


class Text(NamedTuple):
    """What is written, as the target reads it: the begin token is place 0, then the text.

    Attributes:
        tokens: Input tokens, the begin token first; anything beyond ``length``.
        length: Input tokens of each row: 1 plus tokens of the text.
    """

    tokens: Int[Tensor, "B T"]
    length: Int[Tensor, " B"]


class Scores(NamedTuple):
    """What the target says about inputs: of a text, or of the nodes of a tree.

    Attributes:
        logits: About the token after each input, unnormalised; ``None`` where nobody asked.
        hidden: What its output layer read.
        taps: The residual stream before the blocks asked for, by number.
    """

    logits: Float[Tensor, "B M V"] | None
    hidden: Float[Tensor, "B M D"]
    taps: Mapping[int, Float[Tensor, "B M D"]]


@runtime_checkable
class Reading(Protocol):
    """A model in the middle of a batch of texts: it remembers them. Used up as it goes."""

    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """Read on, and remember: the first ``count`` of the tokens of each row."""
        ...

    def score(self, tree: Tree, since: int = 0) -> Scores:
        """Read the nodes from ``since`` on after the text; those before it were read already.

        Nothing of the tree is part of the text until ``commit``.
        """
        ...

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Keep these nodes of the tree just scored, root first, -1 behind the last."""
        ...

    def cut(self, length: Node) -> None:
        """Forget all but the first inputs of each row; a row with fewer keeps what it has."""
        ...

    def keep(self, rows: Int[Tensor, " R"]) -> "Reading":
        """Return the reading of some rows, by number; this one is used up."""
        ...


@runtime_checkable
class Target(Protocol):
    """A left-to-right model that can read several continuations at once.

    Attributes:
        branches: Whether it can read trees; else chains alone.
        vocab_size: V, of its logits.
        max_length: Most inputs of a text.
        begin: Its begin token.
    """

    @property
    def branches(self) -> bool: ...  # noqa: D102
    @property
    def vocab_size(self) -> int: ...  # noqa: D102
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def begin(self) -> int: ...  # noqa: D102

    def open(self, rows: int, taps: Sequence[int] = ()) -> Reading:
        """Return a reading of ``rows`` empty texts that also tells the streams before ``taps``."""
        ...


@runtime_checkable
class Law(Protocol):
    """What counts as the truth at each node of a tree."""

    def at(self, node: Node) -> Float[Tensor, "B V"]:
        """Return log-probabilities of the token after one node of each row, normalised."""
        ...


@runtime_checkable
class Judging(Protocol):
    """A target policy in the middle of a batch of texts."""

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt: all but its last input was read by the target, with these scores."""
        ...

    def law(self, tree: Tree, scores: Scores) -> Law:
        """Return the law at each node, given what the target says about them."""
        ...

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear which nodes are now written."""
        ...

    def keep(self, rows: Int[Tensor, " R"]) -> "Judging":
        """Return the judging of some rows; this one is used up."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Turns what the target says into the law that is decoded: temperature, grammar, contrast."""

    @property
    def taps(self) -> tuple[int, ...]:
        """Streams of the target it reads, by block number."""
        ...

    def open(self, target: Target, rows: int) -> Judging:
        """Return the judging of ``rows`` empty texts."""
        ...


class Guess(NamedTuple):
    """What a drafter thinks comes after some nodes.

    Attributes:
        logq: Log-probabilities, normalised.
        confidence: Estimate, one for each node, that a child of rank 0 will be accepted if the
            node is; ``None`` where the drafter has none.
        judged: Estimate that each of the nodes itself is accepted if its parent is, made with the
            node's token read; ``None`` where the drafter has none.
    """

    logq: Float[Tensor, "B F V"]
    confidence: Float[Tensor, "B F"] | None = None
    judged: Float[Tensor, "B F"] | None = None


GuessLaw = Callable[[Tree, Nodes], Guess]


class Plan(NamedTuple):
    """How much each row may draft this round; numbers on the host.

    Attributes:
        depth: Levels below the root, at most.
        nodes: Nodes beside the root, at most.
    """

    depth: tuple[int, ...]
    nodes: tuple[int, ...]


class Outcome(NamedTuple):
    """What a round wrote.

    Attributes:
        tree: The drafts.
        scores: What the target said about every node.
        path: The nodes written, root first, -1 behind the last.
        tokens: The tokens written after the root, -1 behind the last.
        count: How many they are, on the host; the last is the target's own unless a text ended
            within the drafts.
        accepted: Drafts that passed the verifier, on the host.
    """

    tree: Tree
    scores: Scores
    path: Int[Tensor, "B D"]
    tokens: Int[Tensor, "B D"]
    count: tuple[int, ...]
    accepted: tuple[int, ...]


@runtime_checkable
class Drafting(Protocol):
    """A drafter in the middle of a batch of texts."""

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt: all but its last input was read by the target, with these scores."""
        ...

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return what comes after nodes of the tree; each level is asked for once, top down.

        Of drafters that copy whole texts, nothing is asked but ``texts``.
        """
        ...

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Return whole continuations, likeliest first, -1 behind the last token of each.

        Of drafters that guess token by token, nothing is asked but ``guess``.
        """
        ...

    def finish(self, tree: Tree) -> Tree:
        """Return the tree the target is to score: with probes added, where the drafter has any."""
        ...

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written."""
        ...

    def keep(self, rows: Int[Tensor, " R"]) -> "Drafting":
        """Return the drafting of some rows; this one is used up."""
        ...


@runtime_checkable
class Drafter(Protocol):
    """Guesses what the target will write."""

    copies: ClassVar[bool]  # whole texts, rather than laws of the next token

    @property
    def taps(self) -> tuple[int, ...]:
        """Streams of the target it reads, by block number."""
        ...

    def open(self, target: Target, rows: int) -> Drafting:
        """Return the drafting of ``rows`` empty texts.

        Raises:
            ValueError: It does not fit the target.
        """
        ...


GoOn = Callable[[Tree], Bool[Tensor, " B"]]


@runtime_checkable
class Builder(Protocol):
    """Turns what a drafter thinks into a tree."""

    copies: ClassVar[bool]  # builds from whole texts; else from laws
    branches: ClassVar[bool]  # nodes may have siblings

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        ...

    def size(self, depth: int) -> int:
        """Return how many nodes, beside the root, a tree of that depth may have."""
        ...

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the tree, at most as deep and as large as planned, row by row.

        Whether a node is there may depend on its ancestors and on siblings of lower rank, never
        on the node's own token unless nothing about it was drawn.

        Args:
            root: Trees of a root alone.
            drafting: Guesses.
            plan: How much.
            choose: Makes the random choices.
            go_on: Asked before each level with the tree so far: which rows draft on.
        """
        ...


class Verdict(NamedTuple):
    """What a verifier decided.

    Attributes:
        path: Accepted nodes, root first, -1 behind the last; [batch, height + 1].
        accepted: How many beside the root.
        token: The token after them.
        bonus: True where every draft on the way to a leaf passed, so that the token is the
            target's own and no correction.
    """

    path: Int[Tensor, "B D"]
    accepted: Node
    token: Node
    bonus: Bool[Tensor, " B"]


@runtime_checkable
class Verifier(Protocol):
    """Picks a way down the tree and one token more."""

    lossless: ClassVar[bool]  # what is written has the target's law
    takes: ClassVar[frozenset[How]]  # nodes it keeps that promise for
    branches: ClassVar[bool]  # can tell siblings apart; else chains alone

    def verify(self, tree: Tree, law: Law, scores: Scores, choose: Chooser) -> Verdict:
        """Return what is written."""
        ...


@runtime_checkable
class Scheduler(Protocol):
    """Decides how much to draft, from what is known before the tokens in question are drawn."""

    foresees: ClassVar[bool]  # looks at drawn tokens before it admits them: not lossless

    def start(self, rows: int) -> Any:
        """Return what it remembers of rows that have written nothing."""
        ...

    def plan(self, memory: Any, most: Plan) -> Plan:
        """Return what to draft, within what builder and context allow."""
        ...

    def go_on(self, memory: Any, tree: Tree) -> Bool[Tensor, " B"]:
        """Return which rows draft another level below the tree so far."""
        ...

    def learn(self, memory: Any, outcome: Outcome, seconds: Mapping[str, float]) -> Any:
        """Return what it remembers after a round, which took so long part by part."""
        ...

    def keep(self, memory: Any, rows: Sequence[int]) -> Any:
        """Return what it remembers of some rows."""
        ...


def nothing(scores: Scores) -> Scores:
    """Return the scores of no inputs at all."""
    return Scores(
        None if scores.logits is None else scores.logits[:, :0],
        scores.hidden[:, :0],
        {number: tap[:, :0] for number, tap in scores.taps.items()},
    )


def gathered(values: Float[Tensor, "B N *R"], path: Int[Tensor, "B D"]) -> Tensor:
    """Return what stands at the nodes of a path; at padding, what stands at the root."""
    where = path.clamp(min=0)
    where = where.reshape(*where.shape, *[1] * (values.ndim - 2))
    return values.gather(1, where.expand(*path.shape, *values.shape[2:]))


def rows_of(count: Sequence[int], device: torch.device) -> Int[Tensor, " B"]:
    """Return host numbers, one for each row, as a tensor."""
    return torch.tensor(list(count), dtype=torch.int64, device=device)
