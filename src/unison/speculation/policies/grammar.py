"""The model's own law, gated by a language: only tokens after which the text can be completed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.constrain import ConstraintError
from unison.constrain.machine import DEAD
from unison.constrain.tokens import UNREACHABLE, TokenMachine
from unison.speculation.parts import Scores, Target, Text
from unison.speculation.policies.plain import Plain, picked, shaped
from unison.speculation.tree import Node, Tree

_ENDED = -2  # the state behind an end token


@dataclass(frozen=True)
class Gate:
    """What one row must obey.

    Attributes:
        tokens: Reads the language; its vocabulary names the tokens that end a text.
        first: Tokens of the text before the constrained stretch: those of the prompt, or 0 where
            the prompt is part of it.
        room: Tokens of the stretch at most, an end token not counted.

    Raises:
        ConstraintError: No text of the language is short enough.
    """

    tokens: TokenMachine
    first: int
    room: int

    def __post_init__(self) -> None:
        least = int(self.tokens.distance(np.array([self.tokens.start], np.int32))[0])
        if least > self.room:
            raise ConstraintError(
                f"the shortest text of the language takes {least} tokens and there is room for "
                f"{self.room}; raise new_tokens."
            )

    @property
    def start(self) -> "Place":
        """The place before the first token."""
        return _arrived(self, self.tokens.start, self.room)

    def after(self, place: "Place", token: int) -> "Place":
        """Return where a token leads."""
        if token in self.tokens.vocabulary.nulls:
            done = place.state == _ENDED or self._complete(place)
            return Place(_ENDED if done else DEAD, place.left - 1)
        if place.state < 0 or not 0 <= token < len(self.tokens.vocabulary.spellings):
            return Place(DEAD, place.left - 1)
        state = int(self.tokens.follow(np.array([place.state], np.int32), token)[0])
        if place.way[:1] == (token,):
            return Place(state, place.left - 1, place.way[1:])
        return _arrived(self, state, place.left - 1)

    def allowed(self, place: "Place") -> Int[np.ndarray, " n"]:
        """Return the tokens that may come next, none where no text of the language can."""
        ends = np.array(self.tokens.vocabulary.nulls, np.int64)
        if place.state == _ENDED:
            return ends
        if place.state == DEAD:
            return ends[:0]
        parts = [np.array(place.way[:1], np.int64)]
        if place.left > 0:
            parts.append(self.tokens.allowed(place.state, place.left))
        if self._complete(place):
            parts.append(ends)
        return np.concatenate(parts)

    def _complete(self, place: "Place") -> bool:
        return place.state >= 0 and bool(self.tokens.accepts(np.array([place.state], np.int32))[0])


class Place(NamedTuple):
    """Where in a language a text has come to.

    Attributes:
        state: Of the token machine; ``DEAD`` where no text of the language begins so.
        left: Tokens there is room for.
        way: Tokens that complete the text and fit, where the machine does not know the fewest.
    """

    state: int
    left: int
    way: tuple[int, ...] = ()


def _arrived(gate: Gate, state: int, left: int) -> Place:
    if gate.tokens.exact or state == DEAD:
        return Place(state, left)
    least = int(gate.tokens.distance(np.array([state], np.int32))[0])
    known = least < UNREACHABLE and least <= left
    return Place(state, left, tuple(gate.tokens.shortest(state)) if known else ())


@dataclass(frozen=True)
class Grammar:
    """Each token from the model's law, given that the text so far and it can still be completed.

        p(x_i | x_<i)  proportional to  p_model(x_i | x_<i) [some text of the language that fits
                                        begins with x_<=i]

    and then tempered and truncated. Tokens that end a text are possible where it is complete; after
    one nothing else is. Every text is of the language, if no round is cut short; a draft outside
    the language has probability 0 and is never written.

    This is not the model's law given that the text is in the language, p_model(x) [x in L] / Z:
    that would weigh each token by the probability of what can follow, which a left-to-right model
    does not know ahead. ``generate(constraint=)`` conditions all beliefs it has jointly; of a
    left-to-right model it has that of the next token alone, so the two laws agree there, except
    that it truncates first and gates then, with a last resort where nothing is left.

    The machines run on the host: a round waits for the device once for each depth.

    Attributes:
        gates: What each row must obey, ``None`` for nothing; one for all rows, or one for each.
        plain: Temperature and truncation of the gated law.
    """

    gates: tuple[Gate | None, ...]
    plain: Plain = field(default_factory=Plain)

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "GrammarJudging":
        """Return the judging of empty texts.

        Raises:
            ValueError: There are not as many gates as rows, or tokens the target does not have.
        """
        if len(self.gates) not in (1, rows):
            raise ValueError(
                f"there are {len(self.gates)} constraints and {rows} rows; give one for all, or "
                "one for each."
            )
        for gate in self.gates:
            size = 0 if gate is None else len(gate.tokens.vocabulary.spellings)
            if size > target.vocab_size:
                raise ValueError(
                    f"the constraint knows {size} tokens and the target {target.vocab_size}; "
                    "compile it for the target's own vocabulary."
                )
            if gate is not None and not gate.tokens.vocabulary.nulls:
                raise ValueError(
                    "the constraint's vocabulary has no token that ends a text; name the target's."
                )
        gates = self.gates if len(self.gates) == rows else self.gates * rows
        return GrammarJudging(self, gates)


class GrammarJudging:
    """Texts on their way through their languages."""

    def __init__(self, policy: Grammar, gates: Sequence[Gate | None]) -> None:
        self.policy, self.gates = policy, gates
        self._places: list[Place | None] = []  # behind what is written, the root left out ...
        self._rooted = False  # ... or read as well
        self._law: Gated | None = None

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt.

        Raises:
            ConstraintError: No text of the language begins as the prompt does.
            ValueError: It ends before the constrained stretch begins.
        """
        del scores
        rows = zip(self.gates, text.tokens.tolist(), text.length.tolist(), strict=True)
        self._places = [_begun(gate, tokens[1:length]) for gate, tokens, length in rows]
        self._rooted = True

    def law(self, tree: Tree, scores: Scores) -> "Gated":
        """Return the law at each node."""
        assert scores.logits is not None
        tokens = tree.tokens.tolist()
        if not self._rooted:
            self._places = [
                None if gate is None or place is None else gate.after(place, row[0])
                for gate, place, row in zip(self.gates, self._places, tokens, strict=True)
            ]
            self._rooted = True
        known = [{0: place} for place in self._places]
        rows = zip(self.gates, tokens, tree.parent.tolist(), known, strict=True)
        walks = [Walk(*row) for row in rows]
        self._law = Gated(self.policy.plain, scores.logits, walks)
        return self._law

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written."""
        assert self._law is not None
        last = [max(row) for row in path.tolist()]  # a node comes after its parent
        self._places = [walk.place(node) for walk, node in zip(self._law.walks, last, strict=True)]
        self._rooted, self._law = False, None

    def keep(self, rows: Int[Tensor, " R"]) -> "GrammarJudging":
        """Return the judging of some rows; this one is used up."""
        numbers = rows.tolist()
        kept = GrammarJudging(self.policy, [self.gates[i] for i in numbers])
        kept._places = [self._places[i] for i in numbers]
        kept._rooted = self._rooted
        return kept


class Walk(NamedTuple):
    """One row's way through its language, on the tree of a round.

    Attributes:
        gate: The language; ``None`` for all texts.
        tokens: At each node.
        parent: Of each node.
        known: Places of nodes, found as they are asked for.
    """

    gate: Gate | None
    tokens: list[int]
    parent: list[int]
    known: dict[int, Place | None]

    def place(self, node: int) -> Place | None:
        """Return where the text up to a node has come to."""
        if node not in self.known:
            before = self.place(self.parent[node])
            here = None
            if self.gate is not None and before is not None:
                here = self.gate.after(before, self.tokens[node])
            self.known[node] = here
        return self.known[node]

    def allowed(self, node: int) -> Int[np.ndarray, " n"] | None:
        """Return which tokens may follow a node; ``None`` for all.

        Behind a draft outside the language nothing is ever written, and any law will do.
        """
        place = self.place(node)
        if self.gate is None or place is None:
            return None
        tokens = self.gate.allowed(place)
        return tokens if len(tokens) else None


@dataclass(frozen=True)
class Gated:
    """The law at the nodes that are asked about.

    Attributes:
        plain: Temperature and truncation.
        logits: Of the model.
        walks: Of each row.
    """

    plain: Plain
    logits: Float[Tensor, "B N V"]
    walks: Sequence[Walk]

    def at(self, node: Node) -> Float[Tensor, "B V"]:
        """Return log-probabilities of the token after one node of each row."""
        logits = picked(self.logits, node)
        out = torch.zeros(logits.shape, dtype=torch.bool)
        for row, (walk, one) in enumerate(zip(self.walks, node.tolist(), strict=True)):
            allowed = walk.allowed(one)
            if allowed is not None:
                out[row] = True
                out[row, torch.from_numpy(allowed)] = False
        return shaped(self.plain, logits.masked_fill(out.to(logits.device), -torch.inf))


def _begun(gate: Gate | None, tokens: Sequence[int]) -> Place | None:
    """Return where a text has come to before anything of it is drafted."""
    if gate is None:
        return None
    if len(tokens) < gate.first:
        raise ValueError(
            f"the constraint speaks of the text behind its first {gate.first} tokens, and the "
            f"prompt has {len(tokens)}."
        )
    place = gate.start
    for token in tokens[gate.first :]:
        place = gate.after(place, token)
    if not len(gate.allowed(place)):
        raise ConstraintError(
            "no text of the language that fits begins as the prompt does; change the prompt, or "
            "the constraint."
        )
    return place
