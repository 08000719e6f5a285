"""Will the target accept what was just drafted? A head on the drafting pass that learns it."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.drafters.early_exit import EarlyExit
from unison.drafters.kind import Lesson, watched
from unison.drafters.stepwise import Stepwise
from unison.models import stepping
from unison.models.stepping import Step
from unison.models.transformer import Transformer
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.speculation.parts import Guess, Outcome, Plan, Reading, Scores, Target, Text, gathered
from unison.speculation.tree import Node, Nodes, Tree
from unison.types import Nats

SITE_DRAFTS, SITE_MIXTURE = 100, 101


class Head(nn.Module):
    """Residual blocks h + silu(W h) and one number: the log-odds of acceptance."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Float[Tensor, "B M D"]) -> Float[Tensor, "B M"]:
        """Return log-odds, float32."""
        h = h.to(self.out.weight.dtype)
        for block in self.blocks:
            h = h + F.silu(block(h))
        return self.out(h)[..., 0].float()


@dataclass(frozen=True)
class AcceptanceHead:
    """The head of SpecDec++ (Huang et al., 2024, arXiv:2405.19715) on the target's first blocks.

    A place of a text holds a token the drafting pass draws itself, but for a share of the text's
    own. The head reads the drafting pass at a draft and learns min(1, p / q) of it by a
    cross-entropy that counts what is rejected more.

    Differs: blocks have weights each of their own. All drafts of a text are drawn at once from
    the laws behind the text itself.

    Attributes:
        depth: First blocks of the target, which draft; ``None`` for half of them.
        blocks: Residual blocks of the head.
        rejection: Weight of a rejection.
        mixture: Share of places that keep the text's own token.
    """

    name: ClassVar[str] = "acceptance"
    depth: int | None = None
    blocks: int = 3
    rejection: float = 6.0
    mixture: float = 0.15

    def __post_init__(self) -> None:
        if self.blocks < 0 or self.rejection <= 0:
            raise ValueError(
                "acceptance.blocks must be at least 0 and acceptance.rejection above 0, got "
                f"{self.blocks} and {self.rejection}."
            )
        if not 0 <= self.mixture < 1:
            raise ValueError(f"acceptance.mixture must be in [0, 1), got {self.mixture}.")

    def module(self, network: Transformer) -> Head:
        """Return a head that is undecided."""
        return Head(network.config.hidden, self.blocks)

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """Return the loss over drafts; hits are those judged rightly at one half."""
        length = inputs.shape[1]
        with torch.no_grad():
            p = stepping.logits(network, watched(network, inputs).hidden).log_softmax(-1)
            q = stepping.logits(network, self._drafting(network, inputs)).log_softmax(-1)
            drawn = categorical.sample(q[:, :-1], rng.uniform(key, SITE_DRAFTS, length - 1))
            at = drawn[..., None]
            ratio = p[:, :-1].gather(2, at) - q[:, :-1].gather(2, at)
            label = ratio[..., 0].exp().clamp(max=1)
            own = rng.uniform(key, SITE_MIXTURE, length - 1) < self.mixture
            mixed = torch.cat([inputs[:, :1], torch.where(own, inputs[:, 1:], drawn)], dim=1)
            hidden = self._drafting(network, mixed)[:, 1:]
        odds = module(hidden)
        loss = label * F.softplus(-odds) + self.rejection * (1 - label) * F.softplus(odds)
        draft = ~own
        count = draft.sum()
        right = ((odds > 0) == (label > 0.5)) & draft
        total = torch.where(draft, loss, 0.0).sum()
        return Lesson(Nats(total, count), right.sum().float()[None], count.float()[None])

    def drafter(self, module: nn.Module, network: Transformer) -> "Judged":
        """Return the first blocks as a drafter that judges its drafts."""
        del network
        return Judged(module, EarlyExit(self.depth))

    def _drafting(self, network: Transformer, inputs: Int[Tensor, "B L"]) -> Tensor:
        """Return what the output layer reads of the drafting pass over whole texts."""
        whole = network.config.depth
        depth = max(whole // 2, 1) if self.depth is None else self.depth
        place = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
        sees = place[:, :, None] >= place[:, None, :]
        step = Step(inputs, place, place, sees)
        return stepping.read(network, step, None, blocks=range(depth))


@dataclass(frozen=True, eq=False)
class Judged:
    """A drafter whose drafts are judged by a head, for ``SpecDec``.

    Attributes:
        head: Trained.
        by: Drafts.
    """

    copies: ClassVar[bool] = False
    head: nn.Module = field(repr=False)
    by: EarlyExit

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "JudgedDrafting":
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target has no blocks to leave out, or not these.
        """
        inner = self.by.open(target, rows)
        heard = Heard(inner.reading)
        inner.reading = heard
        return JudgedDrafting(self.head, inner, heard)


class Heard:
    """A reading that remembers the states of the tree it is reading."""

    def __init__(self, inner: Reading) -> None:
        self.inner = inner
        self.hidden: Tensor | None = None

    def read(self, tokens: Int[Tensor, "B M"], count: Node, logits: bool = False) -> Scores:
        """See ``Reading``."""
        return self.inner.read(tokens, count, logits)

    def score(self, tree: Tree, since: int = 0) -> Scores:
        """See ``Reading``."""
        scores = self.inner.score(tree, since)
        before = scores.hidden[:, :0] if since == 0 or self.hidden is None else self.hidden
        self.hidden = torch.cat([before, scores.hidden], dim=1)
        return scores

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """See ``Reading``."""
        self.inner.commit(path)

    def cut(self, length: Node) -> None:
        """See ``Reading``."""
        self.inner.cut(length)

    def keep(self, rows: Int[Tensor, " R"]) -> "Heard":
        """See ``Reading``."""
        return Heard(self.inner.keep(rows))


class JudgedDrafting:
    """A judged drafter in the middle of a batch of texts."""

    def __init__(self, head: nn.Module, inner: Stepwise, heard: Heard) -> None:
        self.head, self.inner, self.heard = head, inner, heard

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        self.inner.begin(text, scores)

    @torch.no_grad()
    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return the law behind nodes, and whether they themselves will be accepted."""
        said = self.inner.guess(tree, frontier)
        assert self.heard.hidden is not None
        judged = self.head(gathered(self.heard.hidden, frontier)).sigmoid()
        return Guess(said.logq, said.confidence, torch.where(frontier == 0, 1.0, judged))

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """Never asked."""
        return self.inner.texts(plan)

    def finish(self, tree: Tree) -> Tree:
        """Return the same tree."""
        return tree

    def observe(self, outcome: Outcome) -> None:
        """Hear what was written."""
        self.inner.observe(outcome)

    def keep(self, rows: Int[Tensor, " R"]) -> "JudgedDrafting":
        """Return the drafting of some rows."""
        inner = self.inner.keep(rows)
        heard = inner.reading
        assert isinstance(heard, Heard)
        return JudgedDrafting(self.head, inner, heard)
