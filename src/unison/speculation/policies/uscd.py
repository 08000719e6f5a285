"""What does the prompt's help change? Probabilities minus those of a lame prompt, where unsure."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation.parts import Scores, Target, Text
from unison.speculation.policies.plain import Plain, Tempered
from unison.speculation.second import Prompt, Second, opened
from unison.speculation.tree import Tree


@dataclass(frozen=True)
class Uscd:
    r"""Uncertainty-aware selective contrastive decoding for code (Wang et al., 2024, 2409.05923).

    The same network reads the text behind the prompt and behind a lame one, the task without its
    examples. With P and N what it answers, of V tokens,

        P                                        where std(P) > sure: it knows what comes
        max(strong P - weak N, 0)                elsewhere, of tokens with P >= least / V

    normalised, tempered and truncated; std is over the vocabulary, unbiased. The mix is of
    probabilities, not of logits.

    Differs: where nothing is left of the difference the law is P; the published code has then no
    number to draw by.

    Each round costs a second evaluation of the target, and its memory.

    Attributes:
        lame: The lame prompts: one for all rows, or one for each.
        sure: Standard deviation above which nothing is contrasted; 0 for the model's own law.
        least: Least probability of a token where something is, in units of the mean, 1 / V.
        strong: Weight of P.
        weak: Weight of N.
        plain: Temperature and truncation of the result.
    """

    lame: tuple[Prompt, ...]
    sure: float
    least: float = 1.0
    strong: float = 1.0
    weak: float = 0.7
    plain: Plain = field(default_factory=Plain)

    def __post_init__(self) -> None:
        if not 0 <= self.sure < math.inf or not 0 <= self.least < math.inf:
            raise ValueError(
                f"sure and least must be at least 0, got {self.sure} and {self.least}."
            )
        if not 0 < self.strong < math.inf or not 0 <= self.weak < math.inf:
            raise ValueError(
                f"strong must be above 0 and weak at least 0, got {self.strong} and {self.weak}."
            )

    @property
    def taps(self) -> tuple[int, ...]:
        """No streams."""
        return ()

    def open(self, target: Target, rows: int) -> "UscdJudging":
        """Return the judging of empty texts.

        Raises:
            ValueError: There are not as many lame prompts as rows.
        """
        return UscdJudging(self, opened(target, target, rows, self.lame))


@dataclass(frozen=True)
class UscdJudging:
    """Texts that are read behind a lame prompt as well."""

    policy: Uscd
    lame: Second

    def begin(self, text: Text, scores: Scores) -> None:
        """Hear the prompt."""
        del scores
        self.lame.begin(text)

    def law(self, tree: Tree, scores: Scores) -> Tempered:
        """Return the law at each node."""
        said = self.lame.score(tree).logits
        assert scores.logits is not None
        assert said is not None
        return Tempered(self.policy.plain, mixed(self.policy, scores.logits, said))

    def commit(self, path: Int[Tensor, "B D"]) -> None:
        """Hear what is written."""
        self.lame.commit(path)

    def keep(self, rows: Int[Tensor, " R"]) -> "UscdJudging":
        """Return the judging of some rows; this one is used up."""
        return UscdJudging(self.policy, self.lame.keep(rows))


def mixed(
    policy: Uscd, standard: Float[Tensor, "B N V"], lame: Float[Tensor, "B N V"]
) -> Float[Tensor, "B N V"]:
    """Return log-weights of the law, from what is said behind either prompt."""
    known, unhelped = standard.softmax(-1), lame.softmax(-1)
    sure = known.std(-1, keepdim=True) > policy.sure
    likely = known >= policy.least / known.shape[-1]
    left = (policy.strong * known - policy.weak * unhelped).where(likely, 0.0).clamp(min=0)
    own = sure | ~(left > 0).any(-1, keepdim=True)
    return torch.where(own, standard.log_softmax(-1), left.log())
