"""How far are two networks' beliefs apart on the same noisy text?"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unison.compress.levels import Levels, noisy
from unison.objectives import bound_of
from unison.process import Process
from unison.types import Tokens


class Both:
    """A network as losses see it, whose every call another one hears too.

    Args:
        student: Answers.
        teacher: Is compared with; no gradient reaches it.
    """

    def __init__(self, student: Any, teacher: Any) -> None:
        self._student, self._teacher = student, teacher
        self._answers: list[tuple[Tensor, Tensor]] = []

    @property
    def config(self) -> Any:
        """The student's."""
        return self._student.config

    def __call__(self, *said: Any) -> Tensor:
        """Return the student's logits."""
        with torch.no_grad():
            taught = self._teacher(*said)
        answer = self._student(*said)
        self._answers.append((taught, answer))
        return answer

    def distance(self) -> Float[Tensor, "B L"]:
        """Return KL(teacher || student) in nats at every position of the last call."""
        log_p, log_q = (one.float().log_softmax(-1) for one in self._answers[-1])
        return (log_p.exp() * (log_p - log_q)).sum(-1)


@torch.no_grad()
def divergences(
    levels: Levels, process: Process, networks: tuple[Any, Any], text: Tokens
) -> Float[Tensor, " T"]:
    """Return KL(first || second) of two networks' beliefs at each level, nats per position.

    The mean is over the positions that the bound looks at. Unlike a difference of bounds it is 0
    for equal beliefs alone, and it shows small changes in little text.
    """
    bound = bound_of(process, networks[1])
    sums: dict[int, Tensor] = {}
    for one in noisy(levels, process, text):
        both = Both(networks[1], networks[0])
        looked_at = bound.losses(process, both, one.batch, one.key) != 0
        distance = both.distance().double().where(looked_at, 0.0).sum()
        both_sums = torch.stack([distance, looked_at.sum()])
        sums[one.level] = sums.get(one.level, torch.zeros_like(both_sums)) + both_sums
    return torch.stack([sums[level][0] / sums[level][1] for level in sorted(sums)]).cpu()
