"""Which drafts are right, if not what the target would have said? A head that learns it."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.drafters.kind import Lesson, watched
from unison.models.transformer import Transformer
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation.parts import Drafter
from unison.speculation.verifiers.judge import Judge
from unison.types import Nats

SITE_STARTS, SITE_STRANGE = 98, 99


class Planted(NamedTuple):
    """Texts with wrong spans.

    Attributes:
        inputs: The texts; begin tokens and most others as they were.
        wrong: Which tokens are not what stood there.
    """

    inputs: Int[Tensor, "B L"]
    wrong: Bool[Tensor, "B L"]


@dataclass(frozen=True)
class JudgeHead:
    """The head of a ``Judge`` (Bachmann et al., 2025, arXiv:2501.19309): width + 1 numbers.

    It reads what the target's output layer reads after a token and says whether the token is
    right; the target stays as it is. Loss: cross-entropy in which right and wrong tokens count
    the same in all.

    Differs: the paper's wrong spans are marked by hand in answers of models; here they are planted
    in real text, as tokens of other places, so that no labels are needed. The head learns to spot
    what does not fit, not what is untrue.

    Attributes:
        share: Of the tokens that lie in wrong spans, about.
        span: Tokens of a wrong span.
    """

    name: ClassVar[str] = "judge"
    share: float = 0.2
    span: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"judge.share must be in (0, 1), got {self.share}.")
        if self.span < 1:
            raise ValueError(f"judge.span must be at least 1, got {self.span}.")

    def module(self, network: Transformer) -> nn.Linear:
        """Return a head that is undecided, and so finds nothing right."""
        head = nn.Linear(network.config.hidden, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """Return the loss of the judgements; hits are those that are right, of wrong tokens too."""
        planted = self.planted(inputs, key)
        hidden = watched(network, planted.inputs).hidden[:, 1:]
        wrong = planted.wrong[:, 1:]
        weight = next(module.parameters())
        logit = module(hidden.to(weight.dtype))[..., 0].float()
        loss = F.binary_cross_entropy_with_logits(
            logit, (~wrong).float(), weight=_balance(wrong), reduction="sum"
        )
        count = torch.tensor(wrong.numel(), device=wrong.device)
        hits = ((logit > 0) != wrong).sum().float()[None]
        return Lesson(Nats(loss, count), hits, count.float()[None])

    def planted(self, inputs: Int[Tensor, "B L"], key: Key) -> Planted:
        """Return the texts with spans of tokens replaced by tokens from elsewhere in the batch.

        So that a token is not known to be wrong by being rare.
        """
        length = inputs.shape[1]
        starts = rng.uniform(key, SITE_STARTS, length) < self.share / self.span
        within = starts
        for _ in range(self.span - 1):
            within = starts | F.pad(within[:, :-1], (1, 0))
        within = within & (torch.arange(length, device=inputs.device) > 0)
        pool = inputs[:, 1:].flatten()
        chosen = (rng.uniform(key, SITE_STRANGE, length) * len(pool)).long()
        changed = torch.where(within, pool[chosen], inputs) if len(pool) else inputs
        return Planted(changed, changed != inputs)

    def verifier(self, module: nn.Linear, threshold: float = 0.5) -> Judge:
        """Return the verifier with a trained head."""
        return Judge(module, threshold)

    def drafter(self, module: nn.Module, network: Transformer) -> Drafter:
        """Refuse: a head judges what others draft.

        Raises:
            ValueError: Always.
        """
        del module, network
        raise ValueError(
            "a judge guesses nothing, it verifies what others guess; use any drafter and "
            "JudgeHead().verifier(head) as the verifier."
        )


def _balance(wrong: Bool[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Return weights with a mean of 1 under which right and wrong tokens count the same in all."""
    share = wrong.float().mean().clamp(1 / wrong.numel(), 1 - 1 / wrong.numel())
    return torch.where(wrong, 0.5 / share, 0.5 / (1 - share))
