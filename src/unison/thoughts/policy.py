"""Which law does a thinking model decode? The one after a thought at every node of a tree."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unison.engine.reading import NetworkReading, NetworkTarget
from unison.models import stepping
from unison.prob.rng import Key
from unison.speculation import tree as trees
from unison.speculation.parts import Judging, Law, Policy, Scores, Target, Text
from unison.speculation.policies.plain import Plain
from unison.speculation.tree import How, Level, Tree
from unison.thoughts.mind import Mind
from unison.thoughts.parallel import within

MARKS = 2


@dataclass(frozen=True, eq=False)
class QuietStar:
    """Think before every token (Quiet-STaR; Zelikman et al., 2024, arXiv:2403.09629).

    The law is a function of the text alone: thoughts are drawn with numbers that ``seed`` and
    the place name. It is that of the thoughts drawn, not the mean over all thoughts.

    Attributes:
        mind: The weights that think.
        inner: Names the law, given logits with the thought.
        seed: Of the thoughts.
    """

    mind: Mind
    inner: Policy = field(default_factory=Plain)
    seed: int = 0

    @property
    def taps(self) -> tuple[int, ...]:
        """Streams that the inner policy reads."""
        return self.inner.taps

    def open(self, target: Target, rows: int) -> "Pondering":
        """Return the judging of empty texts.

        Raises:
            ValueError: The target cannot think with these weights.
        """
        if not isinstance(target, NetworkTarget):
            raise ValueError(
                f"thoughts are had by a network of unison's own, got a {type(target).__name__}; "
                "give the model they were trained with."
            )
        width = self.mind.marks.shape[1]
        if width != target.network.config.hidden:
            raise ValueError(
                f"these thoughts are of width {width} and the network of width "
                f"{target.network.config.hidden}; give the model they were trained with."
            )
        marks = self.mind.embeddings.detach()
        probes = marks if target.probes is None else torch.cat([marks, target.probes.to(marks)])
        own = replace(target, probes=probes, insert=None)
        return Pondering(self, own, own.open(rows), self.inner.open(target, rows))


class Pondering:
    """A thinking model in the middle of a batch of texts: it reads them a second time."""

    def __init__(
        self, policy: QuietStar, target: NetworkTarget, reading: NetworkReading, inner: Judging
    ) -> None:
        self.policy, self.target, self.reading, self.inner = policy, target, reading, inner

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        self.reading.read(text.tokens[:, :-1], text.length - 1)
        self.inner.begin(text, scores)

    @torch.inference_mode()
    def law(self, tree: Tree, scores: Scores) -> Law:
        """Return the law at each node after a thought there."""
        after = self._after(tree)
        mixed = self.policy.mind.mixed(self.target.network, scores.hidden, after)
        return self.inner.law(tree, scores._replace(logits=mixed))

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written; thoughts are forgotten."""
        self.reading.commit(path)
        self.inner.commit(path)

    def keep(self, rows: Int[Tensor, " R"]) -> "Pondering":
        """Return the judging of some rows; this one is used up."""
        return Pondering(self.policy, self.target, self.reading.keep(rows), self.inner.keep(rows))

    def _after(self, tree: Tree) -> Tensor:
        """Return what the output layer reads at the end of the thoughts at all nodes."""
        count, mind = tree.tokens.shape[1], self.policy.mind
        places = self.reading.length[:, None] + tree.depth
        seed = torch.full_like(self.reading.length, self.policy.seed)
        # Probes of a drafter, if there are any, stand behind the marks.
        theirs = torch.where(tree.tokens < 0, tree.tokens - MARKS, tree.tokens)
        grown = self._on(tree._replace(tokens=theirs), torch.full_like(tree.tokens, -1))
        since = 0
        for number in range(mind.thinking.tokens):
            h = self.reading.score(grown, since).hidden[:, -count:]
            since = grown.tokens.shape[1]
            said = stepping.logits(self.target.network, h)
            grown = self._on(grown, mind.drawn(said, Key(seed), number, places))
        grown = self._on(grown, torch.full_like(tree.tokens, -2))
        return self.reading.score(grown, since).hidden[:, -count:]

    def _on(self, tree: Tree, tokens: Int[Tensor, "B F"]) -> Tree:
        """Return the trees with one token more behind each of the last that many nodes."""
        last = tree.tokens.shape[1]
        parent = torch.arange(last - tokens.shape[1], last, device=tokens.device)
        parent = parent.expand_as(tokens)
        zero = torch.zeros_like(tokens)
        real = torch.zeros(tokens.shape, device=tokens.device)
        live = tree.live.gather(1, parent)
        level = Level(tokens, parent, zero, zero + How.PROBE, real, real + 1, live)
        grown = trees.grown(tree, level)
        longest = self.reading.length[:, None]
        return grown._replace(depth=within(self.target.network, longest + grown.depth) - longest)
