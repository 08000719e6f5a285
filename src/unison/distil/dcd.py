"""Discrete consistency distillation: the student at t learns what the teacher says at t - gap.

Both read the same deterministic trajectory argmax(a_t x + s_t e): x and e fixed, only the
noise level moves (Sahoo et al., 2025, arXiv:2506.10892, section 4.2 and Algorithm 1).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.special import ndtri

from unison.distil.teaching import Lesson, divergence
from unison.objectives.batch import SITE_CORRUPT, SITE_OTHERS, SITE_TRUE, Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform
from unison.process.duality import Duality
from unison.types import Logits, LogProbs, Network, Time, Tokens


class Trajectory(NamedTuple):
    """The shared noise of one text: all that argmax(a x + s e) depends on at any level.

    Attributes:
        clean: x, the token at low noise.
        other: The token of the largest noise coordinate but x's own: the one at high noise.
        margin: That coordinate minus x's own noise; x wins while a / s exceeds it.
    """

    clean: Tokens
    other: Tokens
    margin: Float[Tensor, "B L"]

    def at(self, signal: tuple[Time, Time]) -> Tokens:
        """Return the tokens at signal and noise scales (a, s), float64 per row."""
        a, s = signal
        return torch.where((a / s)[:, None] > self.margin, self.clean, self.other)


def trajectory(x0: Tokens, vocab_size: int, key: Key) -> Trajectory:
    """Draw the shared noise: three uniforms a position instead of one normal a vocabulary entry.

    The largest of K - 1 standard normals is the quantile of u^(1/(K-1)) and sits on a uniform
    wrong token, independently of x's own coordinate.
    """
    length = x0.shape[1]
    log_u = rng.uniform(key, SITE_CORRUPT, length).log() / (vocab_size - 1)
    largest = -ndtri(-torch.expm1(log_u))
    pick = (rng.uniform(key, SITE_OTHERS, length) * (vocab_size - 1)).long()
    pick = pick.clamp(max=vocab_size - 2)
    other = pick + (pick >= x0)
    return Trajectory(x0, other, largest - rng.normal(key, SITE_TRUE, length))


@dataclass(frozen=True)
class ConsistencyDistillation:
    """DCD for uniform-state models: KL between student at t and teacher at s = t - gap.

    Differs: with ``compare="posterior"`` what is compared is p(x_0 | x_t), the belief weighed by
    the evidence of the position's own token. A network's belief leaves that evidence out, because
    the posterior adds it; a student that matches beliefs along the trajectory learns to count it
    too, it is then counted twice, and noise stays. ``compare="belief"`` is the published loss.
    The window of noise levels is solved for the vocabulary (the published
    gamma in [-4, -1] is for 30 522 tokens, and there nearly the same); the teacher runs without
    dropout.

    Attributes:
        compare: What the divergence is between.
        direction: ``student`` minimises KL(student || teacher), as published; ``teacher`` the
            other one.
        alpha_max: Survival at t=0.
        alpha_min: Survival at t=1.
    """

    process: ClassVar[str] = "uniform"
    compare: Literal["posterior", "belief"] = "posterior"
    direction: Literal["student", "teacher"] = "student"
    alpha_max: float = 0.995
    alpha_min: float = 0.001

    def losses(
        self, process: Uniform, lesson: Lesson, batch: Batch, key: Key
    ) -> Float[Tensor, "B L"]:
        """Return the divergence of every position."""
        duality = Duality(process.vocab_size, self.alpha_max, self.alpha_min)
        t = (batch.strata.double() + lesson.gap).clamp(max=1)
        path = trajectory(batch.tokens, process.vocab_size, key)

        def belief(network: Network, time: Time) -> LogProbs:
            tokens, alpha = path.at(duality.signal(time)), duality.alpha(time)[0]
            logits = network(tokens, -alpha.log().float(), batch.valid)
            if self.compare == "posterior":
                logits = _with_evidence(logits, tokens, alpha)
            return process.log_x0(logits, tokens)

        log_student = belief(lesson.student, t)
        with torch.no_grad():
            log_teacher = belief(lesson.teacher, t - lesson.gap)
        if self.direction == "student":
            return divergence(log_student, log_teacher)
        return divergence(log_teacher, log_student)


def _with_evidence(logits: Logits, xt: Tokens, alpha: Time) -> Logits:
    """Weigh a belief by K alpha 1[x_t] + 1 - alpha, the likelihood of the token that is there."""
    evidence = torch.log1p(logits.shape[-1] * alpha / (1 - alpha)).to(logits.dtype)
    return logits.scatter_add(-1, xt[..., None], evidence[:, None, None].expand(*xt.shape, 1))
