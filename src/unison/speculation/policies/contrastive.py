"""What the model knows better than a weaker one: logits extrapolated away from an amateur's."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation.parts import Scores, Target, Text
from unison.speculation.policies.plain import Plain, Tempered
from unison.speculation.second import Prompt, Second, opened
from unison.speculation.tree import Tree

_IMPOSSIBLE = -1e9  # log-probability of what the amateur rules out: a contrast needs a number


@dataclass(frozen=True)
class Contrastive:
    r"""Contrastive decoding (Li et al., 2022, arXiv:2210.15097; O'Brien & Lewis, 2023, 2309.09117).

        s(v) = strong log p(v) - weak log p_amateur(v)    where p(v) >= plausible max p, else -inf

    The law is softmax(s), tempered and truncated. Weights (1 + beta, beta) are those of O'Brien &
    Lewis and, with the network's own weaker routing for an amateur, of SCMoE (Shi et al., 2024,
    arXiv:2405.14507: beta 0.5, plausible 0.1; see ``unison.engine.contrast``): an amateur that
    agrees changes nothing then, but for what is implausible. Weights (1, 1) are the original's;
    an amateur temperature T there is a ``weak`` of 1 / T. With another prompt the amateur may be
    the network itself, and its context what is contrasted.

    Each round costs one evaluation of the amateur beside that of the target, and its memory.

    Attributes:
        amateur: Of the target's vocabulary.
        strong: Weight of the target's log-probabilities.
        weak: Weight of the amateur's.
        plausible: Share of the largest probability below which a token is left out; 0 for none.
        prompts: What the amateur reads in place of the prompt: one for all rows, or one for each;
            ``None`` for the prompt itself.
        plain: Temperature and truncation of the contrast.
    """

    amateur: Target
    strong: float = 1.5
    weak: float = 0.5
    plausible: float = 0.1
    prompts: tuple[Prompt, ...] | None = None
    plain: Plain = field(default_factory=Plain)

    def __post_init__(self) -> None:
        if not 0 < self.strong < math.inf or not 0 <= self.weak < math.inf:
            raise ValueError(
                f"strong must be above 0 and weak at least 0, got {self.strong} and {self.weak}."
            )
        if not 0 <= self.plausible <= 1:
            raise ValueError(f"plausible must be in [0, 1], got {self.plausible}.")

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "ContrastiveJudging":
        """Return the judging of empty texts.

        Raises:
            ValueError: The amateur has other tokens, or there are not as many prompts as rows.
        """
        return ContrastiveJudging(self, opened(self.amateur, target, rows, self.prompts))


@dataclass(frozen=True)
class ContrastiveJudging:
    """Texts that an amateur reads as well."""

    policy: Contrastive
    amateur: Second

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        del scores
        self.amateur.begin(text)

    def law(self, tree: Tree, scores: Scores) -> Tempered:
        """Return the law at each node."""
        said = self.amateur.score(tree).logits
        assert scores.logits is not None
        assert said is not None
        return Tempered(self.policy.plain, contrasted(self.policy, scores.logits, said))

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written."""
        self.amateur.commit(path)

    def keep(self, rows: Int[Tensor, " R"]) -> "ContrastiveJudging":
        """Return the judging of some rows; this one is used up."""
        return ContrastiveJudging(self.policy, self.amateur.keep(rows))


def contrasted(
    policy: Contrastive, strong: Float[Tensor, "B N V"], weak: Float[Tensor, "B N V"]
) -> Float[Tensor, "B N V"]:
    """Return the contrast of two networks' logits, -inf where a token is implausible."""
    strong, weak = strong.log_softmax(-1), weak.log_softmax(-1)
    score = policy.strong * strong - policy.weak * weak.clamp(min=_IMPOSSIBLE)
    kept = strong > -torch.inf
    if policy.plausible > 0:
        kept = strong >= strong.amax(-1, keepdim=True) + math.log(policy.plausible)
    return score.where(kept, -torch.inf)
