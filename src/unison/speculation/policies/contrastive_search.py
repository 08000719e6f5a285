"""Which likely token says something new? Probability minus likeness to the context."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.speculation import tree as trees
from unison.speculation.parts import Scores, Target, Text, gathered
from unison.speculation.second import Second, opened
from unison.speculation.tree import How, Level, Node, Tree


@dataclass(frozen=True)
class ContrastiveSearch:
    r"""Contrastive search (Su et al., 2022, arXiv:2202.06417): a deterministic law.

        argmax over the k likeliest v of  (1 - alpha) p(v | x) - alpha max_j cos(h_v, h_j)

    h_v is what the output layer reads after v, h_j what it read after the j-th input of the text
    so far, the begin token and the prompt among them. With ``alpha`` 0 it is greedy decoding, with
    1 the least similar candidate is written. A sharp penalty needs an isotropic network:
    ``unison.evaluate.isotropy`` measures that, the objective ``simctg`` trains for it.

    All candidates after all drafts are read in one more evaluation a round, of ``candidates`` + 1
    tokens for each node, by a reading of its own.

    Attributes:
        alpha: Weight of the penalty.
        candidates: k.
    """

    alpha: float = 0.6
    candidates: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha}.")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}.")

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "ContrastiveSearching":
        """Return the judging of empty texts.

        Raises:
            ValueError: The target cannot read trees.
        """
        if not target.branches:
            raise ValueError(
                "contrastive search looks at several next tokens at once and this target reads "
                "chains alone; use a transformer of unison's own."
            )
        return ContrastiveSearching(self, opened(target, target, rows))


class ContrastiveSearching:
    """Texts whose hidden states are remembered."""

    def __init__(self, policy: ContrastiveSearch, ahead: Second) -> None:
        self.policy, self.ahead = policy, ahead
        self._past: tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]] | None = None
        self._nodes: Float[Tensor, "B N D"] | None = None

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        self.ahead.begin(text)
        place = torch.arange(scores.hidden.shape[1], device=text.length.device)
        self._past = (F.normalize(scores.hidden, dim=-1), place < text.length[:, None] - 1)

    def law(self, tree: Tree, scores: Scores) -> "Chosen":
        """Return the law at each node: all mass on one token."""
        assert scores.logits is not None
        assert self._past is not None
        count = min(self.policy.candidates, scores.logits.shape[-1])
        chance, token = scores.logits.softmax(-1).topk(count, dim=-1)
        wide = _with_candidates(tree, token)
        hidden = self.ahead.score(wide).hidden
        nodes = tree.tokens.shape[1]
        self._nodes = F.normalize(hidden[:, :nodes], dim=-1)
        new = F.normalize(hidden[:, nodes:], dim=-1).unflatten(1, (nodes, count))
        penalty = self._likeness(new, trees.ancestors(tree))
        score = (1 - self.policy.alpha) * chance - self.policy.alpha * penalty
        best = score.argmax(-1, keepdim=True)
        return Chosen(token.gather(-1, best)[..., 0], scores.logits.shape[-1])

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written."""
        assert self._past is not None
        assert self._nodes is not None
        known, real = self._past
        written = torch.cat([known, gathered(self._nodes, path)], dim=1)
        self._past, self._nodes = (written, torch.cat([real, path >= 0], dim=1)), None
        self.ahead.commit(path)

    def keep(self, rows: Int[Tensor, " R"]) -> "ContrastiveSearching":
        """Return the judging of some rows; this one is used up."""
        kept = ContrastiveSearching(self.policy, self.ahead.keep(rows))
        kept._past = None if self._past is None else (self._past[0][rows], self._past[1][rows])
        return kept

    def _likeness(
        self, new: Float[Tensor, "B N K D"], way: Bool[Tensor, "B N N"]
    ) -> Float[Tensor, "B N K"]:
        """Return the largest cosine of each candidate with what is before it."""
        assert self._past is not None
        assert self._nodes is not None
        known, real = self._past
        past = torch.einsum("bnkd,bsd->bnks", new, known)
        past = past.masked_fill(~real[:, None, None], -torch.inf)
        drafted = torch.einsum("bnkd,bmd->bnkm", new, self._nodes)
        drafted = drafted.masked_fill(~way[:, :, None], -torch.inf)
        return torch.cat([past, drafted], dim=-1).amax(-1)


@dataclass(frozen=True)
class Chosen:
    """A law that leaves no choice.

    Attributes:
        token: After each node.
        vocab_size: V.
    """

    token: Int[Tensor, "B N"]
    vocab_size: int

    def at(self, node: Node) -> Float[Tensor, "B V"]:
        """Return log-probabilities of the token after one node of each row."""
        token = self.token.gather(1, node[:, None])
        none = torch.full((len(node), self.vocab_size), -torch.inf, device=token.device)
        return none.scatter(1, token, 0.0)


def _with_candidates(tree: Tree, token: Int[Tensor, "B N K"]) -> Tree:
    """Return the tree with candidates after every node, those of node n at N + n K on."""
    rows, nodes, count = token.shape
    parent = torch.arange(nodes, device=token.device).repeat_interleave(count).expand(rows, -1)
    rank = torch.arange(count, device=token.device).repeat(nodes).expand(rows, -1)
    zero = torch.zeros(parent.shape, device=token.device)
    level = Level(
        token.flatten(1),
        parent,
        rank,
        torch.full_like(parent, int(How.PROBE)),
        zero,
        zero + 1,
        tree.live.gather(1, parent),
    )
    return trees.sized(trees.grown(tree, level), tree.width + count, tree.height + 1)
