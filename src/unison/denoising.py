"""How do a network's logits become the belief that decoding reads, row by row?"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unison.models import Network, View
from unison.process import Process, Sequential
from unison.types import Belief, Focus, Mask, Time, Tokens

ROWS_ON_GPU = 16  # per forward; one row fills a CPU


@dataclass(frozen=True)
class RowDenoiser:
    """The belief p(x_0 | x_t) of a network about rows that never see each other.

    The network always runs on the same number of rows, the last group filled up with copies:
    matrix kernels round differently for different shapes, and a row must not see its batch. On a
    CPU that is one row of exactly its own length. A self-conditioned network that is given no
    earlier belief is called twice: the second call reads the first's answer.

    Attributes:
        network: Noisy tokens and noise level in, logits out.
        process: What the network was trained to undo.
        valid: False at padding, which then influences nothing; ``None`` if there is none.
    """

    network: Network
    process: Process
    valid: Mask | None = None

    def keep(self, rows: Tensor) -> "RowDenoiser":
        """Return the denoiser of some of the rows, by number."""
        return replace(self, valid=None if self.valid is None else self.valid[rows])

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return the belief everywhere, or what the network itself says at ``focus``."""
        view = None if focus is None else View(read=focus.positions, block=focus.block)
        answers = [self._group(rows, xt, t, view, earlier) for rows in _groups(len(xt), xt.device)]
        return torch.cat(answers)[: len(xt)]

    def _group(
        self, rows: Tensor, xt: Tokens, t: Time, view: View | None, earlier: Tensor | None
    ) -> Tensor:
        valid = None if self.valid is None else self.valid[rows]
        length, valid = _trimmed(xt.shape[1], valid)
        answer = evaluate(
            self.network,
            self.process,
            (xt[rows, :length], t[rows]),
            valid,
            None if view is None else view_of(view, rows),
            None if earlier is None else earlier[rows],
        )
        return answer if view is not None else F.pad(answer, (0, 0, 0, xt.shape[1] - length))


def view_of(view: View, rows: Tensor) -> View:
    """Return the view of some of the rows; it must not hold a memory."""
    return View(*(None if part is None else part[rows] for part in view))  # pyright: ignore


def _trimmed(length: int, valid: Mask | None) -> tuple[int, Mask | None]:
    """Return how much of a group to compute, and what of it is padding.

    On a CPU a group is one row, and its padding is left away; on a GPU cutting to the longest row
    would have to wait for the device.
    """
    if valid is None or valid.is_cuda:
        return length, valid
    return int(valid.sum()), None


def _groups(rows: int, device: torch.device) -> tuple[Tensor, ...]:
    """Return row numbers in groups of exactly the same size, the last filled up with row 0."""
    size = 1 if device.type == "cpu" else ROWS_ON_GPU
    numbers = torch.arange(rows, device=device)
    return torch.cat([numbers, numbers.new_zeros(-rows % size)]).split(size)


@torch.no_grad()
def evaluate(
    network: Network,
    process: Process,
    noisy: tuple[Tokens, Time],
    valid: Mask | None = None,
    view: View | None = None,
    earlier: Belief | None = None,
) -> Belief:
    """Return one evaluation of exactly these rows.

    Args:
        network: Answers.
        process: What it undoes.
        noisy: x_t and its time.
        valid: False at padding.
        view: What is computed and read; without ``read`` the answer is p(x_0 | x_t) of the whole
            canvas, with it what the network itself says at those positions.
        earlier: An earlier belief at the positions read.
    """
    xt, t = noisy
    if isinstance(process, Sequential):
        inputs, sigma = process.shifted(xt), t.float()
    else:
        inputs, sigma = xt, -process.schedule.alpha(t.double()).log().float()
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        logits = _logits(network, inputs, sigma, valid, view, earlier)
    if view is None or view.read is None:
        return process.log_x0(logits, xt)
    return process.belief(logits)


def _logits(  # what a network takes
    network: Network,
    inputs: Tokens,
    sigma: Time,
    valid: Mask | None,
    view: View | None,
    earlier: Belief | None,
) -> Tensor:
    if not network.config.self_conditioning:
        return network(inputs, sigma, valid, None, view)
    if earlier is not None:
        known = None if view is None else view._replace(known=view.read)
        return network(inputs, sigma, valid, earlier.exp(), known)
    first = network(inputs, sigma, valid, None, None if view is None else view._replace(read=None))
    return network(inputs, sigma, valid, first.float().softmax(-1), view)
