"""Self-distillation through time for masked models: one student step for several teacher steps.

The teacher walks from t to t - gap in a few ancestral steps; the student learns to say at t what
the teacher said of each token when it wrote it (Deschenaux & Gulcehre, 2024, arXiv:2410.21035).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unison.distil.teaching import Lesson, divergence
from unison.objectives.batch import SITE_CORRUPT, Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import LogProbs, Network, Time, Tokens

_SITE_WALK = 16  # two sites per teacher step follow


@dataclass(frozen=True)
class SelfDistillation:
    """SDTT: KL between the student at t and the teacher's beliefs along its walk to t - gap.

    Tokens still masked at the end of the walk are taught the teacher's last belief. Only
    positions masked at t count in the sum; all positions count in the mean.

    Attributes:
        teacher_steps: Ancestral steps of the teacher across the gap.
        direction: ``teacher`` minimises KL(teacher || student), ``student`` the other one.
    """

    process: ClassVar[str] = "absorbing"
    teacher_steps: int = 2
    direction: Literal["student", "teacher"] = "teacher"

    def __post_init__(self) -> None:
        if self.teacher_steps < 1:
            raise ValueError(f"teacher_steps must be at least 1, got {self.teacher_steps}.")

    def losses(
        self, process: Absorbing, lesson: Lesson, batch: Batch, key: Key
    ) -> Float[Tensor, "B L"]:
        """Return the divergence of every position, 0 where nothing was masked."""
        t = (batch.strata.double() + lesson.gap).clamp(max=1)
        u = rng.uniform(key, SITE_CORRUPT, batch.tokens.shape[1])
        xt = process.corrupt(batch.tokens, process.schedule.alpha(t), u)
        with torch.no_grad():
            log_teacher = self._walk(process, lesson, (xt, batch), t, key)
        log_student = _belief(process, lesson.student, (xt, batch), t)
        pair = (log_student, log_teacher)
        loss = divergence(*pair) if self.direction == "student" else divergence(*pair[::-1])
        return loss.where(xt == process.mask_id, 0.0)

    def _walk(
        self,
        process: Absorbing,
        lesson: Lesson,
        text: tuple[Tokens, Batch],
        t: Time,
        key: Key,
    ) -> LogProbs:
        """Return what the teacher believed of each token when it wrote it, or at the end."""
        x, batch = text
        stride = lesson.gap / self.teacher_steps
        target = None
        for number in range(self.teacher_steps):
            before = t - number * stride
            log_x0 = _belief(process, lesson.teacher, (x, batch), before)
            open_ = (x == process.mask_id)[..., None]
            target = log_x0 if target is None else torch.where(open_, log_x0, target)
            alphas = tuple(process.schedule.alpha(time) for time in (before - stride, before))
            jump, token = (
                rng.uniform(key, _SITE_WALK + 2 * number + i, x.shape[1]) for i in (0, 1)
            )
            x = process.sample_posterior(x, log_x0, (alphas[0], alphas[1]), jump, token)
        assert target is not None  # teacher_steps >= 1
        return target


def _belief(process: Absorbing, network: Network, text: tuple[Tokens, Batch], t: Time) -> LogProbs:
    x, batch = text
    sigma = -process.schedule.alpha(t).log().float()
    return process.log_x0(network(x, sigma, batch.valid), x)
