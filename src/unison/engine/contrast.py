"""What does a network say when its tokens visit other experts, for one step only?"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unison.engine.reading import NetworkReading, NetworkTarget
from unison.models.moe import Routing, rerouted
from unison.speculation.parts import Scores
from unison.speculation.tree import Node, Tree


@dataclass(frozen=True)
class WeaklyRouted:
    """The weak pass of self-contrast (SCMoE: Shi et al., 2024, arXiv:2405.14507) as a target.

    What it says about an input is what the network answers if that input alone visits other
    experts: all before it, drafts among them, were read with the usual ones, and are remembered so.
    ``Contrastive(amateur=WeaklyRouted(target, ...))`` is SCMoE.

    It has a memory of its own: what is read goes through the network as usual, and then the same
    nodes once more beside themselves, each seeing what came before it and its own weak self.

    Attributes:
        strong: The network as usual.
        first: Rank of the first expert visited, 0 for the best; 2 as published.
        count: Experts visited.

    Raises:
        ValueError: The network has no experts, or not so many.
    """

    strong: NetworkTarget
    first: int = 2
    count: int = 1
    weak: NetworkTarget = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        network = rerouted(self.strong.network, Routing(self.first, self.count))
        object.__setattr__(self, "weak", replace(self.strong, network=network))

    @property
    def branches(self) -> bool:
        """Whether it can read trees: it can."""
        return True

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.strong.vocab_size

    @property
    def max_length(self) -> int:
        """Most inputs."""
        return self.strong.max_length

    @property
    def begin(self) -> int:
        """Its begin token."""
        return self.strong.begin

    def open(self, rows: int, taps: Sequence[int] = ()) -> "WeakReading":
        """Return a reading of empty texts; its taps are those of the usual network."""
        return WeakReading(self, self.strong.open(rows, taps))


class WeakReading:
    """A network in the middle of a batch of texts, about to read the next tokens otherwise."""

    def __init__(self, target: WeaklyRouted, reading: NetworkReading) -> None:
        self.target, self.reading = target, reading

    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """Read on as usual, and remember; what is said is the usual network's too."""
        return self.reading.read(tokens, count, logits)

    def score(self, tree: Tree, since: int = 0) -> Scores:
        """Return what the weak pass says about the nodes from ``since`` on."""
        taps = self.reading.score(tree, since).taps
        aside = copy.copy(self.reading)  # of the same memory; forgotten when it has answered
        aside.target = self.target.weak
        said = aside.score(_twice(tree, since), tree.tokens.shape[1])
        return Scores(said.logits, said.hidden, taps)

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Keep these nodes of the tree just scored, as the usual network read them."""
        self.reading.commit(path)

    def cut(self, length: Node) -> None:
        """Forget all but the first inputs of each row; a row with fewer keeps what it has."""
        self.reading.cut(length)

    def keep(self, rows: Int[Tensor, " R"]) -> "WeakReading":
        """Return the reading of some rows, by number; this one is used up."""
        return WeakReading(self.target, self.reading.keep(rows))


def _twice(tree: Tree, since: int) -> Tree:
    """Return the tree with the nodes from ``since`` on once more, as siblings of themselves."""
    per_node = [torch.cat([part, part[:, since:]], dim=1) for part in tree[:8]]
    law = torch.cat([tree.law, tree.law[:, since:]], dim=1)
    return Tree(*per_node, tree.laws, law, tree.width + 1, tree.height)  # pyright: ignore
